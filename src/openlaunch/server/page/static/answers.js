// What all predictions have in common: their form, the same with curl, the events of a stream, and problems.
import { fill, h, root } from "./lib.js";

// A form whose button sends a request, which another button stops. What goes wrong is shown in `result`.
export function requestForm(view, action, result, send, ...fields) {
  let running = null;
  const go = h("button", { class: "main" }, action);
  const stop = h("button", { type: "button", onclick: () => running?.abort() }, "Stop");
  stop.hidden = true;
  return h("form", { class: "card fields", onsubmit: async (event) => {
    event.preventDefault();
    running = new AbortController();
    view.signal.addEventListener("abort", () => running.abort());
    go.disabled = true;
    stop.hidden = false;
    try {
      await send(running.signal);
    } catch (error) {
      fill(result, running.signal.aborted ? h("p", null, "It was stopped.") : problem(error));
    } finally {
      go.disabled = false;
      stop.hidden = true;
    }
  } }, ...fields, h("div", { class: "bar" }, go, stop));
}

// The command that posts JSON to a path, and shows items of a stream as they come.
export function curl(path, json, streams) {
  const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  return `curl ${streams ? "-N " : ""}-u "$OPENLAUNCH_API_KEY:" \\\n  -H 'Content-Type: application/json' \\\n  -d ${quoted(json)} \\\n  ${quoted(`${root}${path.replace(/^\//, "")}`)}`;
}

export function problem(error) {
  return h("div", { class: "card problem", role: "alert" }, h("p", null, error.message),
    error.errors?.map((each) => h("p", null, `${(each.loc || []).join(".")}: ${each.msg || ""}`)));
}

// The server-sent events of an answer, as they come.
export async function* eventsOf(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split(/\r?\n\r?\n/);
    rest = parts.pop();
    for (const part of parts) {
      const found = { event: "message", data: [] };
      for (const line of part.split(/\r?\n/)) {
        const at = line.indexOf(":");
        if (at > 0) {
          const name = line.slice(0, at), text = line.slice(at + 1).replace(/^ /, "");
          if (name === "data") found.data.push(text);
          else found[name] = text;
        }
      }
      if (found.data.length || found.event !== "message") yield { ...found, data: found.data.join("\n") };
    }
  }
}
