// The list of endpoints, with what is wrong on top, and the frame of the page of one of them.
import { button, change, copyable, empty, facts, field, fill, follow, get, h, pill, readiness, request, save, send, sentence, shownJson, shownSeconds, table, time } from "./lib.js";
import { charts, sparkline } from "./charts.js";
import { logs } from "./logs.js";
import { numbers } from "./numbers.js";
import { settings } from "./settings.js";
import { tryIt } from "./try.js";
import { versions } from "./versions.js";

const SHOWN = 100;
const HEALTH_EACH = 6;  // loads of the list, of 5 s each
const NO_WAIT = 0.0005;  // within the first bucket, which has those that did not wait

export function failures(counts) {
  if (!counts?.predictions) return "–";
  const text = `${counts.failures} of ${counts.predictions}`;
  return counts.failures ? h("span", { class: "is-bad" }, text) : text;
}

// What is wrong with an endpoint, and since when.
function trouble({ message, since }) {
  return h("div", { class: "reason", title: message }, time(since), ": ", message);
}

export async function endpointList(view, content) {
  const search = h("input", { type: "search", name: "search", value: view.query.get("search") || "", placeholder: "name, type, status …" });
  const wrong = h("div"), body = h("div");
  fill(content, h("h1", null, "Endpoints"), wrong, h("div", { class: "bar" }, field("Search", search)), body);
  let found = [], limit = SHOWN;
  search.addEventListener("input", () => { limit = SHOWN; draw(); });

  const numbers = seesNumbers(view);
  const columns = [
    ["Name", (e) => h("a", { href: `#endpoints/${e.id}` }, view.owner.owner && e.owner !== view.session.who.owner ? `${e.owner}/${e.name}` : e.name), "name"],
    ["Type", (e) => e.endpoint_type, "tight"],
    ["Status", (e) => [pill(e.status), e.troubles?.length ? e.troubles.map(trouble) : e.status_reason && h("div", { class: "reason soft", title: e.status_reason }, e.status_reason)], "wide"],
    ...(numbers ? [
      ["Last hour", (e) => sparkline(e.sparkline)],
      ["Rate/s", (e) => rate(e.rate), "number"],
      ["Fail/s", (e) => (e.failure_rate ? h("span", { class: "is-bad" }, rate(e.failure_rate)) : "0"), "number"],
      ["p50", (e) => shownSeconds(e.p50), "number"],
      ["p99", (e) => shownSeconds(e.p99), "number"],
      ["Wait p99", (e) => (e.wait_p99 != null && e.wait_p99 < NO_WAIT ? "0" : shownSeconds(e.wait_p99)), "number"],
      ["Workers", (e) => String(e.workers), "number"],
      ["Running", (e) => String(e.running), "number"],
      ["Queue", (e) => [String(e.waiting), e.oldest_task_at && h("div", { class: "soft" }, "oldest ", time(e.oldest_task_at))], "number"],
    ] : [["Queue", (e) => e.num_queued_items, "number"], ["Changed", (e) => time(e.last_updated_at), "tight"]]),
  ];
  const draw = () => {
    if (!found.length) return fill(body, empty("There are no endpoints.", "openlaunch deploy my_model.py:predict --name my-model"));
    const words = search.value.toLowerCase().split(/\s+/);
    const wanted = found.filter((e) => {
      const wrong = (e.troubles || []).map((each) => each.message).join(" ");
      const text = `${e.owner}/${e.name} ${e.endpoint_type} ${e.status} ${e.status_reason || ""} ${wrong}`.toLowerCase();
      return words.every((word) => text.includes(word));
    });
    const more = wanted.length - limit;
    fill(body, wanted.length ? table("Endpoints", columns, wanted.slice(0, limit)) : h("p", null, "No endpoint fits the search."),
      more > 0 && h("p", null, button(`Show ${Math.min(more, SHOWN)} more of ${more}`, () => { limit += SHOWN; draw(); })));
  };
  const list = numbers ? changes(view) : (signal) => listOf(view, signal);
  let looks = 0;
  const load = async (signal) => {
    const [endpoints, health] = await Promise.all([list(signal), looks++ % HEALTH_EACH === 0 && readiness(signal)]);
    if (health) fill(wrong, health.checks.filter((check) => check.status !== "ok").map((check) =>
      h("p", { class: check.status === "failed" ? "reason is-bad" : "reason" }, time(check.since), `: the server's check ${check.name} ${check.status === "failed" ? "has failed" : "warns"}: ${check.detail}`)));
    return endpoints;
  };
  await follow(view, 5, load, (endpoints) => { found = endpoints; draw(); });
}

// Loads the same list again and again: the server sends what is new in it.
function changes(view) {
  const known = new Map();
  let version = "", order = [];
  return async (signal) => {
    const found = await get("/page/endpoints", { ...view.owner, after: version }, signal);
    for (const endpoint of found.endpoints) known.set(endpoint.id, endpoint);
    order = found.order ?? order;
    version = found.version;
    return order.map((id) => known.get(id));
  };
}

// All endpoints that are to be seen. The server sorts them: what fails is on top, then what does not serve.
export async function listOf(view, signal) {
  if (seesNumbers(view)) return (await get("/v1/metrics", view.owner, signal)).endpoints;
  const { model_endpoints: endpoints } = await get("/v1/model-endpoints", view.owner, signal);
  return endpoints.map((e) => ({ ...e, owner: e.created_by }));
}

// A key that only predicts sees no numbers, and the endpoints that it may call.
function seesNumbers(view) {
  return view.session.who.role !== "predict";
}

function rate(aSecond) {
  return aSecond ? String(Number(aSecond.toPrecision(aSecond < 100 ? 2 : 3))) : "0";
}

const TABS = [["", "Overview"], ["try", "Try it"], ["logs", "Logs"], ["numbers", "Numbers"], ["events", "Events"], ["versions", "Versions"], ["settings", "Settings"], ["builds", "Builds"], ["openapi", "OpenAPI"]];

export async function oneEndpoint(view, content, id, tab = "") {
  const endpoint = await get(`/v1/model-endpoints/${encodeURIComponent(id)}`, {}, view.signal);
  view.title(endpoint.name);
  const mine = endpoint.created_by === view.session.who.owner || view.session.who.role === "admin";
  const tabs = TABS.filter(([name]) => ["", "try", "openapi"].includes(name) || (mine && view.session.who.role !== "predict"));
  const body = h("div", null, h("p", { class: "soft" }, "Loading …"));
  fill(content, h("h1", null, nameOf(view, endpoint)),
    h("nav", { class: "tabs", "aria-label": "Endpoint" }, tabs.map(([name, text]) =>
      h("a", { href: `#endpoints/${id}${name && `/${name}`}`, "aria-current": name === tab ? "page" : null }, text))), body);
  const parts = new Map(Object.entries({ "": overview, try: tryIt, logs, numbers, events, versions, settings, builds, openapi }));
  if (!parts.has(tab)) throw new Error(`An endpoint has no part ${tab}.`);
  return parts.get(tab)(view, body, endpoint);
}

async function overview(view, content, first) {
  const path = `/v1/model-endpoints/${first.id}`;
  const owns = first.deployment_state && view.session.who.role !== "predict";
  const now = h("div"), workers = h("div"), drawn = charts(view);
  content.replaceChildren(now, owns ? drawn.element : "", workers);
  const load = async (signal) => {
    if (!owns) return { endpoint: await get(path, {}, signal) };
    const found = await get(`/page/endpoints/${first.id}`, { ...drawn.wanted(), owner: first.created_by }, signal);
    drawn.add(found.points);
    return found;
  };
  await follow(view, 5, load, ({ endpoint: e, why, workers: found, troubles }) => { if (found) showWorkers(workers, found); fill(now,
    h("div", { class: "card" }, h("p", null, pill(e.status), " ", e.status_reason && h("span", { class: "reason" }, e.status_reason)),
      why?.reasons.map((reason) => h("p", { class: why.pending ? "reason is-bad" : "reason" }, sentence(reason.message))),
      troubles?.filter(({ kind }) => kind !== "update_failed").map((each) => h("p", { class: "reason is-bad" }, time(each.since), ": ", each.message, each.kind === "failures_began" && [". ", h("a", { href: `#endpoints/${e.id}/logs` }, "The log has the tracebacks")]))),
    e.canary && canary(view, e),
    h("div", { class: "columns" },
      h("section", { class: "card" }, h("h2", null, "Now"), facts(
        ["Workers", why && `${why.ready_workers} ready, ${why.starting_workers} starting (${e.deployment_state.min_workers} to ${e.deployment_state.max_workers} wanted)`],
        ["Slots in use", why && `${why.in_flight} of ${why.slots}`],
        ["Queue", e.num_queued_items],
        ["Failures in 5 min", e.predictions && failures(e.predictions.last_5_minutes)],
        ["Failures in 1 h", e.predictions && failures(e.predictions.last_hour)],
        ["Failures since the deploy", e.predictions && failures(e.predictions.since_deploy)],
      )),
      h("section", { class: "card" }, h("h2", null, "What it is"), facts(
        ["Type", e.endpoint_type], ["Id", h("code", null, e.id)], ["Owner", e.created_by],
        ["Bundle", e.serving_bundle_name || e.bundle_name], ["Created", time(e.created_at)], ["Changed", time(e.last_updated_at)],
        ["A worker has", e.resource_state && `${e.resource_state.cpus} CPU, ${e.resource_state.memory}, ${e.resource_state.gpu_share || e.resource_state.gpus} GPU`],
        ["Labels", e.labels && Object.entries(e.labels).map(([name, value]) => `${name}=${value}`).join(", ")],
        ["Public", e.public_inference ? "every key may predict" : null],
        ["Recorded", e.record?.share ? `${Number((100 * e.record.share).toPrecision(3))} % of the predictions, for ${e.record.days} days` : null],
      ))),
    owns && h("div", { class: "bar" },
      h("a", { href: `#tasks?endpoint=${e.id}` }, "Its tasks"),
      e.record && button("Save the recordings", async () => save(await (await request(`${path}/recordings`)).blob(), `${e.name}.jsonl`)),
      change(view, "Restart the workers", { question: `Restart ${e.name}?`, because: "Every worker is replaced by a new one, without an interruption.", action: "Restart",
        run: () => send("POST", `${path}/restart`), done: "The workers are being replaced." }),
      change(view, "Delete the endpoint", { question: `Delete ${e.name}?`, because: "Running requests may finish, waiting ones are refused, and tasks that wait end as a failure.", action: "Delete",
        run: () => send("DELETE", path), done: `${e.name} is being deleted.`, to: "#endpoints", kind: "bad" }))); });
}

function showWorkers(content, workers) {
  const columns = [
    ["Worker", (w) => h("code", null, w.worker)],
    ["Phase", (w) => pill(w.phase)],
    ["Since", (w) => time(w.since), "tight"],
    ["Started", (w) => time(w.started_at), "tight"],
    ["Runs", (w) => `${w.running} of ${w.slots}`, "number"],
    ["Generation", (w) => String(w.generation), "number"],
    ["Node", (w) => w.node || "this machine"],
    ["Reason", (w) => w.reason && h("div", { class: "reason" }, w.reason), "wide"],
  ];
  fill(content, h("h2", null, "Workers"), workers.length ? table("Workers", columns, workers)
    : h("p", { class: "soft" }, "It has no worker now: one is started when a request comes, unless something is wrong."));
}

function canary(view, endpoint) {
  const c = endpoint.canary, path = `/v1/model-endpoints/${endpoint.id}/canary`;
  const ran = (times) => (times.count ? `, in the worker p50 ${shownSeconds(times.p50)}, p99 ${shownSeconds(times.p99)}` : "");
  const side = (s) => `${s.workers} ${s.workers === 1 ? "worker" : "workers"}, ${s.failures} of ${s.requests} failed${ran(s.ran)}`;
  const live = c.status === "STARTING" || c.status === "SERVING";
  const percent = h("input", { type: "number", name: "percent", min: 0, max: 100, value: c.percent });
  return h("section", { class: "card" }, h("h2", null, "Canary"), facts(
    ["Status", [pill(c.status), c.reason && ` ${c.reason}`]], ["Bundle", c.bundle_name], ["Share", `${c.percent} %`],
    ["The canary", side(c.canary)], ["The others", side(c.endpoint)], ["Started", time(c.started_at)]),
  live && h("div", { class: "bar" },
    change(view, "Promote", { question: "Promote the canary?", because: `Its bundle ${c.bundle_name} becomes the endpoint's, with all of the traffic.`,
      run: () => send("POST", `${path}/promote`), done: "The canary is being promoted.", kind: "main" }),
    change(view, "Roll back", { question: "Roll the canary back?", because: "Its workers finish their running requests, and get no new ones.",
      run: () => send("POST", `${path}/rollback`), done: "The canary is being rolled back.", kind: "bad" }),
    field("Share in percent", percent),
    change(view, "Set the share", { question: "Change the canary's share?", because: "It is what the field says, of the predictions that come from now on.", action: "Change",
      run: () => send("PUT", path, { percent: Number(percent.value) }), done: "The share is set." })));
}

async function events(view, content, endpoint) {
  const columns = [
    ["When", (e) => time(e.last_at), "tight"],
    ["What", (e) => h("span", { class: /failed|crashed/.test(e.kind) ? "is-bad" : null }, e.kind.replaceAll("_", " ")), "tight"],
    ["Message", (e) => h("div", { class: "reason" }, e.message), "wide"],
    ["Times", (e) => (e.count > 1 ? e.count : "1"), "number"],
  ];
  await follow(view, 3, (signal) => get(`/v1/model-endpoints/${endpoint.id}/events`, {}, signal), ({ events: found }) =>
    fill(content, found.length ? table("Events", columns, [...found].reverse()) : empty("Nothing has happened yet.")));
}

function nameOf(view, endpoint) {
  return endpoint.created_by === view.session.who.owner ? endpoint.name : `${endpoint.created_by}/${endpoint.name}`;
}

async function builds(view, content, endpoint) {
  await follow(view, 5, (signal) => get(`/v1/hosted_inference/endpoints/creation_logs/${encodeURIComponent(nameOf(view, endpoint))}`, {}, signal),
    ({ content: text }) => fill(content, text ? h("pre", { class: "log", tabindex: 0 }, text) : empty("No environment was built for this endpoint.")));
}

async function openapi(view, content, endpoint) {
  const document = await get("/v1/model-endpoints-schema.json", { name: nameOf(view, endpoint) }, view.signal);
  const text = shownJson(document);
  fill(content, h("p", { class: "soft" }, "What its predictions take and give, as OpenAPI: programs that make clients read it."),
    h("div", { class: "bar" }, button("Save as a file", () => save(new Blob([text]), `${endpoint.name}.openapi.json`))), copyable(text));
}
