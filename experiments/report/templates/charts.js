(() => {
"use strict";
// Charts of curves, trials and grids, drawn when they come into sight, and margins to move.
const DATA = JSON.parse(document.getElementById("data").textContent);
const dark = matchMedia("screen and (prefers-color-scheme: dark)");
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const drawn = new Map(); // element -> how it is drawn

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    name in made ? (made[name] = value) : made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

function layout(extra) {
  const axis = { gridcolor: css("line"), linecolor: css("line"), zerolinecolor: css("line"), automargin: true,
    exponentformat: "power" }; // a learning rate of 10⁻⁵, not of 10 micro
  return {
    paper_bgcolor: css("page"), plot_bgcolor: css("page"),
    font: { color: css("text"), size: 13, family: "system-ui, sans-serif" },
    margin: { l: 60, r: 16, t: 10, b: 46 },
    hovermode: "closest", ...extra,
    xaxis: { ...axis, ...extra.xaxis }, yaxis: { ...axis, ...extra.yaxis },
  };
}

function plot(target, traces, given) {
  const legend = { orientation: "h", y: 1.02, yanchor: "bottom" }; // below, it would lie on the axis' title
  const extra = { legend, ...given };
  drawn.set(target, () => plot(target, traces, given));
  return Plotly.react(target, traces, layout(extra), { displaylogo: false, responsive: true, displayModeBar: false });
}

dark.addEventListener("change", () => drawn.forEach((again) => again()));

/** A colour of the figures with an opacity; lighter where the page is dark. */
function tinted(hex, opacity = 1) {
  const parts = [1, 3, 5].map((k) => parseInt(hex.slice(k, k + 2), 16));
  const [r, g, b] = dark.matches ? parts.map((x) => Math.round(x + (255 - x) * 0.3)) : parts;
  return `rgba(${r},${g},${b},${opacity})`;
}

/** What is drawn as CSV: a row for each point of each line that is shown. */
function table(target) {
  const { xaxis, yaxis } = target.layout;
  const cell = (value) => (/[",\n]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : value);
  const name = (axis) => axis.title?.text ?? "";
  const lines = [["line", name(xaxis), name(yaxis), "low", "high"].map(cell).join()];
  for (const trace of target.data) {
    if (trace.visible === "legendonly" || trace.band) continue;
    trace.x.forEach((x, k) => {
      if (trace.y[k] === null) return;
      lines.push([cell(trace.name), x, trace.y[k], trace.low?.[k] ?? "", trace.high?.[k] ?? ""].join());
    });
  }
  return lines.join("\n") + "\n";
}

function save(target, name, kind) {
  if (kind !== "csv") {
    Plotly.downloadImage(target, { format: kind, filename: name, width: 1000, height: 560, scale: 2 });
    return;
  }
  const address = URL.createObjectURL(new Blob([table(target)], { type: "text/csv" }));
  const link = element("a", { href: address, download: `${name}.csv` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

/** A place for a chart: a heading, controls, the chart and its downloads. */
function frame(parent, study, title, controls) {
  const target = element("div", { className: "plot" });
  target.setAttribute("role", "img");
  target.setAttribute("aria-label", `${study.title}: ${title}`);
  const name = `${study.name}-${title.toLowerCase().replace(/[^a-z0-9]+/g, "-")}`;
  const buttons = ["png", "svg", "csv"].map((kind) => {
    const button = element("button", { type: "button", textContent: kind.toUpperCase() });
    button.setAttribute("aria-label", `Save ${title} of ${study.title} as ${kind.toUpperCase()}`);
    button.addEventListener("click", () => save(target, name, kind));
    return button;
  });
  parent.append(element("h3", { textContent: title }), element("div", { className: "tools" }, ...controls),
    target, element("div", { className: "downloads" }, ...buttons));
  return target;
}

function check(text, on, changed) {
  const box = element("input", { type: "checkbox", checked: on });
  box.addEventListener("change", changed);
  return [box, element("label", { className: "check" }, box, text)];
}

function choice(text, options, changed) {
  const select = element("select", {}, ...options.map(([value, shown]) => new Option(shown, value)));
  select.addEventListener("change", changed);
  return [select, element("label", { className: "check" }, text, select)];
}

const passes = (values) => values.map((_, k) => k);

function curves(parent, study) {
  const protocols = [...new Set(study.curves.map((curve) => curve.protocol))];
  const [protocol, protocolLabel] = choice("Protocol", [...protocols.map((p) => [p, p]),
    ...(protocols.length > 1 ? [["", "both"]] : [])], draw);
  const [seeds, seedsLabel] = check("every seed", false, draw);
  const [paper, paperLabel] = check("the paper's curves", true, draw);
  const [log, logLabel] = check("logarithmic", study.log, draw);
  const controls = [protocolLabel, seedsLabel, logLabel];
  if (study.paper.length) controls.splice(2, 0, paperLabel);
  const target = frame(parent, study, "Training cost by pass", controls);
  function draw() {
    const traces = [];
    for (const curve of study.curves.filter((c) => !protocol.value || c.protocol === protocol.value)) {
      const both = !protocol.value;
      const name = both ? `${curve.arm}, ${curve.protocol}` : curve.arm;
      const x = passes(curve.mean);
      const dash = both && curve.protocol === "tuned" ? "dot" : "solid";
      if (!seeds.checked) {
        traces.push({
          x: [...x, ...x.toReversed()], y: [...curve.high, ...curve.low.toReversed()], fill: "toself",
          fillcolor: tinted(curve.colour, 0.22), line: { width: 0 }, hoverinfo: "skip",
          showlegend: false, legendgroup: name, name, band: true, mode: "lines",
        });
      } else {
        for (const [seed, y] of Object.entries(curve.seeds)) {
          traces.push({ x: passes(y), y, mode: "lines", line: { width: 0.8, color: tinted(curve.colour, 0.6) },
            name: `${name}, seed ${seed}`, legendgroup: name, showlegend: false });
        }
      }
      traces.push({ x, y: curve.mean, low: curve.low, high: curve.high, name, legendgroup: name, mode: "lines",
        line: { color: tinted(curve.colour), width: 2.4, dash } });
    }
    if (paper.checked) {
      for (const { arm, colour, x, y } of study.paper) {
        traces.push({ x, y, name: `${arm}, the paper`, mode: "lines", line: { color: tinted(colour, 0.8), width: 1.6, dash: "dash" } });
      }
    }
    plot(target, traces, {
      xaxis: { title: { text: "passes over the training set" } },
      yaxis: { title: { text: "training cost (nats)" }, type: log.checked ? "log" : "linear" },
    });
  }
  draw();
}

function trials(parent, study) {
  const arms = [...new Set(study.trials.map((trial) => trial.arm))];
  const groups = (arm) => [...new Set(study.trials.filter((t) => t.arm === arm).map((t) => t.others))];
  const [arm, armLabel] = choice("Method", arms.map((name) => [name, name]), () => { others.replaceChildren(...options()); draw(); });
  const options = () => groups(arm.value).map((text) => new Option(text || "no other setting", text));
  const [others, othersLabel] = choice("with", [], draw);
  others.replaceChildren(...options());
  const [log, logLabel] = check("logarithmic", true, draw);
  const slider = element("input", { type: "range", min: 0, step: 1, value: 0 });
  const shown = element("output");
  slider.addEventListener("input", draw);
  const sliderLabel = element("label", { className: "check wide" }, "Learning rate", slider, shown);
  const target = frame(parent, study, "Cost by learning rate", [armLabel, othersLabel, logLabel]);
  const below = frame(parent, study, "One trial of the tuning grid", [sliderLabel]);
  const last = (curve) => curve.at(-1);
  function draw() {
    const traces = [];
    for (const name of arms) {
      for (const text of groups(name)) {
        const mine = study.trials.filter((t) => t.arm === name && t.others === text);
        traces.push({
          x: mine.map((t) => t.rate), y: mine.map((t) => last(t.curve)), mode: "lines+markers",
          name: text ? `${name}, ${text}` : name,
          line: { color: tinted(mine[0].colour), width: 2, dash: groups(name).indexOf(text) ? "dot" : "solid" },
          customdata: mine.map((t) => t.curve.length), hovertemplate: "%{x}: %{y:.5g} after %{customdata} passes",
        });
      }
    }
    const mine = study.trials.filter((t) => t.arm === arm.value && t.others === others.value);
    slider.max = mine.length - 1;
    const trial = mine[Math.min(Number(slider.value), mine.length - 1)];
    shown.textContent = trial.rate;
    slider.setAttribute("aria-valuetext", String(trial.rate));
    plot(target, traces, {
      xaxis: { title: { text: "learning rate" }, type: "log" },
      yaxis: { title: { text: "training cost of the last pass (nats)" }, type: log.checked ? "log" : "linear" },
      shapes: [{ type: "line", x0: trial.rate, x1: trial.rate, yref: "paper", y0: 0, y1: 1, line: { color: css("soft"), dash: "dot" } }],
    });
    const paper = study.paper.find((curve) => curve.arm === arm.value);
    plot(below, [
      ...mine.map((t) => ({ x: passes(t.curve), y: t.curve, mode: "lines", showlegend: false, name: `${t.rate}`,
        line: { color: tinted(t.colour, 0.25), width: 1.2 } })),
      { x: passes(trial.curve), y: trial.curve, mode: "lines", name: `${arm.value}, learning rate ${trial.rate}`,
        line: { color: tinted(trial.colour), width: 2.6 } },
      ...(paper ? [{ x: paper.x, y: paper.y, mode: "lines", name: "the paper's curve",
        line: { color: css("text"), width: 1.4, dash: "dash" } }] : []),
    ], {
      xaxis: { title: { text: "passes over the training set" } },
      yaxis: { title: { text: "training cost (nats)" }, type: log.checked ? "log" : "linear" },
    });
  }
  draw();
}

function grid(parent, study) {
  const lengths = [...new Set(study.grid.map((line) => line.passes))];
  const betas = [...new Set(study.grid.map((line) => line.betas))];
  const [length, lengthLabel] = choice("After", lengths.map((n) => [n, n === 1 ? "1 pass" : `${n} passes`]), draw);
  const lines = (n) => study.grid.filter((line) => line.passes === n).length;
  length.value = lengths.reduce((best, n) => (lines(n) >= lines(best) ? n : best));
  const [pair, pairLabel] = choice("Betas", [["", "all"], ...betas.map((text) => [text, text])], draw);
  pair.value = betas.at(-1);
  const [paper, paperLabel] = check("the paper's curves", true, draw);
  const target = frame(parent, study, "Loss by step size", [lengthLabel, pairLabel, paperLabel]);
  const dashes = ["solid", "dot", "dashdot", "longdash", "dash", "longdashdot"];
  function draw() {
    const chosen = study.grid.filter((line) => line.passes === Number(length.value) && (!pair.value || line.betas === pair.value));
    const traces = [];
    for (const line of chosen) {
      const name = `${line.betas}, ${line.corrected ? "with" : "without"} correction`;
      const dash = pair.value ? "solid" : dashes[betas.indexOf(line.betas) % dashes.length];
      traces.push({
        x: line.rate, y: line.mean, low: line.min, high: line.max, mode: "lines+markers", name,
        line: { color: tinted(line.colour), width: 2, dash },
        error_y: { type: "data", symmetric: false, array: line.max.map((v, k) => v - line.mean[k]),
          arrayminus: line.min.map((v, k) => line.mean[k] - v), thickness: 1 },
      });
      if (paper.checked && line.paper && pair.value) {
        traces.push({ x: line.paper.rate, y: line.paper.loss, mode: "lines", name: `${name}, the paper`,
          line: { color: tinted(line.colour, 0.7), dash: "dash", width: 1.5 } });
      }
    }
    const all = chosen.flatMap((line) => line.mean).filter((v) => v !== null).sort((a, b) => a - b);
    plot(target, traces, {
      xaxis: { title: { text: "step size α" }, type: "log" },
      yaxis: { title: { text: "loss (nats)" }, range: [all[0] - 2, all[Math.floor(all.length * 0.85)] + 5] },
    });
  }
  draw();
}

// --- margins --------------------------------------------------------------------------------------

/** The verdict from an interval, as the study's own rule decides it. */
function decide(rule, limit, low, high) {
  let inside, outside;
  if (rule === "below") [inside, outside] = [high < limit, low >= limit];
  else if (rule === "above") [inside, outside] = [low > limit, high <= limit];
  else {
    const [least, most] = rule === "within" ? [1 / limit, limit] : limit;
    [inside, outside] = [least <= low && high <= most, high < least || low > most];
  }
  return inside ? "reproduced" : outside ? "not reproduced" : "inconclusive";
}

const number = (value) => String(Number(value.toPrecision(4)));

function margins() {
  const select = document.getElementById("claim");
  if (!select) return;
  const movable = DATA.claims.filter((claim) => typeof claim.limit === "number");
  for (const part of new Set(movable.map((claim) => claim.part))) {
    const group = element("optgroup", { label: part });
    group.append(...movable.filter((claim) => claim.part === part)
      .map((claim) => new Option(`${claim.reading} (${claim.study})`, claim.id)));
    select.append(group);
  }
  // First one of which both protocols have something to say.
  select.value = (movable.find((each) => Object.keys(each.judged).length > 1) ?? movable[0])?.id ?? "";
  const [slider, output] = [document.getElementById("limit"), document.getElementById("limit-value")];
  let claim, from, to, limit, log, least_shown;
  function choose() {
    claim = movable.find((each) => each.id === select.value) ?? movable[0];
    const ends = Object.values(claim.judged).flatMap(({ low, high }) => [low, high]);
    const all = [claim.limit, ...ends];
    if (claim.rule === "within") all.push(...ends.filter((end) => end > 0).map((end) => 1 / end));
    log = claim.rule !== "above" && Math.min(...all) > 0;
    const scale = log ? Math.log : (x) => x;
    const [least, most] = [scale(Math.min(...all)), scale(Math.max(...all))];
    const space = Math.max((most - least) * 0.4, log ? 0.02 : Math.abs(most) * 0.05 || 0.1);
    [from, to] = [least - space, most + space];
    least_shown = claim.rule === "within" ? Math.min(from, -scale(claim.limit) - space) : from;
    if (claim.rule === "within") from = Math.max(from, 0); // a factor of 1 is the narrowest margin
    limit = claim.limit;
    slider.value = 1000 * (scale(limit) - from) / (to - from);
    document.getElementById("criterion").textContent = claim.criterion;
    show();
  }
  function show() {
    output.textContent = number(limit);
    slider.setAttribute("aria-valuetext", number(limit));
    const rows = Object.entries(claim.judged).map(([protocol, { value, low, high, n, verdict }]) => {
      const now = n < claim.fewest || verdict === "not tested" ? "not tested" : decide(claim.rule, limit, low, high);
      const style = now.replace(" ", "-");
      const declared = now === verdict ? "" : ` (as declared: ${verdict})`;
      return element("li", {}, `${protocol}: ${number(value)} [${number(low)}, ${number(high)}], n = ${n}: `,
        element("span", { className: `badge ${style}`, textContent: now }), declared);
    });
    document.getElementById("flips").replaceChildren(...rows);
    const entries = Object.entries(claim.judged);
    const limits = claim.rule === "within" ? [1 / limit, limit] : [limit];
    plot(document.getElementById("plot-margin"), [{
      x: entries.map(([, each]) => each.value), y: entries.map(([protocol]) => protocol), mode: "markers", type: "scatter",
      marker: { size: 11, color: css("link") }, name: "metric", showlegend: false,
      error_x: { type: "data", symmetric: false, array: entries.map(([, e]) => e.high - e.value),
        arrayminus: entries.map(([, e]) => e.value - e.low), thickness: 2.5, color: css("link") },
    }], {
      xaxis: { type: log ? "log" : "linear", range: [log ? least_shown / Math.LN10 : least_shown, log ? to / Math.LN10 : to] },
      yaxis: { type: "category", range: [-0.6, entries.length - 0.4], fixedrange: true },
      shapes: limits.map((x) => ({ type: "line", x0: x, x1: x, yref: "paper", y0: 0, y1: 1,
        line: { color: css("not-reproduced"), width: 2, dash: "dash" } })),
    });
  }
  select.addEventListener("change", choose);
  slider.addEventListener("input", () => {
    const at = from + (to - from) * Number(slider.value) / 1000;
    limit = log ? Math.exp(at) : at;
    show();
  });
  document.getElementById("limit-back").addEventListener("click", choose);
  function fromAddress() {
    const asked = new URLSearchParams(location.hash.slice(1)).get("margin");
    if (!movable.some((each) => each.id === asked)) return false;
    select.value = asked;
    choose();
    document.getElementById("margin").scrollIntoView();
    return true;
  }
  addEventListener("hashchange", fromAddress);
  if (!fromAddress()) choose();
}

function draw(section) {
  DRAW.unobserve(section);
  waiting.delete(section);
  const study = DATA.studies.find((each) => each.name === section.dataset.study);
  const parent = section.querySelector(".charts");
  if (study.grid) grid(parent, study);
  else curves(parent, study);
  if (study.trials?.length) trials(parent, study);
}

const waiting = new Set(document.querySelectorAll("[data-study]"));
const DRAW = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) if (isIntersecting) draw(target);
}, { rootMargin: "400px" });
addEventListener("beforeprint", () => waiting.forEach(draw)); // paper does not scroll

margins();
waiting.forEach((section) => DRAW.observe(section));
document.documentElement.dataset.charts = "ready";
})();
