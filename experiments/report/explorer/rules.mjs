// The methods, coordinate by coordinate in double precision, with nothing but arithmetic.
//
// A rule is made for a number of coordinates and settings. Its `step` gets the place `theta`, which
// it moves, the gradient `g` there and the number `t` of the step, from 1 on. After each step
// `memory` holds what the side plots show: m_hat, v_hat (NaN where a rule has none).

/** The divisor 1 - beta^t that undoes the bias of a moment. */
function correction(beta, t) {
  return beta === 0 ? 1 : -Math.expm1(t * Math.log(beta));
}

function memoryOf(n) {
  return { m_hat: new Float64Array(n).fill(NaN), v_hat: new Float64Array(n).fill(NaN) };
}

/** Stochastic gradient descent. */
function sgd(n, { alpha = 0.01 } = {}) {
  const memory = memoryOf(n);
  function step(theta, g) {
    for (let i = 0; i < n; i++) {
      memory.m_hat[i] = g[i];
      theta[i] -= alpha * g[i];
    }
  }
  return { step, memory };
}

/** A running average of the gradients in the place of the gradient, without correction. */
function momentum(n, { alpha = 0.01, beta_1 = 0.9 } = {}) {
  const memory = memoryOf(n);
  const m = memory.m_hat.fill(0);
  function step(theta, g) {
    for (let i = 0; i < n; i++) {
      m[i] = beta_1 * m[i] + (1 - beta_1) * g[i];
      theta[i] -= alpha * m[i];
    }
  }
  return { step, memory };
}

/** The gradient over the root of a running average of its squares, without correction. */
function rmsprop(n, { alpha = 0.001, beta_2 = 0.999, epsilon = 1e-8 } = {}) {
  const memory = memoryOf(n);
  const v = memory.v_hat.fill(0);
  function step(theta, g) {
    for (let i = 0; i < n; i++) {
      memory.m_hat[i] = g[i];
      v[i] = beta_2 * v[i] + (1 - beta_2) * g[i] * g[i];
      theta[i] -= (alpha * g[i]) / (Math.sqrt(v[i]) + epsilon);
    }
  }
  return { step, memory };
}

/** The gradient over the root of the sum of its squares. */
function adagrad(n, { alpha = 0.01, epsilon = 1e-8 } = {}) {
  const memory = memoryOf(n);
  const v = memory.v_hat.fill(0);
  function step(theta, g) {
    for (let i = 0; i < n; i++) {
      memory.m_hat[i] = g[i];
      v[i] += g[i] * g[i];
      theta[i] -= (alpha * g[i]) / (Math.sqrt(v[i]) + epsilon);
    }
  }
  return { step, memory };
}

/**
 * Algorithm 1 of the paper.
 *
 * `epsilon_form` "hat" is the reordering at the end of its Section 2, `amsgrad` puts the largest
 * v so far in the place of v, and `beta_1_decay` is the lambda of Theorem 4.1.
 */
export function adam(
  n,
  {
    alpha = 0.001, beta_1 = 0.9, beta_2 = 0.999, epsilon = 1e-8, epsilon_form = "algorithm1",
    bias_correction = true, amsgrad = false, beta_1_decay = 1,
  } = {},
) {
  const memory = memoryOf(n);
  const [m, v, v_max] = [new Float64Array(n), new Float64Array(n), new Float64Array(n)];
  const { m_hat, v_hat } = memory;
  function step(theta, g, t) {
    const beta_1_t = beta_1 * beta_1_decay ** (t - 1);
    const first = bias_correction ? correction(beta_1, t) : 1;
    const second = bias_correction ? correction(beta_2, t) : 1;
    const added = epsilon_form === "hat" ? epsilon / Math.sqrt(second) : epsilon;
    for (let i = 0; i < n; i++) {
      m[i] = beta_1_t * m[i] + (1 - beta_1_t) * g[i];
      v[i] = beta_2 * v[i] + (1 - beta_2) * g[i] * g[i];
      v_max[i] = Math.max(v_max[i], v[i]);
      m_hat[i] = m[i] / first;
      v_hat[i] = (amsgrad ? v_max[i] : v[i]) / second;
      theta[i] -= (alpha * m_hat[i]) / (Math.sqrt(v_hat[i]) + added);
    }
  }
  return { step, memory };
}

/** Algorithm 2 of the paper; a coordinate that never had a gradient does not move. */
export function adamax(n, { alpha = 0.002, beta_1 = 0.9, beta_2 = 0.999 } = {}) {
  const memory = memoryOf(n);
  const [m, u] = [new Float64Array(n), new Float64Array(n)];
  const { m_hat, v_hat } = memory;
  function step(theta, g, t) {
    const first = correction(beta_1, t);
    for (let i = 0; i < n; i++) {
      m[i] = beta_1 * m[i] + (1 - beta_1) * g[i];
      u[i] = Math.max(beta_2 * u[i], Math.abs(g[i]));
      m_hat[i] = m[i] / first;
      v_hat[i] = u[i] * u[i];
      if (u[i] > 0) theta[i] -= (alpha * m_hat[i]) / u[i];
    }
  }
  return { step, memory };
}

/** The methods by the word that stands for each in the address: its name and how it is made. */
export const METHODS = {
  sgd: { name: "SGD", make: sgd, alpha: 0.01 },
  momentum: { name: "Momentum", make: momentum, alpha: 0.05 },
  rmsprop: { name: "RMSProp", make: rmsprop, alpha: 0.05 },
  adagrad: { name: "AdaGrad", make: adagrad, alpha: 0.5 },
  adam: { name: "Adam", make: adam, alpha: 0.1 },
  uncorrected: {
    name: "Adam, no correction",
    make: (n, settings) => adam(n, { ...settings, bias_correction: false }),
    alpha: 0.1,
  },
  adamax: { name: "AdaMax", make: adamax, alpha: 0.1 },
  amsgrad: {
    name: "AMSGrad",
    make: (n, settings) => adam(n, { ...settings, amsgrad: true }),
    alpha: 0.1,
  },
};

/** Every place of a rule that is given these gradients, whatever the place. */
export function trajectory(make, start, gradients, settings) {
  const theta = Float64Array.from(start);
  const rule = make(theta.length, settings);
  return gradients.map((g, k) => {
    rule.step(theta, g, k + 1);
    return Array.from(theta);
  });
}
