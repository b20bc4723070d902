// A form that is made of a JSON schema.
import { h, select } from "./lib.js";

// What a schema says once references and "or null" are followed.
export function resolved(schema, document) {
  for (let depth = 0; depth < 10 && schema; depth += 1) {
    if (schema.$ref) {
      const target = schema.$ref.replace(/^#\//, "").split("/").reduce((found, name) => found?.[name.replaceAll("~1", "/").replaceAll("~0", "~")], document);
      const { $ref, ...rest } = schema;
      schema = { ...target, ...rest };
    } else if (schema.anyOf || schema.oneOf) {
      const kinds = (schema.anyOf || schema.oneOf).filter((each) => each.type !== "null");
      if (kinds.length !== 1) return schema;
      const { anyOf, oneOf, ...rest } = schema;
      schema = { ...kinds[0], ...rest };
    } else if (Array.isArray(schema.type) && schema.type.filter((each) => each !== "null").length === 1) {
      schema = { ...schema, type: schema.type.find((each) => each !== "null") };
    } else if (schema.allOf?.length === 1) {
      const { allOf, ...rest } = schema;
      schema = { ...allOf[0], ...rest };
    } else return schema;
  }
  return schema || {};
}

// A field of a schema: its element, and what reads its value; undefined where it was left empty.
export function input(name, schema, value, document) {
  const kind = resolved(schema, document);
  const given = value ?? kind.default;
  if (kind.enum || kind.const !== undefined) {
    const options = (kind.enum || [kind.const]).map((each) => [JSON.stringify(each), String(each)]);
    const made = select(name, [["", "–"], ...options], given == null ? "" : JSON.stringify(given));
    return { element: made, read: () => (made.value ? JSON.parse(made.value) : undefined) };
  }
  if (kind.type === "boolean") {
    const made = select(name, [["", "–"], ["true", "yes"], ["false", "no"]], given == null ? "" : String(given));
    return { element: made, read: () => (made.value ? made.value === "true" : undefined) };
  }
  if (kind.type === "integer" || kind.type === "number") {
    const least = kind.minimum ?? (kind.exclusiveMinimum != null && kind.type === "integer" ? kind.exclusiveMinimum + 1 : null);
    const made = h("input", { name, type: "number", step: kind.type === "integer" ? 1 : "any", min: least, max: kind.maximum, value: given ?? "" });
    return { element: made, read: () => (made.value === "" ? undefined : Number(made.value)) };
  }
  const kinds = kind.anyOf?.map((each) => resolved(each, document).type).filter((each) => each !== "null");
  if (kinds?.length && kinds.every((each) => ["string", "integer", "number"].includes(each))) {
    const made = h("input", { name, value: given ?? "", spellcheck: "false" });
    const isNumber = (typed) => !kinds.every((each) => each === "string") && /^-?\d+(\.\d+)?$/.test(typed);
    return { element: made, read: () => { const typed = made.value.trim(); return typed === "" ? undefined : isNumber(typed) ? Number(typed) : typed; } };
  }
  if (kind.type === "string") return text(name, kind, given);
  return json(name, kind, given, kinds?.includes("string"), document);
}

// Anything else, written as JSON; a text as it is where the schema takes one. What is empty shows what it should look like.
function json(name, kind, given, takesText, document) {
  const like = JSON.stringify(example(kind, document), null, 2);
  const made = h("textarea", { name, spellcheck: "false", rows: Math.min(12, Math.max(2, like.split("\n").length)), placeholder: like, value: given == null ? "" : JSON.stringify(given, null, 2) });
  const items = kind.type === "array" ? resolved(kind.items, document) : {};
  const several = isFile(items) || Boolean(items["x-openlaunch-binary"]);
  const file = (several || kind["x-openlaunch-binary"]) && picker(name, several, async (chosen) => {
    const urls = await Promise.all(chosen.map((each) => base64(each, true)));
    made.value = JSON.stringify(several ? urls : urls[0]);
  });
  const read = () => {
    const typed = made.value.trim();
    if (typed === "") return undefined;
    try { return parsed(name, typed); } catch (error) { if (takesText) return typed; throw error; }
  };
  return { element: made, file, read };
}

function isFile(kind) {
  return kind.type === "string" && (kind.format === "binary" || kind.format === "byte" || kind.contentEncoding === "base64" || kind.contentMediaType === "application/octet-stream");
}

// A value that looks like those of a schema.
export function example(schema, document, depth = 0) {
  const kind = resolved(schema, document);
  if (kind.default != null || kind.const !== undefined) return kind.default ?? kind.const;
  if (kind.enum) return kind.enum[0];
  if (kind.anyOf || kind.oneOf) return example((kind.anyOf || kind.oneOf)[0], document, depth);
  if (kind.type === "integer" || kind.type === "number") return kind.minimum ?? 0;
  if (kind.type === "boolean") return false;
  if (kind.type === "string") return isFile(kind) ? "data:…" : LIKE[kind.format] ?? "";
  if (kind.type === "object") {
    const own = Object.entries(kind.properties || {}).filter(([key]) => kind.required?.includes(key) || depth === 0);
    return depth > 4 ? {} : Object.fromEntries(own.map(([key, each]) => [key, example(each, document, depth + 1)]));
  }
  if (kind.prefixItems) return kind.prefixItems.map((each) => example(each, document, depth + 1));
  if (kind.type === "array") return depth > 4 || !kind.items ? [] : [example(kind.items, document, depth + 1)];
  return [].concat(kind.type || []).includes("array") ? [[0, 1], [2, 3]] : null;
}

// Texts of formats that are written in one line.
const LIKE = { "date-time": "2026-01-31T12:00:00Z", date: "2026-01-31", time: "12:00:00", duration: "PT1H30M", uuid: "00000000-0000-4000-8000-000000000000", email: "name@example.com", uri: "https://example.com" };

// A string: typed, or a file's content, as text or where the schema asks for bytes as base64, in a data: URL if a function takes the file.
function text(name, kind, given) {
  if (kind.format in LIKE) {
    const made = h("input", { name, value: given ?? "", placeholder: LIKE[kind.format], spellcheck: "false" });
    return { element: made, read: () => made.value.trim() || undefined };
  }
  const typed = h(kind.maxLength > 80 || kind.maxLength == null ? "textarea" : "input", { name, rows: 2, value: given ?? "", spellcheck: "false" });
  const file = picker(name, false, async ([chosen]) => {
    typed.value = isFile(kind) ? await base64(chosen, Boolean(kind["x-openlaunch-binary"])) : await chosen.text();
  });
  return { element: typed, file, read: () => (typed.value === "" ? undefined : typed.value) };
}

function picker(name, multiple, taken) {
  const file = h("input", { type: "file", multiple, name: `${name}-file`, "aria-label": multiple ? `Files for ${name}` : `A file for ${name}`, onchange: async () => {
    if (!file.files.length) return;
    await taken([...file.files]);
    file.dispatchEvent(new Event("input", { bubbles: true }));
  } });
  return file;
}

function base64(file, whole) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(whole ? reader.result : reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}

export function parsed(name, text) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(`${name} is not JSON: ${error.message}`);
  }
}
