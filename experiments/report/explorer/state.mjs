// What the reader has chosen, and the address that brings it back.

import { METHODS } from "./rules.mjs";
import { SURFACES } from "./surfaces.mjs";

export const MOST_METHODS = 4;
export const LIMITS = {
  alpha: [1e-4, 10], beta_1: [0, 0.999], beta_2: [0, 0.99999], epsilon: [1e-10, 1e3],
  noise: [0, 10], steps: [10, 3000],
};

/** Methods with their step sizes, in the order of the list, so that colours and rows keep theirs. */
export function inOrder(methods) {
  return Object.fromEntries(
    Object.keys(METHODS).filter((key) => key in methods).map((key) => [key, methods[key]]));
}

/** The choices at the beginning on a surface; the methods may be others. */
export function initial(surface = "ravine", methods = { adam: 0.1, momentum: 0.05 }) {
  return {
    surface,
    methods: inOrder(methods), // the step size of each
    beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8,
    noise: SURFACES[surface].noise ?? 0,
    start: [...SURFACES[surface].start],
    steps: 60,
    t: 60,
    weight: 0, // whose step, moments and ratio are shown
  };
}

/** A number in as few digits as bring it back to six. */
function short(number) {
  return String(Number(number.toPrecision(6)));
}

/** The address's part behind "#". */
export function toHash(state) {
  return "#" + [
    ["surface", state.surface],
    ["methods", Object.entries(state.methods).map(([key, alpha]) => `${key}:${short(alpha)}`).join()],
    ["beta_1", short(state.beta_1)],
    ["beta_2", short(state.beta_2)],
    ["epsilon", short(state.epsilon)],
    ["noise", short(state.noise)],
    ["start", state.start.map(short).join()],
    ["steps", state.steps],
    ["t", state.t],
    ["weight", state.weight + 1],
  ].map(([name, value]) => `${name}=${value}`).join("&");
}

/** The choices of an address; whatever it lacks, or says that makes no sense, is as at first. */
export function fromHash(hash) {
  const given = new URLSearchParams(hash.replace(/^#/, ""));
  const surface = Object.hasOwn(SURFACES, given.get("surface") ?? "") ? given.get("surface") : "ravine";
  const state = initial(surface);
  const number = (name, text, otherwise) => {
    const [low, high] = LIMITS[name];
    const value = text === null || text.trim() === "" ? NaN : Number(text);
    return Number.isFinite(value) ? Math.min(high, Math.max(low, value)) : otherwise;
  };
  const methods = {};
  for (const part of (given.get("methods") ?? "").split(",")) {
    const [key, alpha] = part.split(":");
    if (Object.hasOwn(METHODS, key) && Object.keys(methods).length < MOST_METHODS) {
      methods[key] = number("alpha", alpha ?? null, METHODS[key].alpha);
    }
  }
  if (Object.keys(methods).length) state.methods = inOrder(methods);
  for (const name of ["beta_1", "beta_2", "epsilon", "noise", "steps"]) {
    state[name] = number(name, given.get(name), state[name]);
  }
  state.steps = Math.round(state.steps);
  const start = (given.get("start") ?? "").split(",").map((text) => (text.trim() ? Number(text) : NaN));
  if (start.length === 2 && start.every((value) => Math.abs(value) <= 1e6)) state.start = start;
  const t = Number(given.get("t") ?? NaN);
  state.t = Number.isInteger(t) && t >= 0 ? Math.min(t, state.steps) : state.steps;
  state.weight = given.get("weight") === "2" ? 1 : 0;
  return state;
}
