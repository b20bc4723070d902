// The logs of an endpoint's workers, followed as they come, with a search. Only the last lines are kept.
import { check, field, fill, h, request, say } from "./lib.js";
import { eventsOf } from "./answers.js";

const KEPT = 2000;

export async function logs(view, content, endpoint) {
  const search = h("input", { type: "search", name: "search", placeholder: "words of a line" });
  const follows = h("input", { type: "checkbox", name: "follow", checked: true });
  const log = h("pre", { class: "log", tabindex: 0, "aria-label": "Log" }, "Waiting for lines …");
  const count = h("span", { class: "soft" });
  fill(content, h("div", { class: "bar" }, field("Search", search), check("Stay at the end", follows), count), log);
  let lines = [], dropped = 0, drawn = false;
  const draw = () => {
    drawn = false;
    const word = search.value.toLowerCase();
    const wanted = word ? lines.filter((line) => line.toLowerCase().includes(word)) : lines;
    log.textContent = wanted.join("\n") || (lines.length ? "No line has this." : "There are no lines yet: what the model prints is shown here.");
    count.textContent = `${wanted.length} lines${dropped ? `, ${dropped} earlier ones are not kept here` : ""}`;
    if (follows.checked) log.scrollTop = log.scrollHeight;
  };
  // Drawn a few times a second, however many lines come.
  const drawSoon = () => { if (!drawn) { drawn = true; setTimeout(draw, 150); } };
  search.addEventListener("input", drawSoon);
  follows.addEventListener("change", drawSoon);
  drawSoon();

  let since = "";
  while (!view.signal.aborted) {
    try {
      const answer = await request(`/v1/model-endpoints/${endpoint.id}/logs`, {
        query: { follow: true, ...(since ? { since } : { tail_lines: KEPT / 2 }) }, signal: view.signal });
      for await (const { event, data } of eventsOf(answer)) {
        if (event === "end") return;
        const { worker, line, at } = JSON.parse(data);
        since = at || since;
        lines.push(`${(at || "").slice(11, 23)} ${worker} ${line}`);
        if (lines.length > KEPT * 1.5) { dropped += lines.length - KEPT; lines = lines.slice(-KEPT); }
        drawSoon();
      }
    } catch (error) {
      if (view.signal.aborted) return;
      if (error.status && error.status !== 429 && error.status !== 503) throw error;
      say(`${error.message} The log is asked for again.`);
    }
    await new Promise((resolve) => setTimeout(resolve, 2000));
  }
}
