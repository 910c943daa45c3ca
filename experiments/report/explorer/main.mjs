// The page: controls, time, and what they draw.

import { METHODS, adam, adamax, trajectory } from "./rules.mjs";
import { SURFACES, normal, uniform } from "./surfaces.mjs";
import { distance, gradient, walk } from "./walk.mjs";
import { LIMITS, MOST_METHODS, fromHash, inOrder, initial, toHash } from "./state.mjs";
import { NOTEBOOK, PRESETS, words } from "./presets.mjs";
import { drawMap, drawPlot, label, themeOf, viewOf } from "./draw.mjs";

const $ = (id) => document.getElementById(id);
const DASHES = { uncorrected: [6, 4], amsgrad: [2, 3], adamax: [9, 3, 2, 3] };
const PLOTS = [
  { id: "cost", of: (found) => found.cost, log: true },
  { id: "length", of: (found, i) => found.length[i], zero: true },
  { id: "m_hat", of: (found, i) => found.m_hat[i], zero: true },
  { id: "v_hat", of: (found, i) => found.v_hat[i], log: true },
  { id: "ratio", of: (found, i) => found.ratio[i], zero: true },
];

// A slider's position and the value it stands for.
const logarithm = { toSlider: Math.log10, fromSlider: (s) => Number((10 ** s).toPrecision(3)) };
const memory = {
  toSlider: (beta) => -Math.log10(1 - beta),
  fromSlider: (s) => Number((1 - 10 ** -s).toFixed(5)),
};
const plainly = { toSlider: (value) => value, fromSlider: (s) => s };
const KNOBS = {
  beta_1: memory, beta_2: memory, epsilon: logarithm, noise: plainly,
  steps: { toSlider: Math.log10, fromSlider: (s) => Math.round(10 ** s) },
};

const calm = matchMedia("(prefers-reduced-motion: reduce)");
let state = fromHash(location.hash);
let walks = [];
let version = 0;
let view = SURFACES[state.surface].view;
let scale = null;
let layers = {};
let theme = null;
let playing = 0; // the frame that will come, or 0
let clock = { from: 0, at: 0 };
let waiting = false;

// --- walks and pictures ---------------------------------------------------------------------------

function settingsOf(alpha) {
  const { beta_1, beta_2, epsilon } = state;
  return { alpha, beta_1, beta_2, epsilon };
}

/** Walk anew after any choice but the time. */
function rewalk() {
  walks = Object.entries(state.methods).map(([key, alpha]) =>
    walk(state.surface, key, settingsOf(alpha), state));
  version += 1;
  view = viewOf(state.surface, walks);
  state.t = Math.min(state.t, state.steps);
  $("time").max = state.steps;
  later();
}

/** Draw once, at the next frame, however often this is asked for. */
function later() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    draw();
  });
}

function looks() {
  return Object.fromEntries(Object.keys(METHODS).map((key) =>
    [key, { colour: theme.colour(`method-${key}`), dash: DASHES[key] ?? [] }]));
}

function draw() {
  theme ??= themeOf($("explorer"));
  const look = looks();
  scale = drawMap($("map"), { ...state, walks, theme, view, looks: look });
  const { lowest, value } = SURFACES[state.surface];
  const floor = lowest ? value(...lowest) : 0;
  for (const plot of PLOTS) {
    // Above the lowest point the cost is a logarithm; on an open slope it is what it is.
    const lifted = plot.id === "cost" && lowest;
    const series = walks.map((found) => {
      const values = plot.of(found, state.weight);
      return { values: lifted ? values.map((y) => y - floor) : values, colour: look[found.method].colour, dash: look[found.method].dash };
    });
    layers[plot.id] = drawPlot($(`plot-${plot.id}`), {
      series, steps: state.steps, t: state.t, theme,
      log: plot.log && (plot.id !== "cost" || Boolean(lowest)),
      zero: plot.zero, key: `${version}/${state.weight}`,
    });
  }
  const handle = $("start");
  handle.style.left = `${scale.toX(state.start[0])}px`;
  handle.style.top = `${scale.toY(state.start[1])}px`;
  $("time").value = state.t;
  $("time").setAttribute("aria-valuetext", `step ${state.t} of ${state.steps}`);
  $("now").textContent = `step ${state.t} of ${state.steps}`;
  numbers();
}

function numbers() {
  const rows = [...$("numbers").tBodies[0].rows];
  walks.forEach((found, k) => {
    const t = found.diverged ? Math.min(state.t, found.diverged - 1) : state.t;
    const gone = found.diverged && state.t >= found.diverged;
    const cells = [
      label(found.x[t]), label(found.y[t]), label(found.cost[t]),
      SURFACES[state.surface].lowest ? label(distance(state.surface, found, t)) : "–",
      t ? label(found.length[state.weight][t]) : "–",
    ];
    cells.forEach((text, i) => {
      rows[k].cells[i + 1].textContent = gone ? (i ? "" : `flew away at step ${found.diverged}`) : text;
    });
    rows[k].cells[1].colSpan = gone ? 5 : 1;
    [2, 3, 4, 5].forEach((i) => (rows[k].cells[i].hidden = Boolean(gone)));
  });
}

// --- time -----------------------------------------------------------------------------------------

function setTime(t) {
  state.t = Math.max(0, Math.min(state.steps, t));
  later();
}

function stop() {
  cancelAnimationFrame(playing);
  playing = 0;
  $("play").textContent = "▶ Play";
  remember();
}

function play() {
  if (playing) return stop();
  if (state.t >= state.steps) state.t = 0;
  if (calm.matches) { // who asked for no motion sees the end at once
    setTime(state.steps);
    return remember();
  }
  $("play").textContent = "❚❚ Pause";
  clock = { from: state.t, at: performance.now() };
  const pace = Math.max(12, state.steps / 8); // steps a second: the whole takes eight seconds or less
  const tick = (now) => {
    const t = clock.from + Math.floor(((now - clock.at) / 1000) * pace);
    state.t = Math.max(0, Math.min(state.steps, t));
    draw();
    if (state.t >= state.steps) return stop();
    playing = requestAnimationFrame(tick);
  };
  playing = requestAnimationFrame(tick);
}

// --- the address ----------------------------------------------------------------------------------

let due = 0;

/** Put the choices into the address, a moment after the last of them. */
function remember() {
  clearTimeout(due);
  due = setTimeout(() => {
    const hash = toHash(state);
    try {
      history.replaceState(null, "", hash);
    } catch {
      location.hash = hash;
    }
  }, 150);
}

// --- controls -------------------------------------------------------------------------------------

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    name in made && name !== "list" ? (made[name] = value) : made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

/** Show the choices in every control. */
function fill() {
  $("surface").value = state.surface;
  $("about").textContent = SURFACES[state.surface].about;
  $("cost-caption").textContent = SURFACES[state.surface].lowest ? "cost above the lowest point" : "cost";
  for (const [name, { toSlider }] of Object.entries(KNOBS)) {
    $(name).value = toSlider(state[name]);
    const text = label5(state[name]);
    $(`${name}-value`).textContent = text;
    $(name).setAttribute("aria-valuetext", text);
  }
  document.querySelector(`input[name=weight][value="${state.weight}"]`).checked = true;
  $("start-x").value = Number(state.start[0].toPrecision(5));
  $("start-y").value = Number(state.start[1].toPrecision(5));
  $("start").setAttribute("aria-label",
    `Start: θ₁ = ${label(state.start[0])}, θ₂ = ${label(state.start[1])}; drag it, or use the arrow keys`);
  document.querySelectorAll(".index").forEach((each) => (each.textContent = state.weight ? "₂" : "₁"));
  methodRows();
}

function label5(number) {
  return Math.abs(number) >= 1e-3 || number === 0 ? String(Number(number.toPrecision(5))) : label(number);
}

function methodRows() {
  const full = Object.keys(state.methods).length >= MOST_METHODS;
  const only = Object.keys(state.methods).length === 1;
  for (const key of Object.keys(METHODS)) {
    const chosen = key in state.methods;
    const [box, slider] = [$(`use-${key}`), $(`alpha-${key}`)];
    box.checked = chosen;
    box.disabled = chosen ? only : full;
    slider.closest(".alpha").hidden = !chosen;
    const alpha = state.methods[key] ?? METHODS[key].alpha;
    slider.value = Math.log10(alpha);
    slider.setAttribute("aria-valuetext", label5(alpha));
    $(`alpha-value-${key}`).textContent = label(alpha);
  }
  const body = $("numbers").tBodies[0];
  body.replaceChildren(...Object.keys(state.methods).map((key) =>
    element("tr", {}, element("th", { scope: "row" }, swatch(key), METHODS[key].name),
      ...Array.from({ length: 5 }, () => element("td")))));
}

function swatch(key) {
  return element("span", { className: `swatch swatch-${key}`, ariaHidden: "true" });
}

function makeMethods() {
  $("methods").append(...Object.entries(METHODS).map(([key, method]) => {
    const box = element("input", { type: "checkbox", id: `use-${key}` });
    box.addEventListener("change", () => {
      if (box.checked) {
        state.methods = inOrder({ ...state.methods, [key]: METHODS[key].alpha });
      } else {
        delete state.methods[key];
      }
      changed();
    });
    const [low, high] = LIMITS.alpha.map(Math.log10);
    const slider = element("input", {
      type: "range", id: `alpha-${key}`, min: low, max: high, step: 0.01,
    });
    slider.setAttribute("aria-label", `α of ${method.name}`);
    slider.addEventListener("input", () => {
      state.methods[key] = logarithm.fromSlider(Number(slider.value));
      changed();
    });
    return element("li", {},
      element("label", {}, box, swatch(key), method.name),
      element("span", { className: "alpha" }, "α", slider,
        element("output", { id: `alpha-value-${key}` })));
  }));
}

/** After a choice: walk, show, remember; a preset's words no longer hold. */
function changed() {
  $("preset").value = "";
  $("see").hidden = true;
  refresh();
}

function refresh() {
  fill();
  rewalk();
  remember();
}

function copy(of) {
  return { ...of, methods: { ...of.methods }, start: [...of.start] };
}

function show(key) {
  const preset = PRESETS[key];
  if (playing) stop();
  state = copy(preset.state);
  $("preset").value = key;
  refresh();
  $("see-text").textContent = words(preset, walks);
  const link = $("see-link");
  const page = preset.page ?? NOTEBOOK;
  const target = `${page}.html${preset.section ? `#${preset.section}` : ""}`;
  link.hidden = !link.dataset.pages.split(" ").includes(page);
  link.href = link.hidden ? "#explorer" : target;
  $("see").hidden = false;
}

/** Start at a place, or at the nearest one that the map shows. */
function moveStart(x, y) {
  [x, y] = [Math.min(view[1], Math.max(view[0], x)), Math.min(view[3], Math.max(view[2], y))];
  const box = SURFACES[state.surface].box;
  state.start = box
    ? [Math.min(box[1], Math.max(box[0], x)), Math.min(box[3], Math.max(box[2], y))]
    : [x, y];
  changed();
}

function listen() {
  $("surface").append(...Object.entries(SURFACES).map(([key, { name }]) => new Option(name, key)));
  $("surface").addEventListener("change", () => {
    const before = state;
    state = { ...initial($("surface").value, before.methods), steps: before.steps, t: before.steps, weight: before.weight };
    for (const name of ["beta_1", "beta_2", "epsilon"]) state[name] = before[name];
    changed();
  });
  $("preset").append(...Object.entries(PRESETS).map(([key, { title }]) => new Option(title, key)));
  $("preset").addEventListener("change", () => $("preset").value && show($("preset").value));
  for (const [name, { fromSlider }] of Object.entries(KNOBS)) {
    $(name).addEventListener("input", () => {
      const atEnd = state.t === state.steps;
      const [low, high] = LIMITS[name];
      state[name] = Math.min(high, Math.max(low, fromSlider(Number($(name).value))));
      if (name === "steps" && atEnd) state.t = state.steps;
      changed();
    });
  }
  for (const input of document.querySelectorAll("input[name=weight]")) {
    input.addEventListener("change", () => {
      state.weight = Number(input.value);
      fill();
      later();
      remember();
    });
  }
  for (const [id, i] of [["start-x", 0], ["start-y", 1]]) {
    $(id).addEventListener("change", () => {
      const value = Number($(id).value);
      const place = [...state.start];
      if ($(id).value.trim() && Number.isFinite(value)) place[i] = value;
      moveStart(...place);
    });
  }
  $("play").addEventListener("click", play);
  $("rewind").addEventListener("click", () => (playing && stop(), setTime(0), remember()));
  $("back").addEventListener("click", () => (playing && stop(), setTime(state.t - 1), remember()));
  $("forward").addEventListener("click", () => (playing && stop(), setTime(state.t + 1), remember()));
  $("time").addEventListener("input", () => (playing && stop(), setTime(Number($("time").value)), remember()));
  $("reset").addEventListener("click", () => show("knobs"));
  $("copy").addEventListener("click", async () => {
    const link = location.href.split("#")[0] + toHash(state);
    try {
      await navigator.clipboard.writeText(link);
      $("copied").textContent = "copied";
    } catch {
      history.replaceState(null, "", toHash(state));
      $("copied").textContent = "the address bar has it";
    }
    setTimeout(() => ($("copied").textContent = ""), 2500);
  });
  listenToMap();
  listenToPlots();
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, select, textarea, button, a, summary");
    if (event.key === " " && !typing) {
      event.preventDefault();
      play();
    }
  });
  addEventListener("hashchange", () => {
    if (location.hash === toHash(state)) return;
    state = fromHash(location.hash);
    changed();
  });
  new ResizeObserver(later).observe($("map"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    theme = null;
    later();
  });
}

function listenToMap() {
  const [map, handle] = [$("map"), $("start")];
  const place = (event) => {
    const frame = map.getBoundingClientRect();
    return [scale.fromX(event.clientX - frame.left), scale.fromY(event.clientY - frame.top)]
      .map((value) => Number(value.toPrecision(4)));
  };
  map.addEventListener("click", (event) => moveStart(...place(event)));
  handle.addEventListener("pointerdown", (event) => {
    handle.setPointerCapture(event.pointerId);
    event.preventDefault();
    handle.focus();
  });
  handle.addEventListener("pointermove", (event) => {
    if (handle.hasPointerCapture(event.pointerId)) moveStart(...place(event));
  });
  handle.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (!move) return;
    event.preventDefault();
    const size = event.shiftKey ? 10 : 50;
    const steps = [(view[1] - view[0]) / size, (view[3] - view[2]) / size];
    moveStart(...state.start.map((value, i) => Number((value + move[i] * steps[i]).toPrecision(4))));
  });
}

/** Press on a plot, and time goes there. */
function listenToPlots() {
  for (const { id } of PLOTS) {
    const canvas = $(`plot-${id}`);
    const go = (event) => {
      const { left, right } = layers[id];
      const share = (event.clientX - canvas.getBoundingClientRect().left - left) / (right - left);
      if (playing) stop();
      setTime(Math.round(share * state.steps));
      remember();
    };
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      go(event);
    });
    canvas.addEventListener("pointermove", (event) => canvas.hasPointerCapture(event.pointerId) && go(event));
  }
}

makeMethods();
listen();
if (location.hash) changed();
else show("momentum");

// For the console, and for the tests that compare this page with the study's own oracle.
globalThis.explorer = {
  METHODS, SURFACES, PRESETS, adam, adamax, trajectory, walk, gradient, normal, uniform, words,
  draw, state: () => copy(state), walks: () => walks,
};
