// The map and the plots beside it, on canvases. What does not change while time runs is drawn once.

import { SURFACES } from "./surfaces.mjs";

const MARGIN = { left: 40, right: 8, top: 8, bottom: 24 };
const BANDS = 12;
const NAN_GAP = 1e-300;

/** A canvas as large as it is shown, in the screen's own pixels; its context draws in CSS pixels. */
function prepared(canvas) {
  const ratio = Math.min(2, globalThis.devicePixelRatio || 1);
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return { context, width, height };
}

/** The colours of the page, light or dark, from its style. */
export function themeOf(element) {
  const style = getComputedStyle(element);
  const colour = (name) => style.getPropertyValue(`--${name}`).trim();
  const names = ["text", "soft", "line", "page", "map-low", "map-high", "map-line", "star"];
  return { ...Object.fromEntries(names.map((name) => [name, colour(name)])), font: style.fontFamily, colour };
}

function rgb(hex) {
  return [1, 3, 5].map((k) => parseInt(hex.slice(k, k + 2), 16));
}

/** About `count` round numbers from low to high. */
export function ticks(low, high, count = 5) {
  const raw = (high - low) / count;
  if (!(raw > 0) || !Number.isFinite(raw)) return [];
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].find((factor) => factor * power >= raw) * power;
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) found.push(k * step);
  return found;
}

/** A number as an axis shows it. */
export function label(number) {
  if (number === 0) return "0";
  const size = Math.abs(number);
  if (size >= 1e5 || size < 1e-3) {
    const [digits, power] = number.toExponential(1).split("e");
    const raised = String(Number(power)).replace(/./g, (c) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(c)]);
    const factor = digits.replace(/\.0$/, "");
    return (factor === "1" ? "" : factor === "-1" ? "−" : factor.replace("-", "−") + "·") + `10${raised}`;
  }
  return String(Number(number.toPrecision(3))).replace("-", "−");
}

/** Left, right, bottom and top of the map: those of the surface, or wide enough for open walks. */
export function viewOf(surfaceKey, walks) {
  const surface = SURFACES[surfaceKey];
  let [left, right, bottom, top] = surface.view;
  if (surface.open) {
    for (const { x, y } of walks) {
      for (let t = 0; t < x.length && !Number.isNaN(x[t]); t++) {
        [left, right] = [Math.min(left, x[t]), Math.max(right, x[t])];
        [bottom, top] = [Math.min(bottom, y[t]), Math.max(top, y[t])];
      }
    }
    const [dx, dy] = [(right - left) * 0.06, (top - bottom) * 0.08];
    [left, right, bottom, top] = [left - dx, right + dx, bottom - dy, top + dy];
  }
  return [left, right, bottom, top];
}

/** From weights to pixels and back. */
export function scales(view, width, height) {
  const [left, right, bottom, top] = view;
  const [w, h] = [width - MARGIN.left - MARGIN.right, height - MARGIN.top - MARGIN.bottom];
  return {
    toX: (x) => MARGIN.left + ((x - left) / (right - left)) * w,
    toY: (y) => MARGIN.top + ((top - y) / (top - bottom)) * h,
    fromX: (px) => left + ((px - MARGIN.left) / w) * (right - left),
    fromY: (py) => top - ((py - MARGIN.top) / h) * (top - bottom),
    inside: [MARGIN.left, MARGIN.top, w, h],
  };
}

/** The surface from above as pixels: from line to line the height doubles (or grows evenly). */
function relief(surface, view, width, height, theme) {
  const [columns, rows] = surface.coarse ? [61, 46] : [161, 121];
  const [left, right, bottom, top] = view;
  const heights = new Float64Array(columns * rows);
  let [least, most] = [Infinity, -Infinity];
  for (let j = 0; j < rows; j++) {
    for (let i = 0; i < columns; i++) {
      const h = surface.value(
        left + ((right - left) * i) / (columns - 1), top - ((top - bottom) * j) / (rows - 1));
      heights[j * columns + i] = h;
      [least, most] = [Math.min(least, h), Math.max(most, h)];
    }
  }
  const even = surface.open || surface.box;
  const base = even ? least : Math.min(least, surface.lowest ? surface.value(...surface.lowest) : least);
  const levelOf = (h) =>
    even ? (BANDS * (h - base)) / (most - base)
      : BANDS + Math.log2(Math.max(h - base, NAN_GAP) / (most - base));
  const [low, high, line] = [rgb(theme["map-low"]), rgb(theme["map-high"]), rgb(theme["map-line"])];
  const image = new ImageData(width, height);
  const bands = new Int16Array(width * height);
  for (let j = 0; j < height; j++) {
    const v = (j / (height - 1)) * (rows - 1);
    const [r, fv] = [Math.min(Math.floor(v), rows - 2), v - Math.min(Math.floor(v), rows - 2)];
    for (let i = 0; i < width; i++) {
      const u = (i / (width - 1)) * (columns - 1);
      const c = Math.min(Math.floor(u), columns - 2);
      const [at, fu] = [r * columns + c, u - c];
      const h =
        (heights[at] * (1 - fu) + heights[at + 1] * fu) * (1 - fv) +
        (heights[at + columns] * (1 - fu) + heights[at + columns + 1] * fu) * fv;
      const band = Math.max(-1, Math.min(BANDS, Math.floor(levelOf(h))));
      bands[j * width + i] = band;
      const edge =
        (i > 0 && bands[j * width + i - 1] !== band) || (j > 0 && bands[(j - 1) * width + i] !== band);
      const share = (band + 1) / (BANDS + 1);
      const k = 4 * (j * width + i);
      for (const part of [0, 1, 2]) {
        image.data[k + part] = edge ? line[part] : low[part] + (high[part] - low[part]) * share;
      }
      image.data[k + 3] = 255;
    }
  }
  return image;
}

let ground = { key: "", canvas: null };

function groundOf(surfaceKey, view, width, height, theme) {
  const key = [surfaceKey, view, width, height, theme["map-low"]].join("|");
  if (ground.key !== key) {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [width, height];
    canvas.getContext("2d").putImageData(
      relief(SURFACES[surfaceKey], view, width, height, theme), 0, 0);
    ground = { key, canvas };
  }
  return ground.canvas;
}

/** The map with the walks up to step t. */
export function drawMap(canvas, { surface, walks, t, theme, view, looks }) {
  const { context, width, height } = prepared(canvas);
  const at = scales(view, width, height);
  const [x0, y0, w, h] = at.inside;
  context.clearRect(0, 0, width, height);
  context.drawImage(groundOf(surface, view, Math.round(w), Math.round(h), theme), x0, y0, w, h);
  axes(context, at, view, theme);
  context.save();
  context.beginPath();
  context.rect(x0, y0, w, h);
  context.clip();
  const { box, lowest } = SURFACES[surface];
  if (box) {
    context.strokeStyle = theme.text;
    context.setLineDash([4, 4]);
    context.strokeRect(at.toX(box[0]), at.toY(box[3]), at.toX(box[1]) - at.toX(box[0]), at.toY(box[2]) - at.toY(box[3]));
    context.setLineDash([]);
  }
  if (lowest) star(context, at.toX(lowest[0]), at.toY(lowest[1]), theme);
  // The first lines are the widest, so that where several coincide each is seen.
  walks.forEach((walk, k) => path(context, at, walk, t, looks[walk.method], walks.length - 1 - k, theme));
  context.restore();
  return at;
}

function axes(context, at, view, theme) {
  const [x0, y0, w, h] = at.inside;
  context.fillStyle = theme.soft;
  context.font = `11px ${theme.font}`;
  context.textAlign = "center";
  context.textBaseline = "top";
  for (const x of ticks(view[0], view[1], w / 90)) {
    if (at.toX(x) < x0 + w - 34) context.fillText(label(x), at.toX(x), y0 + h + 5);
  }
  context.textAlign = "right";
  context.fillText("θ₁", x0 + w, y0 + h + 5);
  context.textBaseline = "middle";
  for (const y of ticks(view[2], view[3], h / 70)) {
    if (at.toY(y) > y0 + 22) context.fillText(label(y), x0 - 5, at.toY(y));
  }
  context.fillText("θ₂", x0 - 5, y0 + 8);
  context.strokeStyle = theme.line;
  context.strokeRect(x0, y0, w, h);
}

function star(context, x, y, theme) {
  context.beginPath();
  for (let k = 0; k < 10; k++) {
    const [angle, radius] = [(Math.PI * k) / 5 - Math.PI / 2, k % 2 ? 3.6 : 9];
    context.lineTo(x + radius * Math.cos(angle), y + radius * Math.sin(angle));
  }
  context.closePath();
  context.fillStyle = theme.star;
  context.strokeStyle = "#222222";
  context.lineWidth = 1;
  context.fill();
  context.stroke();
}

function path(context, at, walk, t, look, below, theme) {
  const limit = (pixels) => Math.max(-1e4, Math.min(1e4, pixels));
  const last = walk.diverged ? Math.min(t, walk.diverged - 1) : t;
  context.lineJoin = "round";
  const wide = 2 + 1.3 * below;
  for (const [colour, lineWidth, dash, alpha] of
    [[theme.page, wide + 2, [], 0.55], [look.colour, wide, look.dash, 1]]) {
    context.strokeStyle = colour;
    context.lineWidth = lineWidth;
    context.setLineDash(dash);
    context.globalAlpha = alpha;
    context.beginPath();
    for (let k = 0; k <= last; k++) context.lineTo(limit(at.toX(walk.x[k])), limit(at.toY(walk.y[k])));
    context.stroke();
  }
  context.setLineDash([]);
  context.fillStyle = look.colour;
  if (walk.x.length <= 161) {
    for (let k = 1; k <= last; k++) {
      context.beginPath();
      context.arc(limit(at.toX(walk.x[k])), limit(at.toY(walk.y[k])), 2.4 + 0.65 * below, 0, 2 * Math.PI);
      context.fill();
    }
  }
  context.beginPath();
  context.arc(limit(at.toX(walk.x[last])), limit(at.toY(walk.y[last])), 5.5 + 1.8 * below, 0, 2 * Math.PI);
  context.fill();
  context.strokeStyle = theme.page;
  context.lineWidth = 1.5;
  context.stroke();
}

const LAYERS = new WeakMap();

/**
 * A plot of a few series by step, with the line of the present step.
 *
 * `key` names what is drawn: while it stays, only the line and its dots are drawn anew.
 */
export function drawPlot(canvas, { series, steps, t, log, zero, theme, key }) {
  const { context, width, height } = prepared(canvas);
  const whole = [key, width, height, theme.text].join("|");
  let layer = LAYERS.get(canvas);
  if (layer?.whole !== whole) {
    layer = still(canvas, { series, steps, log, zero, theme, width, height });
    layer.whole = whole;
    LAYERS.set(canvas, layer);
  }
  context.clearRect(0, 0, width, height);
  context.drawImage(layer.canvas, 0, 0, width, height);
  if (Number.isNaN(layer.toX(t))) return layer;
  context.strokeStyle = theme.text;
  context.lineWidth = 1;
  context.beginPath();
  context.moveTo(layer.toX(t), layer.top);
  context.lineTo(layer.toX(t), layer.bottom);
  context.stroke();
  for (const { values, colour } of series) {
    const y = layer.toY(values[t]);
    if (Number.isNaN(y)) continue;
    context.fillStyle = colour;
    context.beginPath();
    context.arc(layer.toX(t), y, 3.5, 0, 2 * Math.PI);
    context.fill();
  }
  return layer;
}

function still(shown, { series, steps, log, zero, theme, width, height }) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [shown.width, shown.height];
  const context = canvas.getContext("2d");
  context.scale(shown.width / width, shown.height / height);
  const [left, right, top, bottom] = [46, width - 6, 6, height - 18];
  let [low, high] = [Infinity, -Infinity];
  for (const { values } of series) {
    for (const value of values) {
      if (!Number.isFinite(value) || (log && value <= 0)) continue;
      [low, high] = [Math.min(low, value), Math.max(high, value)];
    }
  }
  if (zero) [low, high] = [Math.min(low, 0), Math.max(high, 0)];
  if (log) low = Math.max(low, high * 1e-12);
  if (!series.some(({ values }) => values.some((value) => Number.isFinite(value)))) {
    context.font = `12px ${theme.font}`;
    context.fillStyle = theme.soft;
    context.fillText("none of these methods has one", left, height / 2);
    return { canvas, toX: () => NaN, toY: () => NaN, top, bottom, left, right };
  }
  if (!(high >= low)) [low, high] = log ? [0.1, 1] : [0, 1];
  let [from, to] = log ? [Math.log10(low), Math.log10(high)] : [low, high];
  const space = Math.max((to - from) * 0.06, Math.abs(to) * 1e-3, 1e-9);
  [from, to] = [from - (zero && low === 0 ? 0 : space), to + space];
  const toX = (step) => left + (step / steps) * (right - left);
  const toY = (value) => {
    const shownValue = log ? (value > 0 ? Math.log10(Math.max(value, low)) : NaN) : value;
    return bottom - ((shownValue - from) / (to - from)) * (bottom - top);
  };
  context.font = `10.5px ${theme.font}`;
  context.strokeStyle = theme.line;
  context.fillStyle = theme.soft;
  context.textAlign = "right";
  context.textBaseline = "middle";
  context.lineWidth = 1;
  const marks = log ? ticks(Math.ceil(from), Math.floor(to), 3).filter(Number.isInteger).map((p) => 10 ** p) : ticks(from, to, 3);
  for (const mark of marks) {
    context.beginPath();
    context.moveTo(left, toY(mark));
    context.lineTo(right, toY(mark));
    context.stroke();
    context.fillText(label(mark), left - 5, toY(mark));
  }
  context.textBaseline = "top";
  for (const step of ticks(0, steps, 4)) {
    context.textAlign = step === 0 ? "left" : step > steps * 0.95 ? "right" : "center";
    context.fillText(label(step), toX(step), bottom + 4);
  }
  series.forEach(({ values, colour, dash }, k) => {
    context.strokeStyle = colour;
    context.lineWidth = 1.6 + 1.1 * (series.length - 1 - k);
    context.setLineDash(dash);
    context.beginPath();
    line(context, values, toX, toY, right - left);
    context.stroke();
  });
  return { canvas, toX, toY, top, bottom, left, right };
}

/** A line through all values; where many share a column of pixels, from their least to their most. */
function line(context, values, toX, toY, width) {
  const many = Math.max(1, Math.floor(values.length / (2 * width)));
  let pen = false;
  for (let k = 0; k < values.length; k += many) {
    let [least, most] = [k, k];
    for (let j = k; j < Math.min(k + many, values.length); j++) {
      if (values[j] < values[least] || Number.isNaN(values[least])) least = j;
      if (values[j] > values[most] || Number.isNaN(values[most])) most = j;
    }
    for (const at of least === most ? [least] : [Math.min(least, most), Math.max(least, most)]) {
      const y = toY(values[at]);
      if (Number.isNaN(y)) {
        pen = false;
      } else {
        pen ? context.lineTo(toX(at), y) : context.moveTo(toX(at), y);
        pen = true;
      }
    }
  }
}
