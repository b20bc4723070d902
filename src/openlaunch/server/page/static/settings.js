// An endpoint's settings, in a form made of the schema of the request that changes them.
import { ask, field, fill, get, h, say, send } from "./lib.js";
import { input } from "./form.js";

const LEFT_OUT = ["model_bundle_id", "reset"];

export async function settings(view, content, endpoint) {
  const document = await get("/openapi.json", {}, view.signal);
  const schema = document.components.schemas.UpdateModelEndpointRequest;
  const now = { ...endpoint, ...endpoint.resource_state, ...endpoint.deployment_state };
  const fields = Object.entries(schema.properties).filter(([name]) => !LEFT_OUT.includes(name)).map(([name, each]) => {
    const value = name === "default_callback_auth" ? undefined : now[name];
    const made = input(name, { ...each, default: undefined }, value ?? undefined, document);
    return { name, made, before: JSON.stringify(made.read()), text: each.description };
  });
  const form = h("form", { class: "card", onsubmit: async (event) => {
    event.preventDefault();
    let changes;
    try {
      changes = Object.fromEntries(fields.map(({ name, made, before }) => [name, made.read(), before])
        .filter(([, value, before]) => value !== undefined && JSON.stringify(value) !== before));
    } catch (error) {
      return say(error.message);
    }
    if (!Object.keys(changes).length) return say("Nothing was changed.");
    const text = Object.entries(changes).map(([name, value]) => `${name}: ${JSON.stringify(value)}`).join(", ");
    if (!await ask(`Change ${endpoint.name}?`, text, "Change")) return;
    try {
      await send("PUT", `/v1/model-endpoints/${endpoint.id}`, changes);
      say("The settings are changed. New workers replace the old ones once they are ready.");
      location.hash = `#endpoints/${endpoint.id}`;
    } catch (error) {
      say([error.message, ...(error.errors || []).map((each) => `${(each.loc || []).join(".")}: ${each.msg}`)].join(" "));
    }
  } }, h("div", { class: "columns" }, fields.map(({ name, made, text }) => h("div", { class: "fields" }, field(name, made.element, text)))),
  h("div", { class: "bar" }, h("button", { class: "main" }, "Change the settings")));
  fill(content, h("p", { class: "soft" }, "A field that is left empty stays as it is."));
  content.append(form);
}
