// What a method does on a surface, written down step by step.

import { METHODS } from "./rules.mjs";
import { SURFACES, normal } from "./surfaces.mjs";

export const SEED = 3;

/** The gradient that step t sees at a place: the same noise at the same step for every method. */
export function gradient(surface, x, y, t, noise, seed = SEED) {
  const g = surface.seen ? surface.seen(x, y, t, seed) : surface.slope(x, y);
  const noisy = surface.noisy ?? [1, 1];
  if (noise > 0) for (const i of [0, 1]) g[i] += noise * noisy[i] * normal(seed, t, i);
  return g;
}

/**
 * Walk from the start.
 *
 * Returns x, y and the cost from the start on (steps + 1 numbers); for each of the two weights the
 * step over alpha, m_hat, v_hat and their signal-to-noise ratio, of step t at index t (NaN at 0);
 * and the number of steps until it left the numbers, if it did.
 */
export function walk(surfaceKey, methodKey, settings, { start, steps, noise, seed = SEED }) {
  const surface = SURFACES[surfaceKey];
  const rule = METHODS[methodKey].make(2, settings);
  const series = () => new Float64Array(steps + 1).fill(NaN);
  const pair = () => [series(), series()];
  const found = {
    method: methodKey, alpha: settings.alpha, x: series(), y: series(), cost: series(),
    length: pair(), m_hat: pair(), v_hat: pair(), ratio: pair(), diverged: 0,
  };
  const theta = Float64Array.from(start);
  found.x[0] = theta[0];
  found.y[0] = theta[1];
  found.cost[0] = surface.value(theta[0], theta[1]);
  for (let t = 1; t <= steps; t++) {
    const before = [theta[0], theta[1]];
    rule.step(theta, gradient(surface, theta[0], theta[1], t, noise, seed), t);
    if (surface.box) {
      const [left, right, bottom, top] = surface.box;
      theta[0] = Math.min(right, Math.max(left, theta[0]));
      theta[1] = Math.min(top, Math.max(bottom, theta[1]));
    }
    const cost = surface.value(theta[0], theta[1]);
    if (!Number.isFinite(cost) || Math.abs(theta[0]) > 1e100 || Math.abs(theta[1]) > 1e100) {
      found.diverged = t;
      break;
    }
    found.x[t] = theta[0];
    found.y[t] = theta[1];
    found.cost[t] = cost;
    for (const i of [0, 1]) {
      const { m_hat, v_hat } = rule.memory;
      found.length[i][t] = Math.abs(theta[i] - before[i]) / settings.alpha;
      found.m_hat[i][t] = m_hat[i];
      found.v_hat[i][t] = v_hat[i];
      found.ratio[i][t] = v_hat[i] > 0 ? m_hat[i] / Math.sqrt(v_hat[i]) : NaN;
    }
  }
  return found;
}

/** How far a walk is from the lowest point after step t. */
export function distance(surfaceKey, found, t) {
  const [x, y] = SURFACES[surfaceKey].lowest ?? [NaN, NaN];
  return Math.hypot(found.x[t] - x, found.y[t] - y);
}
