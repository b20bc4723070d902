// Shows an OpenAPI document, and sends requests to what it describes. Text of the document is only ever put into the
// page as text.
"use strict";

const root = new URL(document.body.dataset.root, location.href);
const METHODS = ["get", "post", "put", "patch", "delete"];

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function resolved(api, schema) {
  const seen = new Set();
  while (schema && schema.$ref && !seen.has(schema.$ref)) {
    seen.add(schema.$ref);
    const target = schema.$ref.split("/").slice(1).reduce((found, part) =>
      found?.[decodeURIComponent(part).replaceAll("~1", "/").replaceAll("~0", "~")], api);
    const { $ref, ...beside } = schema;
    schema = { ...target, ...beside };
  }
  return schema ?? {};
}

// A value that fits a schema, as far as its parts say what fits.
function example(api, given, depth = 0) {
  const schema = resolved(api, given);
  if (schema.default !== undefined) return schema.default;
  if (schema.const !== undefined) return schema.const;
  if (schema.examples?.length) return schema.examples[0];
  if (schema.enum) return schema.enum[0];
  if (depth > 6) return null;
  const part = schema.anyOf?.[0] ?? schema.oneOf?.[0];
  if (part) return example(api, part, depth + 1);
  if (schema.allOf) return Object.assign({}, ...schema.allOf.map((each) => example(api, each, depth + 1)));
  const type = Array.isArray(schema.type) ? schema.type[0] : schema.type;
  if (schema.properties) {
    const required = new Set(schema.required ?? Object.keys(schema.properties));
    const names = Object.keys(schema.properties).filter((name) => required.has(name));
    return Object.fromEntries(names.map((name) => [name, example(api, schema.properties[name], depth + 1)]));
  }
  return { object: {}, array: [], string: "", integer: 0, number: 0, boolean: false }[type] ?? null;
}

function asText(value) {
  return JSON.stringify(value, null, 2);
}

async function send(path, method, fields, body, output) {
  const query = new URLSearchParams();
  const headers = {};
  let address = path;
  for (const { where, name, input } of fields) {
    if (input.value === "") continue;
    if (where === "path") address = address.replace(`{${name}}`, encodeURIComponent(input.value));
    else if (where === "query") query.append(name, input.value);
    else if (where === "header") headers[name] = input.value;
  }
  const separator = address.includes("?") ? "&" : "?";
  const options = { method: method.toUpperCase(), headers };
  if (body) {
    headers["Content-Type"] = "application/json";
    options.body = body.value;
  }
  output.textContent = "…";
  try {
    const target = new URL(address.slice(1) + (query.size ? separator + query : ""), root);
    const answer = await fetch(target, options);
    output.textContent = `${answer.status} ${answer.statusText}\n`;
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
      output.append(piece.value);
    }
  } catch (problem) {
    output.append(`\n${problem}`);
  }
}

function operationOf(api, path, method, operation) {
  const content = operation.requestBody?.content ?? {};
  const schema = content["application/json"]?.schema;
  const fields = (operation.parameters ?? []).map((parameter) => {
    const title = parameter.description ?? "";
    return { where: parameter.in, name: parameter.name, input: element("input", { title }), needed: parameter.required };
  });
  const inside = element("div", { className: "operation" });
  inside.append(element("p", { textContent: operation.description ?? "" }));
  for (const { where, name, input, needed } of fields) {
    inside.append(element("label", {}, `${name} (${where}${needed ? ", required" : ""})`, input));
  }
  const body = schema ? element("textarea", { value: asText(example(api, schema)), spellcheck: false }) : null;
  if (body) inside.append(element("label", {}, "body (JSON)", body));
  const output = element("pre", { textContent: "" });
  const button = element("button", { type: "button", textContent: "Send" });
  button.addEventListener("click", () => send(path, method, fields, body, output));
  inside.append(button, output);
  if (schema) {
    const shown = element("pre", { textContent: asText(resolved(api, schema)) });
    inside.append(element("details", {}, element("summary", { textContent: "schema of the body" }), shown));
  }
  const name = operation.summary ?? operation.operationId ?? path;
  const row = element(
    "summary", {},
    element("strong", { textContent: name }),
    element("span", { className: "method", textContent: method.toUpperCase() }),
    element("code", { textContent: path }),
  );
  return element("details", {}, row, inside);
}

function show(api) {
  const groups = new Map();
  for (const [path, item] of Object.entries(api.paths)) {
    for (const method of METHODS.filter((each) => item[each])) {
      const operation = item[method];
      const tag = operation.tags?.[0] ?? "";
      if (!groups.has(tag)) groups.set(tag, []);
      groups.get(tag).push(operationOf(api, path, method, operation));
    }
  }
  const all = document.getElementById("operations");
  all.replaceChildren();
  for (const [tag, rows] of groups) {
    if (tag) all.append(element("h2", { textContent: tag }));
    all.append(...rows);
  }
  if (!groups.size) all.append(element("p", { textContent: "There is nothing to call yet." }));
}

async function load() {
  const answer = await fetch(new URL(document.body.dataset.document, root));
  if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`);
  show(await answer.json());
}

load().catch((problem) => {
  document.getElementById("operations").replaceChildren(
    element("p", { className: "problem", textContent: `The description could not be read: ${problem.message}` }),
  );
});
