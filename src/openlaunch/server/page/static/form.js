// A form that is made of a JSON schema.
import { h, select } from "./lib.js";

// What a schema says once references and "or null" are followed.
export function resolved(schema, document) {
  for (let depth = 0; depth < 10 && schema; depth += 1) {
    if (schema.$ref) {
      const target = schema.$ref.replace(/^#\//, "").split("/").reduce((found, name) => found?.[name.replaceAll("~1", "/").replaceAll("~0", "~")], document);
      const { $ref, ...rest } = schema;
      schema = { ...target, ...rest };
    } else if (schema.anyOf) {
      const kinds = schema.anyOf.filter((each) => each.type !== "null");
      if (kinds.length !== 1) return schema;
      const { anyOf, ...rest } = schema;
      schema = { ...kinds[0], ...rest };
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
  const made = h("textarea", { name, spellcheck: "false", value: given == null ? "" : JSON.stringify(given, null, 2) });
  return { element: made, read: () => (made.value.trim() ? parsed(name, made.value) : undefined) };
}

// A string: typed, or a file's content, as text or where the schema asks for bytes as base64, in a data: URL if a function takes the file.
function text(name, kind, given) {
  const bytes = kind.format === "binary" || kind.format === "byte" || kind.contentEncoding === "base64" || kind.contentMediaType === "application/octet-stream";
  const typed = h(kind.maxLength > 80 || kind.maxLength == null ? "textarea" : "input", { name, rows: 2, value: given ?? "", spellcheck: "false" });
  const file = h("input", { type: "file", name: `${name}-file`, "aria-label": `A file for ${name}`, onchange: async () => {
    const [chosen] = file.files;
    if (chosen) typed.value = bytes ? await base64(chosen, Boolean(kind["x-openlaunch-binary"])) : await chosen.text();
  } });
  return { element: typed, file, read: () => (typed.value === "" ? undefined : typed.value) };
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
