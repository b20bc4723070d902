// Where notifications of one's endpoints and jobs are sent.
import { change, check, empty, field, fill, follow, get, h, say, send, table, time } from "./lib.js";

const KINDS = ["endpoint_failed", "endpoint_recovered", "queue_old", "queue_caught_up", "batch_job_ended"];

export async function notifications(view, content) {
  const url = h("input", { type: "url", name: "url", required: true, placeholder: "https://hooks.example/openlaunch" });
  const chosen = KINDS.map((kind) => [kind, h("input", { type: "checkbox", name: kind, checked: true })]);
  const list = h("div");
  fill(content, h("h1", null, "Notifications"), h("p", { class: "soft" }, "They are POSTed as JSON, signed as callbacks are, and again until they are taken."));
  content.append(h("form", { class: "card fields", onsubmit: async (event) => {
    event.preventDefault();
    try {
      await send("POST", "/v1/subscriptions", { url: url.value, events: chosen.filter(([, box]) => box.checked).map(([kind]) => kind) });
      url.value = "";
      say("The URL is subscribed.");
      await view.refresh();
    } catch (error) {
      say(error.message);
    }
  } }, field("URL", url), h("fieldset", { class: "bar" }, h("legend", null, "Events"), chosen.map(([kind, box]) => check(kind.replaceAll("_", " "), box))),
  h("div", { class: "bar" }, h("button", { class: "main" }, "Subscribe"))), list);
  const columns = [
    ["URL", (each) => each.url],
    ...(view.owner.owner ? [["Owner", (each) => each.owner]] : []),
    ["Events", (each) => each.events.map((kind) => kind.replaceAll("_", " ")).join(", "), "wide"],
    ["Made", (each) => time(each.created_at), "tight"],
    ["Actions", (each) => change(view, "Delete", { question: "Delete the subscription?", because: `${each.url} gets nothing more.`,
      run: () => send("DELETE", `/v1/subscriptions/${each.id}`), done: "The subscription is deleted.", kind: "bad", of: each.url })],
  ];
  await follow(view, 10, (signal) => get("/v1/subscriptions", view.owner, signal), ({ subscriptions: found }) =>
    fill(list, found.length ? table("Subscriptions", columns, found) : empty("No URL is subscribed.", "openlaunch subscriptions create https://hooks.example/openlaunch")));
}
