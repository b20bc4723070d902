// Batch jobs, image jobs and triggers.
import { button, change, empty, facts, fill, follow, get, h, NOTHING, owned, pill, request, save, send, span, table, time } from "./lib.js";

const LIVE = ["PENDING", "RUNNING"];

export async function jobs(view, content, kind = "") {
  const body = h("div");
  fill(content, h("h1", null, "Jobs"), h("nav", { class: "tabs", "aria-label": "Kinds of jobs" },
    [["", "Batch jobs"], ["models", "Batches for models"], ["image", "Image jobs"], ["triggers", "Triggers"]].map(([name, text]) =>
      h("a", { href: `#jobs${name && `/${name}`}`, "aria-current": name === kind ? "page" : null }, text))));
  content.append(body);
  return { "": batchJobs, models: modelBatches, image: imageJobs, triggers }[kind](view, body);
}

function seconds(duration) {
  if (typeof duration === "number") return duration;
  const found = /^-?P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:([\d.]+)S)?)?$/.exec(duration) || [];
  return [86400, 3600, 60, 1].reduce((sum, unit, at) => sum + unit * Number(found[at + 1] || 0), 0);
}

// How many of all inputs are done, and, of a job that has run for `ran` seconds and still does, how long the others take.
function bar(done, total, ran) {
  const left = done && ran ? `, about ${span(ran / done * (total - done))} left` : "";
  return h("div", null, h("progress", { value: done, max: total, "aria-label": `${done} of ${total}` }), ` ${done} of ${total}${left}`);
}

function progress(job) {
  const done = job.num_tasks_completed, total = done == null ? null : done + job.num_tasks_pending, runs = job.status === "RUNNING";
  return total ? bar(done, total, runs && seconds(job.duration)) : runs ? "counting the inputs" : "–";
}

function cancel(view, path, id) {
  return change(view, "Cancel", { question: "Cancel the job?", because: `${id}: what runs is stopped.`, action: "Cancel it",
    run: () => send("PUT", path, { cancel: true }), done: "The job is cancelled.", kind: "bad", of: id });
}

async function batchJobs(view, content) {
  const columns = owned(view, [
    ["Job", (job) => job.job_id],
    ["Status", (job) => [pill(job.status), job.status_reason && h("div", { class: "reason soft" }, job.status_reason)], "wide"],
    ["Progress", progress],
    ["Labels", (job) => Object.entries(job.labels).map(([name, value]) => `${name}=${value}`).join(", ")],
    ["Started", (job) => time(job.created_at), "tight"],
    ["Took", (job) => span(seconds(job.duration)), "tight"],
    ["Actions", (job) => (job.result ? h("a", { href: job.result }, "results") : LIVE.includes(job.status) ? cancel(view, `/v1/batch-jobs/${job.job_id}`, job.job_id) : NOTHING)],
  ]);
  await follow(view, 3, (signal) => get("/v1/batch-jobs", view.owner, signal), ({ batch_jobs: found }) =>
    fill(content, found.length ? table("Batch jobs", columns, found) : empty("There are no batch jobs.", "openlaunch batch-jobs run --help")));
}

async function modelBatches(view, content) {
  const at = (moment) => moment && time(new Date(1000 * moment));
  const results = (batch, id, name) => id && button(name, async () => save(await (await request(`/v1/files/${id}/content`)).blob(), `${batch.id}-${name.toLowerCase()}.jsonl`), "", batch.id);
  const columns = owned(view, [
    ["Batch", (batch) => batch.id],
    ["Status", (batch) => [pill(batch.status), batch.errors?.data.map((error) => h("div", { class: "reason soft" }, error.message))], "wide"],
    ["Progress", ({ request_counts: counts, status, in_progress_at: began }) => (counts.total
      ? bar(counts.completed + counts.failed, counts.total, status === "in_progress" && Date.now() / 1000 - began) : "–")],
    ["Failed", (batch) => String(batch.request_counts.failed), "number"],
    ["Route", (batch) => batch.endpoint],
    ["Made", (batch) => at(batch.created_at), "tight"],
    ["Ends at the latest", (batch) => at(batch.expires_at), "tight"],
    ["Actions", (batch) => (["validating", "in_progress"].includes(batch.status)
      ? change(view, "Cancel", { question: "Cancel the batch?", because: `${batch.id}: what runs is stopped, and the answers that there are can be read.`, action: "Cancel it",
        run: () => send("POST", `/v1/batches/${batch.id}/cancel`), done: "The batch is cancelled.", kind: "bad", of: batch.id })
      : h("div", { class: "bar" }, results(batch, batch.output_file_id, "Answers"), results(batch, batch.error_file_id, "Errors")))],
  ]);
  await follow(view, 3, (signal) => get("/v1/batches", { ...view.owner, limit: 100 }, signal), ({ data: found }) =>
    fill(content, found.length ? table("Batches for models", columns, found) : empty("There are no batches of requests to language models.", "openlaunch docs batch-models")));
}

async function imageJobs(view, content) {
  const columns = owned(view, [
    ["Job", (job) => h("a", { href: `#jobs/image/${job.id}` }, job.id)],
    ["Status", (job) => [pill(job.status), job.status_reason && h("div", { class: "reason soft" }, job.status_reason)], "wide"],
    ["Trigger", (job) => job.trigger_id],
    ["Made", (job) => time(job.created_at), "tight"],
    ["Ended", (job) => job.completed_at && time(job.completed_at), "tight"],
    ["Actions", (job) => (LIVE.includes(job.status) ? cancel(view, `/v1/docker-image-batch-jobs/${job.id}`, job.id) : NOTHING)],
  ]);
  const trigger = view.query.get("trigger");
  await follow(view, 3, (signal) => get("/v1/docker-image-batch-jobs", { ...view.owner, trigger_id: trigger }, signal), ({ jobs: found }) =>
    fill(content, found.length ? table("Image jobs", columns, found) : empty("There are no image jobs.", "openlaunch image-jobs run --help")));
}

export async function oneImageJob(view, content, id) {
  const path = `/v1/docker-image-batch-jobs/${encodeURIComponent(id)}`;
  await follow(view, 3, async (signal) => [await get(path, {}, signal), await (await request(`${path}/logs`, { signal, headers: { Accept: "text/plain" } })).text()], ([job, log]) =>
    fill(content, h("h1", null, "Image job ", job.id), h("div", { class: "card" }, facts(["Status", pill(job.status)], ["Reason", job.status_reason], ["Owner", job.owner],
      ["Bundle", job.docker_image_batch_job_bundle_id], ["Made", time(job.created_at)], ["Started", job.started_at && time(job.started_at)], ["Ended", job.completed_at && time(job.completed_at)]),
    LIVE.includes(job.status) && h("div", { class: "bar" }, cancel(view, path, job.id))), h("h2", null, "Log"), h("pre", { class: "log", tabindex: 0 }, log || "It has printed nothing.")));
}

async function triggers(view, content) {
  const path = (trigger) => `/v1/triggers/${trigger.id}`;
  const columns = owned(view, [
    ["Trigger", (trigger) => trigger.name],
    ["Schedule (UTC)", (trigger) => h("code", null, trigger.cron_schedule), "tight wide"],
    ["Next", (trigger) => (trigger.suspended ? pill("suspended") : time(trigger.next_at)), "tight"],
    ["Made", (trigger) => time(trigger.created_at), "tight"],
    ["Of", (trigger) => (trigger.endpoint ? `endpoint ${trigger.endpoint}` : h("a", { href: `#jobs/image?trigger=${trigger.id}` }, "its jobs"))],
    ["Last", (trigger) => trigger.last_at && [time(trigger.last_at), " ", trigger.last_task_id ? h("a", { href: `#tasks/${trigger.last_task_id}` }, "its task") : h("div", { class: "reason soft" }, trigger.last_error)], "wide"],
    ["Actions", (trigger) => h("div", { class: "bar" },
      trigger.suspended ? change(view, "Resume", { question: `Resume the trigger ${trigger.name}?`, because: "It starts something at its next time.",
        run: () => send("PUT", path(trigger), { suspend: false }), done: "The trigger is resumed.", of: trigger.name })
        : change(view, "Suspend", { question: `Suspend the trigger ${trigger.name}?`, because: "It starts nothing until it is resumed.",
          run: () => send("PUT", path(trigger), { suspend: true }), done: "The trigger is suspended.", of: trigger.name }),
      change(view, "Delete", { question: `Delete the trigger ${trigger.name}?`, because: "Its jobs and tasks stay, and those that run continue.",
        run: () => send("DELETE", path(trigger)), done: "The trigger is deleted.", kind: "bad", of: trigger.name })), "wide"],
  ]);
  await follow(view, 5, (signal) => get("/v1/triggers", view.owner, signal), ({ triggers: found }) =>
    fill(content, found.length ? table("Triggers", columns, found) : empty("There are no triggers.", "openlaunch triggers create --help")));
}
