// Tasks: the list, the failed ones together, and one of them.
import { ask, button, change, empty, facts, field, fill, follow, get, h, pill, say, select, send, shownJson, shownSeconds, span, table, time } from "./lib.js";
import { listOf } from "./endpoints.js";

const STATES = [["", "all"], ["PENDING", "pending"], ["STARTED", "running"], ["SUCCESS", "success"], ["FAILURE", "failed"]];

function statusOf(task) {
  return pill(task.status === "FAILURE" && task.status_code === 499 ? "CANCELLED" : task.status);
}

function took(task) {
  const seconds = (new Date(task.finished_at) - new Date(task.created_at)) / 1000;
  return task.finished_at ? (seconds < 60 ? shownSeconds(seconds) : span(seconds)) : "–";
}

// A time in the form of an input is the browser's own; the server's is UTC.
function utcOf(local) {
  return local && new Date(local).toISOString();
}

function localOf(utc) {
  const date = new Date(utc);
  return isNaN(date) ? "" : new Date(date - date.getTimezoneOffset() * 60000).toISOString().slice(0, 16);
}

export async function taskList(view, content) {
  const waits = (await listOf(view, view.signal)).filter((e) => e.endpoint_type === "async");
  const wanted = Object.fromEntries(["endpoint", "status", "label", "since", "until"].map((name) => [name, view.query.get(name) || ""]));
  const go = () => {
    const given = { endpoint: endpoint.value, status: status.value, label: label.value.trim(), since: utcOf(since.value), until: utcOf(until.value) };
    const query = new URLSearchParams(Object.entries(given).filter(([, value]) => value));
    location.hash = `#tasks${String(query) && `?${query}`}`;
  };
  const endpoint = select("endpoint", [["", "all"], ...waits.map((e) => [e.id, view.owner.owner ? `${e.owner}/${e.name}` : e.name])], wanted.endpoint, go);
  const status = select("status", STATES, wanted.status, go);
  const label = h("input", { type: "search", name: "label", value: wanted.label, placeholder: "team=nlp", pattern: "[^=]+=.*", title: "NAME=VALUE" });
  const [since, until] = ["since", "until"].map((name) => h("input", { type: "datetime-local", name, value: localOf(wanted[name]) }));
  const id = h("input", { type: "search", name: "id" });
  const body = h("div"), rest = h("div");
  let cursors = [null], found = [];
  const query = (cursor) => ({ model_endpoint_id: wanted.endpoint, status: wanted.status, label: wanted.label, since: wanted.since, until: wanted.until, limit: 100, cursor, ...view.owner });
  fill(content, h("h1", null, wanted.status === "FAILURE" ? "Failed tasks" : "Tasks"),
    h("form", { class: "bar", onsubmit: (event) => { event.preventDefault(); if (id.value.trim()) location.hash = `#tasks/${encodeURIComponent(id.value.trim())}`; else go(); } },
      field("Endpoint", endpoint), field("Status", status), field("Label of its endpoint", label), field("Submitted from", since), field("Submitted until", until),
      field("Id", id), h("button", null, "Search")));
  content.append(body, rest);
  const columns = [
    ["Task", (task) => h("a", { href: `#tasks/${task.task_id}` }, task.task_id)],
    ["Endpoint", (task) => (task.model_endpoint_name ? h("a", { href: `#endpoints/${task.model_endpoint_id}` }, task.model_endpoint_name) : "(deleted)")],
    ...(view.owner.owner ? [["Owner", (task) => task.owner]] : []),
    ["Status", statusOf],
    ["Reason", (task) => task.reason && h("div", { class: "reason", title: task.reason }, task.reason), "wide"],
    ["Attempts", (task) => task.attempts, "number"],
    ["Submitted", (task) => time(task.created_at), "tight"],
    ["Took", took, "tight"],
  ];
  const rerunAll = () => button("Run all of these again", async () => {
    const failed = found.filter((task) => task.status === "FAILURE" && task.model_endpoint_name);
    if (!await ask(`Run ${failed.length} tasks again?`, "Each becomes a new task with the same input.", "Run again")) return;
    let done = 0;
    for (const task of failed) { await send("POST", `/v1/async-tasks/${task.task_id}/rerun`).then(() => { done += 1; }, (error) => say(error.message)); }
    say(`${done} tasks were submitted again.`);
    await view.refresh();
  });
  await follow(view, 5, async (signal) => Promise.all(cursors.map((cursor) => get("/v1/async-tasks", query(cursor), signal))), (pages) => {
    found = pages.flatMap((page) => page.tasks);
    const next = pages.at(-1).next_cursor;
    fill(body, found.length ? table("Tasks", columns, found) : Object.values(wanted).some(Boolean) ? empty("No task fits.")
      : empty("There are no tasks.", "openlaunch predict my-model --args x=1"));
    fill(rest, h("div", { class: "bar" }, wanted.status === "FAILURE" && found.length > 0 && rerunAll(),
      next && button("Show earlier ones", () => { cursors = [...cursors, next].slice(-10); return view.refresh(); })));
  });
}

export async function oneTask(view, content, id) {
  const path = `/v1/async-tasks/${encodeURIComponent(id)}`;
  const optional = (found) => found.catch((error) => { if (error.status) return null; throw error; });
  let owner = {}, payload, asked = false;
  const load = async (signal) => {
    const task = await get(`${path}/details`, owner, signal);
    if (view.session.who.role === "admin" && task.owner && task.owner !== view.session.who.owner) owner = { owner: task.owner };
    if (!asked && task.status !== "SUCCESS") payload = await optional(get(`${path}/payload`, owner, signal));  // once it has succeeded, there is none
    asked = true;
    const [answer, why, deliveries] = await Promise.all([optional(get(path, owner, signal)), optional(get(`${path}/why`, owner, signal)),
      view.session.who.role === "predict" ? null : optional(get(`${path}/deliveries`, owner, signal))]);
    return { task, answer, why, deliveries: deliveries?.deliveries || [] };
  };
  await follow(view, 3, load, ({ task, answer, why, deliveries }) => {
    view.title(task.task_id);
    const ended = task.status === "SUCCESS" || task.status === "FAILURE";
    let value = answer?.result?.result;
    if (typeof value === "string") { try { value = JSON.parse(value); } catch { /* it is text */ } }
    fill(content, h("h1", null, "Task ", task.task_id),
      h("div", { class: "card" }, facts(["Status", statusOf(task)], ["Why", why?.message],
        ["Progress", answer?.progress && h("div", null, h("progress", { value: answer.progress.fraction, "aria-label": "Progress" }), ` ${Math.round(100 * answer.progress.fraction)} % ${answer.progress.text}`)],
        ["Endpoint", task.model_endpoint_name ? h("a", { href: `#endpoints/${task.model_endpoint_id}` }, task.model_endpoint_name) : "(deleted)"],
        ["Owner", task.owner], ["Attempts", String(task.attempts)], ["Submitted", time(task.created_at)], ["Ended", task.finished_at && time(task.finished_at)], ["Took", ended ? took(task) : null]),
      h("div", { class: "bar" },
        task.status === "FAILURE" && change(view, "Run again", { question: "Run the task again?", because: "It becomes a new task with the same input.",
          run: () => send("POST", `${path}/rerun`, undefined, owner), done: "It was submitted again, as a new task.", to: ({ task_id: next }) => `#tasks/${next}`, kind: "main" }),
        !ended && change(view, "Cancel the task", { question: "Cancel the task?", because: "It is stopped if it runs, and ends as a failure that says so.", action: "Cancel it",
          run: () => send("POST", `${path}/cancel`, undefined, owner), done: "The task is cancelled.", kind: "bad" }))),
      answer?.error && h("div", { class: "card problem" }, `${answer.error.type}: ${answer.error.message}`),
      answer?.traceback && [h("h2", null, "Traceback"), h("pre", { tabindex: 0 }, answer.traceback)],
      task.status === "SUCCESS" && [h("h2", null, "Result"), answer?.result?.result_url
        ? h("p", null, h("a", { href: answer.result.result_url }, "The result is large: open it")) : h("pre", { tabindex: 0 }, shownJson(value) ?? "null")],
      h("h2", null, "Input"), payload ? h("pre", { tabindex: 0 }, shownJson(payload.args ?? payload.url ?? payload)) : h("p", { class: "soft" }, "The input is not kept once the task has succeeded."),
      deliveries.length > 0 && [h("h2", null, "Callback"), deliveries.map((delivery) => [
        facts(["Sent to", delivery.url], ["Status", pill(delivery.status)], ["Next try", delivery.next_at && time(delivery.next_at)]),
        table("Attempts", [["When", (a) => time(a.at)], ["Answer", (a) => a.status_code ?? a.error], ["Seconds", (a) => a.seconds.toFixed(3), "number"]], delivery.attempts),
        h("div", { class: "bar" }, change(view, "Send it again", { question: "Send the callback again?", because: `${delivery.url} gets the same result once more.`,
          run: () => send("POST", `${path}/deliveries/resend`, undefined, owner), done: "The callback is being sent." }))])]);
  });
}
