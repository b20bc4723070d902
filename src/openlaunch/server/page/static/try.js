// A prediction made from a form of the endpoint's request schema, and the code that makes the same one.
import { button, check, copyable, field, fill, get, h, request, save, shownJson } from "./lib.js";
import { example, input, parsed, resolved } from "./form.js";
import { curl, eventsOf, requestForm } from "./answers.js";
import { routesOf, tryModel } from "./model.js";

const PATHS = { sync: "v1/sync-tasks", async: "v1/async-tasks", streaming: "v1/streaming-tasks" };

export async function tryIt(view, content, endpoint) {
  const mine = endpoint.created_by === view.session.who.owner;
  const name = mine ? endpoint.name : `${endpoint.created_by}/${endpoint.name}`;
  const bundle = endpoint.serving_bundle_id && await get(`/v2/model-bundles/${endpoint.serving_bundle_id}`, {}, view.signal).catch(() => null);
  const routes = routesOf(bundle);
  if (routes.length) return tryModel(view, content, name, routes);
  const document = await get("/v1/model-endpoints-schema.json", { name }, view.signal).catch(() => ({}));
  const schema = resolved(document.components?.schemas?.[`${endpoint.name}-RequestSchema`], document);
  const isNeeded = (key) => (schema.required || []).includes(key);
  const properties = Object.entries(schema.properties || {}).sort(([a], [b]) => isNeeded(b) - isNeeded(a));
  const inputs = properties.map(([key, each]) => [key, input(key, each, undefined, document), resolved(each, document)]);
  const whole = h("textarea", { name: "args", spellcheck: "false", value: inputs.length ? "" : "{}" });
  const asJson = h("input", { type: "checkbox", name: "as-json", checked: !inputs.length });
  const place = h("div", { class: "inputs" }), result = h("div", { "aria-live": "polite" }), code = h("div");

  const args = () => {
    if (asJson.checked) return parsed("The input", whole.value || "{}");
    return Object.fromEntries(inputs.map(([key, each]) => [key, each.read()]).filter(([, value]) => value !== undefined));
  };
  const draw = () => {
    if (asJson.checked && inputs.length && !whole.value) whole.value = JSON.stringify(args_(inputs, document), null, 2);
    fill(place, asJson.checked ? field("Input as JSON", whole) : inputs.map(([key, each, kind]) => {
      const hint = [isNeeded(key) ? "Needed." : "", kind.description].filter(Boolean).join(" ");
      return h("div", { class: "fields" }, field(key, each.element, hint), each.file);
    }));
  };
  const showCode = () => {
    let given;
    try { given = args(); } catch { return; }
    fill(code, h("h2", null, "The same with curl"), copyable(curlOf(endpoint, given)), h("h2", null, "The same in Python"), copyable(python(endpoint, name, given)));
  };
  const send = (signal) => predict(view, endpoint, args(), result, signal);
  const form = requestForm(view, "Predict", result, send, place, inputs.length > 0 && check("Write the input as JSON", asJson));
  asJson.addEventListener("change", () => { draw(); showCode(); });
  form.addEventListener("input", showCode);
  content.replaceChildren(h("div", { class: "columns" }, h("div", null, form, result), code));
  draw();
  showCode();
}

function args_(inputs, document) {
  return Object.fromEntries(inputs.map(([key, each, kind]) => {
    try { return [key, each.read() ?? example(kind, document)]; } catch { return [key, each.element.value]; }
  }));
}

function answered(answer, seconds) {
  const failed = answer.status === "FAILURE";
  let value = answer.result?.result;
  if (typeof value === "string" && !failed) { try { value = JSON.parse(value); } catch { /* it is text */ } }
  return h("section", { class: failed ? "card problem" : "card" }, h("h2", null, failed ? "It failed" : "Result", seconds != null && ` in ${seconds < 1 ? `${Math.round(seconds * 1000)} ms` : `${seconds.toFixed(1)} s`}`),
    answer.result?.result_url && h("p", null, h("a", { href: answer.result.result_url }, "The result is large: open it")),
    !failed && files(value).map(([name, blob]) => h("p", null, button(`Save ${name}`, () => save(blob, name)))),
    answer.error && h("p", null, `${answer.error.type}: ${answer.error.message}`),
    h("pre", { tabindex: 0 }, failed ? answer.traceback || "" : shownJson(value) ?? ""));
}

// The files in a value, which are data: URLs, with names.
function files(value) {
  const texts = (value?.constructor === Object ? Object.values(value) : [value].flat()).filter((each) => typeof each === "string");
  return texts.map((text) => /^data:([^;,]*)[^,]*;base64,(.*)$/s.exec(text)).filter(Boolean).map(([, type, data], at) => {
    const bytes = Uint8Array.from(atob(data), (each) => each.charCodeAt(0));
    return [`result-${at + 1}.${type.split("/")[1]?.replace(/[^a-z0-9]/g, "") || "bin"}`, new Blob([bytes], { type: "application/octet-stream" })];
  });
}

async function predict(view, endpoint, args, result, signal) {
  const query = { model_endpoint_id: endpoint.id, ...(view.session.who.role === "admin" && endpoint.created_by !== view.session.who.owner ? { owner: endpoint.created_by } : {}) };
  const began = performance.now();
  const seconds = () => (performance.now() - began) / 1000;
  fill(result, h("p", { class: "soft" }, "It runs …"));
  const answer = await request(PATHS[endpoint.endpoint_type], { method: "POST", query, body: { args }, signal });
  if (endpoint.endpoint_type === "sync") return fill(result, answered(await answer.json(), seconds()));
  if (endpoint.endpoint_type === "streaming") return stream(answer, result, seconds);
  const { task_id: id } = await answer.json();
  const link = h("p", null, "The task is ", h("a", { href: `#tasks/${id}` }, id), ".");
  fill(result, link, h("p", { class: "soft" }, "It waits or runs …"));
  for (;;) {
    const task = await get(`/v1/async-tasks/${id}`, { wait: 30, owner: query.owner }, signal);
    if (task.status === "SUCCESS" || task.status === "FAILURE") return fill(result, link.cloneNode(true), answered(task, seconds()));
  }
}

async function stream(answer, result, seconds) {
  const items = h("pre", { tabindex: 0 }), heading = h("h2", null, "Items");
  result.replaceChildren(h("section", { class: "card" }, heading, items));
  let count = 0;
  for await (const { data } of eventsOf(answer)) {
    if (!data) continue;
    const item = JSON.parse(data);
    if (item.status === "FAILURE") return result.append(answered(item));
    count += 1;
    heading.textContent = `${count} items in ${seconds().toFixed(1)} s`;
    items.append(`${shownJson(item.result?.result) ?? data}\n`);
    items.scrollTop = items.scrollHeight;
  }
}

function curlOf(endpoint, args) {
  const path = `${PATHS[endpoint.endpoint_type]}?model_endpoint_id=${endpoint.id}`;
  return curl(path, JSON.stringify({ args }), endpoint.endpoint_type === "streaming");
}

function literal(value) {
  if (value === null) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
  if (typeof value === "object") return `{${Object.entries(value).map(([key, each]) => `${JSON.stringify(key)}: ${literal(each)}`).join(", ")}}`;
  return JSON.stringify(value);
}

function python(endpoint, name, args) {
  const call = `endpoint.predict(EndpointRequest(args=${literal(args)}))`;
  const use = { sync: `print(${call}.value)`, async: `print(${call}.get(60).value)`, streaming: `for item in ${call}:\n    print(item)` }[endpoint.endpoint_type];
  return `from openlaunch import EndpointRequest, LaunchClient\n\nwith LaunchClient() as client:\n    endpoint = client.get_model_endpoint(${JSON.stringify(name)})\n    ${use.replaceAll("\n", "\n    ")}`;
}
