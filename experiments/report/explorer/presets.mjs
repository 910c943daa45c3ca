// Things to see, in the order of the notebook "Adam explained"; numbers in braces are measured.
//
// {left METHOD} is the distance from the lowest point at the end, {height METHOD} the cost there,
// {step METHOD T} the length of step T over alpha, {way METHOD 1} how far the first weight came, and
// {ratio METHOD 1} the mean signal-to-noise ratio of the first weight.

import { SURFACES } from "./surfaces.mjs";
import { initial } from "./state.mjs";
import { distance } from "./walk.mjs";

export const NOTEBOOK = "00_adam_explained";

/** What each shows: its choices, the section of the notebook that it belongs to, and words. */
export const PRESETS = {
  momentum: {
    title: "Momentum in a ravine",
    section: "Momentum-in-a-ravine",
    state: { ...initial("ravine", { sgd: 0.0195, momentum: 0.05 }) },
    text:
      "SGD zigzags between the walls and creeps along the floor; momentum averages the zigzag out. " +
      "After 60 steps SGD has {left sgd} to go, momentum {left momentum}. Raise SGD's α above 0.02, " +
      "and it leaves the ravine.",
  },
  noise: {
    title: "Momentum on a noisy slope",
    section: "Momentum-on-a-noisy-slope",
    state: { ...initial("slope", { sgd: 0.1, momentum: 0.1 }), steps: 150, t: 150, weight: 1 },
    text:
      "The gradient of θ₂ is noisy. In the plot of m̂, momentum is the calm line near the true slope: " +
      "an average of the last ten gradients. Raise β₁, and it gets calmer still.",
  },
  rare: {
    title: "Adaptive scaling for rare gradients",
    section: "Adaptive-scaling-for-rare-gradients",
    state: { ...initial("rare", { sgd: 0.01, rmsprop: 0.01 }), steps: 3000, t: 3000 },
    text:
      "θ₂ sees its gradient at every 10th step. SGD moves it {share sgd} of the way of θ₁; " +
      "RMSProp, which divides each weight by the size of its own gradients, {share rmsprop}.",
  },
  both: {
    title: "Both together",
    section: "Both-together",
    state: {
      ...initial("skewed", { sgd: 10 ** -3.9, momentum: 10 ** -2.8, rmsprop: 0.01, uncorrected: 10 ** -0.9 }),
      steps: 100, t: 100,
    },
    text:
      "Turned, and with mixed units; each method has its best step size. After 100 steps the height " +
      "left is {height sgd} for SGD, {height momentum} for momentum, {height rmsprop} for RMSProp, " +
      "and {height uncorrected} for momentum and scaling together.",
  },
  cold: {
    title: "The cold start",
    section: "The-cold-start",
    state: {
      ...initial("slope", { adam: 0.01, uncorrected: 0.01 }), noise: 0, steps: 50, t: 50,
    },
    text:
      "Without bias correction the first step is not too short but too long: {step uncorrected 1} α, " +
      "and {step uncorrected 12} α at step 12. With it every step is {step adam 1} α long.",
  },
  signal: {
    title: "Signal and noise",
    section: "Signal-and-noise",
    state: { ...initial("slope", { adam: 0.01 }), steps: 1000, t: 1000, weight: 1 },
    text:
      "θ₁ is steady, θ₂ is noisy. Adam goes where it is clear: it takes θ₁ {way adam 1} far and θ₂ " +
      "{way adam 2}. The mean signal-to-noise ratio of θ₂ is {ratio adam 2}.",
  },
  bowl: {
    title: "Steps shrink where only noise is left",
    section: "Where-the-metaphors-break",
    state: { ...initial("bowl", { adam: 0.05 }), steps: 500, t: 500 },
    text:
      "At first the slope is clear and every step is about α long: {step adam 2} α at step 2. Near the " +
      "lowest point only noise is left, and the steps shrink with the signal-to-noise ratio.",
  },
  turned: {
    title: "A ravine that is turned",
    section: "Where-the-metaphors-break",
    state: initial("turned", { adam: 0.1, momentum: 0.05 }),
    text:
      "Adam has a scale for each weight and knows nothing of how weights belong together. Along the " +
      "axes it has 0.04 to go after 60 steps, here {left adam}. Momentum does not notice the turn: " +
      "{left momentum}.",
  },
  knobs: {
    title: "Turn the knobs",
    section: "Turn-the-knobs",
    state: initial("ravine", { adam: 0.1 }),
    text:
      "The base: {left adam} to go. A long memory (β₁ = 0.99) overshoots, a short memory of squares " +
      "(β₂ = 0.5) never settles, and an ε as large as the gradients (100) undoes the scaling.",
  },
  saddle: {
    title: "Away from a saddle",
    state: { ...initial("saddle", { sgd: 0.1, momentum: 0.1, adam: 0.1 }), weight: 1 },
    text:
      "On the ridge θ₂ has hardly a slope. SGD and momentum wait there; Adam makes the small gradient " +
      "large: after 60 steps it has {left adam} to go, momentum {left momentum}, SGD {left sgd}.",
  },
  reddi: {
    title: "Where Adam fails, and AMSGrad does not",
    page: "06_theory",
    state: {
      ...initial("reddi", { adam: 0.01, amsgrad: 0.01, sgd: 0.01 }),
      beta_1: 0, beta_2: 0.1, steps: 1000, t: 1000,
    },
    text:
      "θ₁ should go to −1, as θ₂ does. Adam forgets the rare large gradient too soon and takes θ₁ to " +
      "{place adam 1}, where 1 is the worst point of all; AMSGrad remembers it and comes to " +
      "{place amsgrad 1}. " +
      "With β₂ = 0.99 Adam gets it right.",
  },
  digits: {
    title: "A small logistic regression",
    page: "01_fig1_logistic_regression",
    state: {
      ...initial("digits", { sgd: 1, adagrad: 0.3, adam: 0.1, adamax: 0.1 }), steps: 300, t: 300,
    },
    text:
      "Real handwritten digits, 8 at a step: the noise is that of minibatches. After 300 steps the " +
      "cost is {height sgd} for SGD, {height adagrad} for AdaGrad, {height adam} for Adam and " +
      "{height adamax} for AdaMax.",
  },
};

/** Two digits, or as many as a whole number has. */
function plain(number) {
  if (Math.abs(number) >= 10) return number.toFixed(0);
  return Math.abs(number) >= 0.995 ? number.toFixed(2) : String(Number(number.toPrecision(2)));
}

/** A preset's words, its numbers measured on the walks of its choices. */
export function words(preset, walks) {
  const { surface, steps } = preset.state;
  const by = Object.fromEntries(walks.map((each) => [each.method, each]));
  const mean = (values) => values.slice(1).reduce((a, b) => a + b, 0) / (values.length - 1);
  const measures = {
    left: (found) => plain(distance(surface, found, steps)),
    height: (found) => plain(found.cost[steps]),
    step: (found, t) => plain(found.length[preset.state.weight][Number(t)]),
    way: (found, i) => plain([found.x, found.y][i - 1][steps] - SURFACES[surface].start[i - 1]),
    place: (found, i) => plain([found.x, found.y][i - 1][steps]).replace("-", "−"),
    ratio: (found, i) => plain(Math.abs(mean(found.ratio[i - 1]))),
    share: (found) => `${(100 * found.y[steps] / found.x[steps]).toFixed(0)}%`,
  };
  return preset.text.replace(/\{(\w+) (\w+) ?(\d*)\}/g, (_, what, method, argument) =>
    measures[what](by[method], argument));
}
