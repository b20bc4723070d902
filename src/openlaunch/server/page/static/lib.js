// What all parts of the page use. Text becomes text: nothing here or elsewhere makes markup of it.

export const root = new URL(".", document.baseURI);

export function h(tag, properties, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties || {})) {
    if (value == null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "href" && !isSafe(value)) continue;
    else if (name === "value" && tag === "textarea") element.value = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child != null && child !== false));
  return element;
}

function isSafe(url) {
  return url.startsWith("#") || ["http:", "https:", "blob:"].includes(new URL(url, document.baseURI).protocol);
}

// Replaces what is in an element, unless it is the same; the focus stays where its like is in the new content.
export function fill(element, ...children) {
  const made = h("div", null, ...children);
  const chosen = getSelection();
  if (!chosen.isCollapsed && element.contains(chosen.anchorNode)) return;  // somebody is about to copy it
  if (made.isEqualNode(h("div", null, ...[...element.childNodes].map((node) => node.cloneNode(true))))) return;
  const focused = element.contains(document.activeElement) ? nameOf(document.activeElement) : null;
  const typed = [...element.querySelectorAll("input")].filter((input) => input.value !== input.defaultValue);
  const open = new Set([...element.querySelectorAll("details[open]")].map((details) => nameOf(details)));
  element.replaceChildren(...made.childNodes);
  for (const { name, value } of typed) for (const input of element.querySelectorAll("input")) if (input.name === name) input.value = value;
  for (const details of element.querySelectorAll("details")) details.open = open.has(nameOf(details));
  if (focused) [...element.querySelectorAll(focused.split("|")[0])].find((found) => nameOf(found) === focused)?.focus();
}

function nameOf(element) {
  const label = element.getAttribute("data-key") || element.getAttribute("href") || element.getAttribute("name") || element.firstChild?.textContent;
  return `${element.localName}|${label}`;
}

export class Problem extends Error {
  constructor(status, document) {
    const several = Array.isArray(document.detail) ? document.detail : null;
    super((several ? "" : document.detail) || document.title || `The server answered ${status}.`);
    this.status = status;
    this.code = document.code;
    this.errors = document.errors || several;
  }
}

// A request to the server. `signal` ends it with the view that it is for.
export async function request(path, { method = "GET", query = {}, body, signal, headers = {} } = {}) {
  const url = new URL(path.replace(/^\//, ""), root);
  for (const [name, value] of Object.entries(query)) if (value != null && value !== "") url.searchParams.set(name, value);
  const isForm = body instanceof FormData;
  const answer = await fetch(url, {
    method,
    signal,
    credentials: "same-origin",
    headers: { "X-Openlaunch-Page": "1", ...(body !== undefined && !isForm ? { "Content-Type": "application/json" } : {}), ...headers },
    body: body === undefined || isForm ? body : JSON.stringify(body),
  });
  if (answer.ok) return answer;
  const problem = new Problem(answer.status, await answer.json().catch(() => ({})));
  if (problem.code === "signed_out" && path !== "/page/sign-in") window.dispatchEvent(new Event("signed-out"));
  throw problem;
}

export async function get(path, query, signal) {
  return (await request(path, { query, signal })).json();
}

export async function send(method, path, body, query) {
  const answer = await request(path, { method, body, query });
  return answer.status === 204 ? null : answer.json();
}

// Loads and shows now, and again each `seconds`, or less often where that takes long, as long as somebody looks.
export function follow(view, seconds, load, show) {
  let at = 0;
  const look = async () => {
    if (view.signal.aborted) return;
    let pause = seconds * 1000;
    if (!document.hidden || at === 0) {
      at = performance.now();
      try {
        const found = await load(view.signal);
        if (view.signal.aborted) return;
        show(found);
      } catch (error) {
        if (view.signal.aborted) return;
        if (error.status === 404 || error.status === 403) return view.fail(error);
        say(`${error.message} It is tried again.`);
      }
      pause = Math.max(pause, 20 * (performance.now() - at));
    }
    view.again = setTimeout(look, pause);
  };
  view.signal.addEventListener("abort", () => clearTimeout(view.again));
  view.refresh = () => { clearTimeout(view.again); return look(); };
  return look();
}

// The checks of the server. One that is not ready answers 503, with the same document.
export async function readiness(signal) {
  return (await fetch(new URL("readyz", document.baseURI), { signal })).json();
}

export function say(text) {
  const said = document.getElementById("said");
  if (said.lastChild?.textContent === text) return;
  const line = h("p", null, text);
  said.replaceChildren(line);
  setTimeout(() => line.remove(), 8000);
}

// Runs what a button is for: the button waits, and what goes wrong is said. `of` tells those of a table apart for who does not see it.
export function button(text, run, kind, of) {
  const name = of && `${text}: ${of}`;
  const made = h("button", { type: "button", class: kind, "data-key": name || text, "aria-label": name, onclick: async () => {
    made.disabled = true;
    try {
      await run();
    } catch (error) {
      say(error.message);
    } finally {
      made.disabled = false;
    }
  } }, text);
  return made;
}

// Asks before something is done; gives whether it was confirmed.
export function ask(question, text, action) {
  return new Promise((resolve) => {
    const done = (answer) => { dialog.close(); dialog.remove(); resolve(answer); };
    const cancel = h("button", { type: "button", onclick: () => done(false) }, "Cancel");
    const dialog = h("dialog", { "aria-labelledby": "question", oncancel: (event) => { event.preventDefault(); done(false); } },
      h("h2", { id: "question" }, question), text && h("p", null, text),
      h("div", { class: "bar" }, cancel, h("button", { type: "button", class: "main", onclick: () => done(true) }, action)));
    document.body.append(dialog);
    dialog.showModal();
    cancel.focus();
  });
}

// A button that changes something: it asks first, says what has happened, and has the view shown anew. `done` is what is
// said; it may be a function of what `run` gave. A change that leads elsewhere has `to`.
export function change(view, text, { question, because = "", action = text, run, done, to, kind, of }) {
  return button(text, async () => {
    if (!await ask(question, because, action)) return;
    const result = await run();
    say(typeof done === "function" ? done(result) : done);
    if (to) location.hash = typeof to === "function" ? to(result) : to;
    else await view.refresh();
  }, kind, of);
}

// Shows something that is seen once, such as a new key.
export function tell(title, ...content) {
  return new Promise((resolve) => {
    const close = h("button", { type: "button", class: "main", onclick: () => dialog.close() }, "Close");
    const dialog = h("dialog", { "aria-labelledby": "title", onclose: () => { dialog.remove(); resolve(); } }, h("h2", { id: "title" }, title), ...content, h("div", { class: "bar" }, close));
    document.body.append(dialog);
    dialog.showModal();
  });
}

const UNITS = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];

export function span(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  const at = UNITS.findIndex(([, size]) => whole >= size);
  if (at < 0) return "0 s";
  const [unit, size] = UNITS[at];
  const rest = UNITS[at + 1] ? Math.floor((whole % size) / UNITS[at + 1][1]) : 0;
  return `${Math.floor(whole / size)} ${unit}${rest ? ` ${rest} ${UNITS[at + 1][0]}` : ""}`;
}

function ago(date) {
  const seconds = (Date.now() - date) / 1000;
  if (seconds > -1 && seconds < 2) return "now";
  return seconds < 0 ? `in ${span(-seconds)}` : `${span(seconds).split(" ").slice(0, 2).join(" ")} ago`;
}

export function time(text) {
  if (!text) return "–";
  const date = new Date(text);
  return h("time", { datetime: date.toISOString(), title: date.toLocaleString(undefined, { dateStyle: "full", timeStyle: "long" }) }, ago(date));
}

setInterval(() => {
  for (const element of document.querySelectorAll("time")) element.textContent = ago(new Date(element.dateTime));
}, 5000);

export function shownSeconds(seconds) {
  if (seconds == null) return "–";
  return seconds < 0.9995 ? `${Number((seconds * 1000).toPrecision(3))} ms` : `${Number(seconds.toPrecision(3))} s`;
}

export function size(bytes) {
  if (bytes == null) return "–";
  let unit = 0;
  while (bytes >= 1024 && unit < 4) { bytes /= 1024; unit += 1; }
  return `${unit ? bytes.toFixed(1) : bytes} ${["B", "KiB", "MiB", "GiB", "TiB"][unit]}`;
}

const KINDS = { READY: "good", SUCCESS: "good", SERVING: "good", DELIVERED: "good", ok: "good", completed: "good", expired: "bad", validating: "wait", in_progress: "wait", finalizing: "wait", cancelling: "wait", CANCELLED: "", UPDATE_FAILED: "bad", FAILURE: "bad", FAILED: "bad",
  failed: "bad", ROLLED_BACK: "wait", UPDATE_PENDING: "wait", UPDATE_IN_PROGRESS: "wait", PENDING: "wait", RUNNING: "wait", STARTED: "wait",
  STARTING: "wait", WAITING: "wait", DELETE_IN_PROGRESS: "wait", warning: "wait", suspended: "wait",
  ready: "good", starting: "wait", lost: "bad", draining: "wait", asleep: "wait", drained: "wait", stopping: "wait", away: "bad" };

export function pill(status) {
  return h("span", { class: `pill ${KINDS[status] || ""}` }, status.replaceAll("_", " ").toLowerCase());
}

// A table. A column is [heading, cell of a row, class]; on a narrow screen each row becomes a card, without cells that are NOTHING.
export const NOTHING = [];

export function table(label, columns, rows) {
  const cell = (content) => (content == null || content === "" || content === false ? "–" : content);
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": label }, h("table", { class: "stack" },
    h("thead", null, h("tr", null, columns.map(([heading, , kind]) => h("th", { scope: "col", class: kind }, heading)))),
    h("tbody", null, rows.map((row) => h("tr", null, columns.map(([heading, show, kind], at) =>
      h("td", { class: kind, "data-label": at ? heading : null }, cell(show(row)))))))));
}

// The columns with whose each row is, where an admin looks at everybody's.
export function owned(view, columns) {
  return view.owner.owner ? [...columns.slice(0, 1), ["Owner", (row) => row.owner], ...columns.slice(1)] : columns;
}

export function facts(...pairs) {
  return h("dl", null, pairs.filter(([, value]) => value != null && value !== "").map(([name, value]) => [h("dt", null, name), h("dd", null, value)]));
}

export function sentence(text) {
  return text && `${text[0].toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;
}

// How many there are of each kind; nothing where there are none.
export function tally(counts) {
  return Object.entries(counts).filter(([, count]) => count).sort(([, one], [, other]) => other - one)
    .map(([kind, count]) => `${count.toLocaleString()} ${kind.replaceAll("_", " ")}`).join(", ");
}

export function empty(text, command) {
  return h("div", { class: "card empty" }, h("p", null, text), command && [h("p", { class: "soft" }, "To begin, type:"), copyable(command)]);
}

export function copyable(text) {
  const block = h("pre", { tabindex: 0 }, text);
  const copy = button("Copy", async () => {
    if (navigator.clipboard) await navigator.clipboard.writeText(text);
    else { getSelection().selectAllChildren(block); document.execCommand("copy"); }
    say("Copied.");
  });
  return h("div", null, block, copy);
}

let hints = 0;

export function field(label, input, hint) {
  const made = h("label", null, h("span", null, label), input);
  if (!hint) return made;
  const id = `hint-${hints += 1}`;
  input.setAttribute("aria-describedby", id);
  return h("div", { class: "fields" }, made, h("span", { class: "soft", id }, hint));
}

// A box to check, with its text behind it.
export function check(text, box) {
  return h("label", { class: "check" }, box, h("span", null, text));
}

export function select(name, options, chosen, onchange) {
  return h("select", { name, onchange }, options.map(([value, text]) => h("option", { value, selected: value === chosen }, text)));
}

export function shownJson(value) {
  return typeof value === "string" ? value : JSON.stringify(value, null, 2);
}

// Saves the content of an answer as a file.
export function save(blob, name) {
  const link = h("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
