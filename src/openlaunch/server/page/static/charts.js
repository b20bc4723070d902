// Charts of an endpoint's numbers, and the small one of a list. They are SVG without inline styles, which the policy forbids.
import { field, fill, h, select, shownSeconds } from "./lib.js";

const BUCKETS = 240, WIDTH = 480, HEIGHT = 100;
const RANGES = [["1h", "last hour", 3600], ["24h", "last day", 86400], ["14d", "last two weeks", 14 * 86400]];
const FAILED = ["model_error", "5xx", "deadline"];
const ENDED = ["ok", "4xx", "429", "cancelled", ...FAILED];

function svg(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

export function sparkline(values) {
  const most = Math.max(...values, 1), width = 120, height = 24;
  const points = values.map((value, at) => `${(at / (values.length - 1)) * width},${(height - 1 - (value / most) * (height - 2)).toFixed(1)}`);
  const total = values.reduce((sum, value) => sum + value, 0);
  return svg("svg", { viewBox: `0 0 ${width} ${height}`, class: "spark", role: "img", "aria-label": `${total} predictions in the last hour` },
    svg("polyline", { points: points.join(" "), class: "line a" }));
}

// Puts points, of which there are none where nothing changed, into buckets of equal time.
function bucketed({ at, series, step_seconds: step }, seconds) {
  const end = Date.now() / 1000, wide = Math.max(seconds / BUCKETS, step), count = Math.round(seconds / wide);
  const place = (time) => Math.min(count - 1, Math.max(0, Math.floor((time - (end - seconds)) / wide)));
  const places = at.map(place);
  const empty = (value) => new Array(count).fill(value);
  const rate = (names) => {
    const found = empty(0);
    for (const name of names) places.forEach((where, n) => { found[where] += series[name][n] / wide; });
    return found;
  };
  const most = (name) => {
    const found = empty(null);
    places.forEach((where, n) => { const value = series[name][n]; if (value != null) found[where] = Math.max(found[where] ?? 0, value); });
    return found;
  };
  const held = (name) => {
    const found = most(name);
    let last = null;
    return found.map((value) => { last = value ?? last; return last; });
  };
  return { rate, most, held };
}

function number(value) {
  return value >= 100 ? Math.round(value).toLocaleString() : String(Number(value.toPrecision(2)));
}

// A line is [name, values, letter of its colour]; null is a gap.
function chart(title, show, lines, [, period, seconds]) {
  const top = Math.max(...lines.flatMap(([, values]) => values.map((value) => value ?? 0))) || 1;
  const drawn = lines.map(([, values, colour]) => {
    let path = "", open = false;
    values.forEach((value, n) => {
      if (value == null) { open = false; return; }
      const x = ((n / (values.length - 1)) * WIDTH).toFixed(1), y = (HEIGHT - 2 - (value / top) * (HEIGHT - 6)).toFixed(1);
      path += open ? `L${x} ${y}` : `M${x} ${y}h1`;
      open = true;
    });
    return svg("path", { d: path, class: `line ${colour}` });
  });
  const latest = ([, values]) => values.findLast((value) => value != null);
  const said = lines.map((line) => `${line[0]} ${latest(line) == null ? "none" : show(latest(line))}`);
  return h("figure", { class: "card chart" }, h("figcaption", null, h("strong", null, title), h("span", { class: "soft" }, `up to ${show(top)}`)),
    svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": `${title} in the ${period}: ${said.join(", ")}` }, ...drawn),
    h("p", { class: "soft ends" }, h("span", null, `${seconds > 86400 ? "14 days" : seconds > 3600 ? "24 hours" : "1 hour"} ago`), h("span", null, "now")),
    h("p", { class: "legend" }, lines.map(([, , colour], n) => h("span", null, h("span", { class: `key ${colour}`, "aria-hidden": "true" }), said[n]))));
}

// The charts of one endpoint: `wanted` is what to ask the server for, and `add` draws what it has answered.
export function charts(view) {
  let range = RANGES[0], kept = null;
  const body = h("div", { class: "charts" });
  const chosen = select("range", RANGES.map(([name, text]) => [name, text]), range[0], (event) => {
    range = RANGES.find(([name]) => name === event.target.value);
    kept = null;
    view.refresh();
  });
  const add = (points) => {
    if (points.range !== range[0]) return;
    kept = kept ? joined(kept, points, range[2]) : points;
    const { rate, most, held } = bucketed(kept, range[2]);
    fill(body,
      chart("Predictions a second", number, [["all", rate(ENDED), "a"], ["failed", rate(FAILED), "b"], ["refused with 429", rate(["429"]), "c"]], range),
      chart("Time of a prediction", shownSeconds, [["p99 in the worker", most("run_p99"), "d"], ["p99 of the wait for a slot", most("wait_p99"), "c"], ["p50", most("p50"), "a"], ["p99", most("p99"), "b"]], range),
      chart("Waiting and running", number, [["waiting", held("waiting"), "b"], ["running", held("running"), "a"]], range),
      chart("Workers", number, [["ready", held("workers"), "a"]], range));
  };
  return { element: h("div", null, h("div", { class: "bar" }, h("h2", null, "Over time"), field("Range", chosen)), body),
    wanted: () => ({ range: range[0], after: kept?.at.at(-1) }), add };
}

// Points with those that came after them, and without those that are too old to be shown.
function joined(kept, added, seconds) {
  const begin = Date.now() / 1000 - seconds, first = kept.at.findIndex((at) => at >= begin);
  const from = first < 0 ? kept.at.length : first;
  const series = Object.fromEntries(Object.entries(kept.series).map(([name, values]) => [name, [...values.slice(from), ...added.series[name]]]));
  return { ...kept, at: [...kept.at.slice(from), ...added.at], series };
}
