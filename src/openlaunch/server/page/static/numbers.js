// All that the server has counted of an endpoint since it started.
import { facts, fill, follow, get, h, shownSeconds, size, table, tally } from "./lib.js";

const TIMES = [["whole", "A prediction, from its wait to its answer"], ["waited", "Its wait for a slot"], ["ran", "Its run in a worker"],
  ["first_item", "A stream until its first item"], ["gaps", "Between what came together of a stream"],
  ["build", "A build of the environment"], ["process", "The start of a worker's process"], ["load", "The load of the bundle"]];

export async function numbers(view, content, endpoint) {
  const columns = [
    ["Time of", ([, text]) => text],
    ["How many", ([, , found]) => found.count.toLocaleString(), "number"],
    ["Mean", ([, , found]) => shownSeconds(found.mean), "number"],
    ["p50", ([, , found]) => shownSeconds(found.p50), "number"],
    ["p99", ([, , found]) => shownSeconds(found.p99), "number"],
  ];
  await follow(view, 5, (signal) => get(`/v1/model-endpoints/${endpoint.id}/metrics`, {}, signal), ({ since_start: n }) => fill(content,
    h("p", { class: "soft" }, "Counted since the server started. p50 and p99 are as exact as the buckets of the histograms."),
    table("Times", columns, TIMES.map(([name, text]) => [name, text, n.times[name]]).filter(([, , found]) => found.count)),
    h("div", { class: "card" }, facts(
      ["Predictions", tally(n.ended) || "none"],
      ["Errors by code", tally(n.errors) || "none"],
      ["Bytes of inputs", size(n.request_bytes)],
      ["Bytes of results", size(n.response_bytes)],
      ["Batches", n.batches.count ? `${n.batches.count.toLocaleString()}, with ${n.batches.mean_size.toFixed(1)} predictions on average` : null],
      ["Resumed streams", n.resumes || null],
      ["Tokens", tally(n.tokens)],
      ["Tasks", endpoint.endpoint_type === "async" ? `${n.submitted.toLocaleString()} submitted, ${n.retries.toLocaleString()} retries, ${n.dead_letters.toLocaleString()} failed by their last attempt` : null],
      ["Workers that ended", tally(n.worker_ends) || "none"],
      ["Events", tally(n.events)],
    ))));
}
