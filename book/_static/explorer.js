"use strict";

// Sliders and curves for MIWAE(M,K) in the linear Gaussian model. The numbers are in the page.

const WIDTH = 300;
const HEIGHT = 220;
const MARGIN = { left: 50, right: 14, top: 28, bottom: 42 };
const TOTAL = 64; // samples, while M K is held
const MOST_GROUPS = 6; // M up to 2^6
const START = { M: 3, K: 3, offset: 0, estimator: "rep" }; // MIWAE(8,8), near the optimum
const THETA = { name: "generative network, θ", color: "#0072B2", dash: "" };
const PHI = { name: "inference network, φ", color: "#D55E00", dash: "6 3" };
const GREY = { color: "#7a7a7a", dash: "" };
const BAND = 2; // standard errors to each side
const LESSONS = [ // what to look for: words, and where the controls go
  ["1 IWAE near the optimum", { M: 0, K: 6, offset: 0, estimator: "rep", held: false }],
  ["2 64 samples in 8 groups", { M: 3, K: 3, offset: 0, estimator: "rep", held: true }],
  ["3 drep", { M: 0, K: 6, offset: 0, estimator: "drep", held: false }],
  ["4 rws", { M: 0, K: 6, offset: 0, estimator: "rws", held: false }],
  ["5 far from the optimum", { M: 0, K: 6, offset: -1, estimator: "rep", held: false }],
];
const ESTIMATORS = {
  rep: "rep, the usual one",
  stl: "stl, sticking the landing",
  drep: "drep, doubly reparameterised",
  rws: "rws, reweighted wake-sleep",
};

function added(made, attributes, parent, text) {
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
}

function html(name, attributes, parent, text) {
  return added(document.createElement(name), attributes, parent, text);
}

function drawn(name, attributes, parent, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  return added(made, attributes, parent, text);
}

function short(value) {
  if (value === undefined) return "none";
  return String(Number(value.toPrecision(3))).replace("-", "−");
}

// What the controls say.
function stateOf(controls, data) {
  const held = controls.held.checked;
  const K = data.counts[Number(controls.K.value)];
  return {
    held,
    K,
    M: held ? TOTAL / K : 2 ** Number(controls.M.value),
    offset: Number(controls.offset.value),
    estimator: controls.estimator.value,
  };
}

// The ratio of an average of M independent estimates is higher by the root of M. IWAE, one group, is a ghost.
function curvesOf(state, data) {
  const last = state.held ? data.counts.indexOf(TOTAL) + 1 : data.counts.length;
  const counts = data.counts.slice(0, last);
  const groups = (K) => (state.held ? TOTAL / K : state.M);
  const ofNetwork = (look, ratios, errors) => {
    const known = counts.map((_, i) => i).filter((i) => ratios[i] !== null);
    const times = (values, of) => known.map((i) => [counts[i], values[i] * Math.sqrt(of(counts[i]))]);
    return {
      ...look,
      points: times(ratios, groups),
      ghost: times(ratios, () => 1),
      error: times(errors, groups),
    };
  };
  const plain = (values) => ({ ...GREY, points: counts.map((K, i) => [K, values[i]]) });
  return {
    snr: [
      ofNetwork(THETA, data.theta[state.offset], data.errors.theta[state.offset]),
      ofNetwork(
        PHI,
        data.phi[state.estimator][state.offset],
        data.errors.phi[state.estimator][state.offset],
      ),
    ],
    bias: [plain(data.bias[state.offset].map((value) => -value))],
    ess: [plain(data.ess[state.offset])],
  };
}

// Undefined where there is none: rws has no gradient with one sample.
function valueAt(curve, K) {
  return curve.points.find((point) => point[0] === K)?.[1];
}

function scale(low, high, from, to) {
  const steps = Math.log(high / low);
  return (value) => from + (Math.log(value / low) / steps) * (to - from);
}

function ticksBetween(low, high) {
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1) {
    ticks.push(10 ** power, 3 * 10 ** power);
  }
  return ticks.filter((tick) => tick >= low && tick <= high);
}

// The lowest and the highest value that the curves have for any M, with some room: an axis that
// stays where it is while M and K move.
function rangeOf(curves) {
  const values = curves.flatMap((curve) => (curve.ghost ?? curve.points).map((point) => point[1]));
  const groups = curves[0].ghost ? Math.sqrt(2 ** MOST_GROUPS) : 1;
  return [Math.min(...values) / 1.3, Math.max(...values) * groups * 1.3];
}

function pathThrough(points, x, y) {
  return points.map(([K, value], i) => `${i ? "L" : "M"}${x(K)} ${y(value)}`).join("");
}

// The outline of a curve's values, errors to each side, no lower than the axis begins.
function bandOf(curve, lowest) {
  const off = (sign) => ([K, value], i) => [
    K,
    Math.max(value + sign * BAND * curve.error[i][1], lowest),
  ];
  return [...curve.points.map(off(1)), ...curve.points.map(off(-1)).reverse()];
}

function drawAxes(svg, title, counts, x, y, range) {
  const words = { fill: "currentColor", "font-size": 14 };
  const grid = { stroke: "currentColor", "stroke-opacity": 0.2 };
  const right = WIDTH - MARGIN.right;
  const bottom = HEIGHT - MARGIN.bottom;
  drawn("text", { ...words, "font-size": 15, x: 4, y: 16 }, svg, title);
  for (const tick of ticksBetween(...range)) {
    drawn("line", { ...grid, x1: MARGIN.left, x2: right, y1: y(tick), y2: y(tick) }, svg);
    const place = { x: MARGIN.left - 6, y: y(tick) + 4, "text-anchor": "end" };
    drawn("text", { ...words, ...place }, svg, short(tick));
  }
  for (const K of counts.filter((_, i) => i % 2 === 0)) {
    const place = { x: x(K), y: bottom + 18, "text-anchor": "middle" };
    drawn("text", { ...words, ...place }, svg, String(K));
  }
  const middle = { x: (MARGIN.left + right) / 2, y: HEIGHT - 6, "text-anchor": "middle" };
  drawn("text", { ...words, ...middle }, svg, "K");
}

function drawPanel(svg, title, curves, state) {
  svg.replaceChildren();
  const counts = curves[0].points.map((point) => point[0]);
  const range = rangeOf(curves);
  const x = scale(counts[0], counts[counts.length - 1], MARGIN.left, WIDTH - MARGIN.right);
  const y = scale(...range, HEIGHT - MARGIN.bottom, MARGIN.top);
  drawAxes(svg, title, counts, x, y, range);
  for (const curve of curves) {
    const line = { stroke: curve.color, "stroke-width": 2, "stroke-dasharray": curve.dash };
    if (curve.ghost) {
      const band = { fill: curve.color, "fill-opacity": 0.2 };
      drawn("path", { ...band, d: `${pathThrough(bandOf(curve, range[0]), x, y)}Z` }, svg);
      const ghost = { ...line, "stroke-width": 1, "stroke-opacity": 0.8 };
      drawn("path", { ...ghost, fill: "none", d: pathThrough(curve.ghost, x, y) }, svg);
    }
    drawn("path", { ...line, fill: "none", d: pathThrough(curve.points, x, y) }, svg);
    const value = valueAt(curve, state.K);
    if (value === undefined) continue;
    const here = { cx: x(state.K), cy: y(value) };
    drawn("circle", { ...here, r: 5, fill: curve.color }, svg);
  }
}

function slider(parent, words, high, value) {
  const label = html("label", {}, parent);
  html("span", {}, label, words);
  const input = html("input", { type: "range", min: 0, max: high, step: 1, value }, label);
  const output = html("output", {}, label);
  return [input, output];
}

function controlsIn(parent, data) {
  const box = html("div", { class: "explorer-controls" }, parent);
  const [M, sayM] = slider(box, "groups M", MOST_GROUPS, START.M);
  const [K, sayK] = slider(box, "samples K", data.counts.length - 1, START.K);
  const [offset, sayOffset] = slider(box, "offset", data.offsets.length - 1, START.offset);
  const hold = html("label", {}, box);
  const held = html("input", { type: "checkbox" }, hold);
  hold.append(` hold M K at ${TOTAL}`);
  const choice = html("label", {}, box);
  html("span", {}, choice, "estimator");
  const estimator = html("select", {}, choice);
  for (const [name, words] of Object.entries(ESTIMATORS)) {
    html("option", { value: name }, estimator, words);
  }
  return { M, K, offset, held, estimator, sayM, sayK, sayOffset };
}

// Buttons that move the controls to what is worth a look.
function lessonsIn(parent, data, move) {
  const box = html("p", { class: "explorer-lessons" }, parent);
  for (const [words, there] of LESSONS) {
    const offset = there.offset < 0 ? data.offsets.length - 1 : there.offset;
    const button = html("button", { type: "button", class: "btn btn-sm" }, box, words);
    button.addEventListener("click", () => move({ ...there, offset }));
  }
}

// The state in the page's address, so that a link shows what its sender saw.
function addressOf(controls) {
  const { M, K, offset, estimator, held } = controls;
  const words = { M: M.value, K: K.value, offset: offset.value, estimator: estimator.value };
  return `#${new URLSearchParams({ ...words, held: held.checked })}`;
}

function stateInAddress() {
  const said = Object.fromEntries(new URLSearchParams(window.location.hash.slice(1)));
  return "M" in said ? { ...said, held: said.held === "true" } : null;
}

function legendIn(parent) {
  const box = html("p", { class: "explorer-legend" }, parent);
  for (const { name, color, dash } of [THETA, PHI]) {
    const item = html("span", {}, box);
    const svg = drawn("svg", { width: 34, height: 12, "aria-hidden": "true" }, item);
    const line = { stroke: color, "stroke-width": 2, "stroke-dasharray": dash };
    drawn("line", { ...line, x1: 2, x2: 32, y1: 6, y2: 6 }, svg);
    item.append(` ${name} `);
  }
  html("span", {}, box, "thin: IWAE, M = 1; shaded: two standard errors");
}

function panelIn(parent, label) {
  const box = { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label };
  return drawn("svg", box, parent);
}

function sentence(state, curves) {
  const [theta, phi] = curves.snr.map((curve) => short(valueAt(curve, state.K)));
  const bias = short(valueAt(curves.bias[0], state.K));
  const ess = short(valueAt(curves.ess[0], state.K));
  const weights = state.K === 1 ? "" : `The effective sample size of a group is ${ess} of ${state.K}.`;
  return (
    `MIWAE(${state.M},${state.K}): signal-to-noise ratio ${theta} for θ and ${phi} for φ. ` +
    `The bound is ${bias} nats below log p(x). ${weights}`
  );
}

function start(explorer) {
  const data = JSON.parse(explorer.querySelector("script").textContent);
  const controls = controlsIn(explorer, data);
  lessonsIn(explorer, data, move);
  const said = html("p", { class: "explorer-said", "aria-live": "polite" }, explorer);
  legendIn(explorer);
  const row = html("div", { class: "explorer-panels" }, explorer);
  const snr = panelIn(row, "Signal-to-noise ratio of both gradients against K");
  const bias = panelIn(row, "How far the bound is below log p of x, against K");
  const ess = panelIn(row, "Effective sample size of a group, against K");

  function move(there) {
    controls.held.checked = there.held;
    for (const name of ["M", "K", "offset", "estimator"]) controls[name].value = there[name];
    update();
  }

  function update() {
    const most = data.counts.indexOf(TOTAL);
    controls.K.max = controls.held.checked ? most : data.counts.length - 1;
    const state = stateOf(controls, data);
    controls.M.disabled = state.held;
    if (state.held) controls.M.value = Math.log2(state.M);
    controls.sayM.textContent = state.M;
    controls.sayK.textContent = state.K;
    controls.sayOffset.textContent = data.offsets[state.offset];
    controls.M.setAttribute("aria-valuetext", `M = ${state.M}`);
    controls.K.setAttribute("aria-valuetext", `K = ${state.K}`);
    controls.offset.setAttribute("aria-valuetext", `offset ${data.offsets[state.offset]}`);
    window.history.replaceState(null, "", addressOf(controls));
    const curves = curvesOf(state, data);
    said.textContent = sentence(state, curves);
    drawPanel(snr, "signal-to-noise ratio", curves.snr, state);
    drawPanel(bias, "log p(x) − bound, nats", curves.bias, state);
    drawPanel(ess, "effective sample size", curves.ess, state);
  }

  explorer.addEventListener("input", update);
  const there = stateInAddress();
  if (there) move(there);
  else update();
}

document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll(".explorer").forEach(start);
});
