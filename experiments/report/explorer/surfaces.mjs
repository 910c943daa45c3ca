// Where the methods walk: functions of two weights, their exact gradients, and how these are seen.

import { DIGITS } from "./digits.mjs";

/** A whole number of 32 bits, well mixed. */
function mixed(x) {
  x = Math.imul(x ^ (x >>> 16), 0x7feb352d);
  x = Math.imul(x ^ (x >>> 15), 0x846ca68b);
  return (x ^ (x >>> 16)) >>> 0;
}

/** A number between 0 and 1, a function of the seed, the step and the place alone. */
export function uniform(seed, t, i) {
  const counted = mixed(mixed(mixed(seed + 0x9e3779b9) + t) + i);
  return (counted + 0.5) / 2 ** 32;
}

/** A standard normal number (Box and Muller); every method sees the same one at the same step. */
export function normal(seed, t, i) {
  const radius = Math.sqrt(-2 * Math.log(uniform(seed, t, 2 * i)));
  return radius * Math.cos(2 * Math.PI * uniform(seed, t, 2 * i + 1));
}

/** Half of x' A x, with A the ravine's axes turned and its second weight in another unit. */
function quadratic(stretch, degrees = 0, unit = 1) {
  const [c, s] = [Math.cos((degrees * Math.PI) / 180), Math.sin((degrees * Math.PI) / 180)];
  const a = c * c + stretch * s * s;
  const b = unit * (1 - stretch) * c * s;
  const d = unit * unit * (s * s + stretch * c * c);
  return {
    value: (x, y) => 0.5 * (a * x * x + 2 * b * x * y + d * y * y),
    slope: (x, y) => [a * x + b * y, b * x + d * y],
    start: [-4 * c - 2 * s, (-4 * s + 2 * c) / unit],
    lowest: [0, 0],
  };
}

/** The mean logistic cost of telling two digits apart by two numbers, with a small L2 term. */
function logistic(examples, decay) {
  const cost = (z) => Math.max(z, 0) + Math.log1p(Math.exp(-Math.abs(z)));
  function over(chosen, x, y) {
    let [gx, gy] = [decay * x, decay * y];
    for (const [p, q, label] of chosen) {
      const share = (1 / (1 + Math.exp(-(p * x + q * y))) - label) / chosen.length;
      gx += share * p;
      gy += share * q;
    }
    return [gx, gy];
  }
  return {
    value: (x, y) =>
      examples.reduce((sum, [p, q, label]) => {
        const z = p * x + q * y;
        return sum + cost(label ? -z : z);
      }, 0) / examples.length + 0.5 * decay * (x * x + y * y),
    slope: (x, y) => over(examples, x, y),
    /** The gradient of a minibatch, drawn anew at each step. */
    batch: (x, y, size, seed, t) =>
      over(Array.from({ length: size }, (_, k) =>
        examples[Math.floor(uniform(seed, t, 100 + k) * examples.length)]), x, y),
  };
}

const DIGIT_COST = logistic(DIGITS.examples, 1e-3);

/**
 * The surfaces by the word that stands for each in the address.
 *
 * value, slope: the function and its gradient, of x and y.
 * seen: the gradient that step t sees, before noise is added, where that differs from the slope.
 * noisy: by weight, whether the noise is added to its gradient.
 * noise: the standard deviation to begin with.
 * start, lowest: where walks begin, and where the function is least, if anywhere.
 * view: left, right, bottom and top of the map. An open surface has no lowest point: its map grows
 * with the walks.
 * box: walks stay inside: left, right, bottom, top.
 */
export const SURFACES = {
  ravine: {
    name: "Ravine",
    about: "100 times as steep across as along.",
    ...quadratic(100),
    view: [-5, 3, -3, 3],
  },
  turned: {
    name: "Turned ravine",
    about: "The same ravine, turned by 45°: no single weight is steep.",
    ...quadratic(100, 45),
    view: [-5.5, 2, -4.2, 1.4],
  },
  skewed: {
    name: "Turned ravine, mixed units",
    about: "Turned by 20°, and the second weight in a unit 10 times as large.",
    ...quadratic(100, 20, 10),
    view: [-5.5, 2, -0.42, 0.14],
  },
  slope: {
    name: "Noisy slope",
    about: "Falls by 1 in both directions; the noise is on θ₂ alone.",
    value: (x, y) => -x - y,
    slope: () => [-1, -1],
    noisy: [0, 1],
    noise: 3,
    start: [0, 0],
    view: [-1, 3, -1, 2],
    open: true,
  },
  rare: {
    name: "Rare gradients",
    about: "Falls by 1 in both directions; θ₂ sees its gradient at every 10th step only.",
    value: (x, y) => -x - y,
    slope: () => [-1, -1],
    seen: (x, y, t) => [-1, t % 10 === 0 ? -1 : 0],
    start: [0, 0],
    view: [-1, 3, -1, 2],
    open: true,
  },
  bowl: {
    name: "Noisy bowl",
    about: "Round, with noise on both weights.",
    ...quadratic(1),
    noise: 1,
    view: [-5, 3, -3, 3],
  },
  saddle: {
    name: "Saddle",
    about: "Down along θ₂, up along θ₁: the start is almost on the ridge, where θ₂ has hardly a slope.",
    value: (x, y) => 0.5 * x * x - 0.5 * y * y + 0.025 * y ** 4,
    slope: (x, y) => [x, -y + 0.1 * y ** 3],
    start: [-3, 0.001],
    lowest: [0, Math.sqrt(10)],
    view: [-4.5, 3.5, -2, 4],
  },
  rosenbrock: {
    name: "Rosenbrock's valley",
    about: "It bends: no turn of the axes straightens it.",
    value: (x, y) => (1 - x) ** 2 + 10 * (y - x * x) ** 2,
    slope: (x, y) => [2 * (x - 1) - 40 * x * (y - x * x), 20 * (y - x * x)],
    start: [-1.5, 2],
    lowest: [1, 1],
    view: [-2.4, 2.4, -1, 2.6],
  },
  reddi: {
    name: "Counter-example of Reddi et al.",
    about:
      "Both weights fall towards −1 with a mean slope of 1/3. θ₂ sees that slope at every step; " +
      "θ₁ sees 3, then −1 twice.",
    value: (x, y) => (x + y + 2) / 3,
    slope: () => [1 / 3, 1 / 3],
    seen: (x, y, t) => [t % 3 === 1 ? 3 : -1, 1 / 3],
    start: [0, 0],
    lowest: [-1, -1],
    view: [-1.4, 1.4, -1.05, 1.05],
    box: [-1, 1, -1, 1],
  },
  digits: {
    name: "Logistic regression on digits",
    about:
      `Tells ${DIGITS.examples.length} real handwritten ${DIGITS.digits[0]}s and ` +
      `${DIGITS.digits[1]}s apart by their first two principal components; ` +
      "each step sees 8 of them.",
    value: DIGIT_COST.value,
    slope: DIGIT_COST.slope,
    seen: (x, y, t, seed) => DIGIT_COST.batch(x, y, 8, seed, t),
    start: [-2, 2],
    lowest: DIGITS.lowest,
    view: DIGITS.view,
    coarse: true,
  },
};
