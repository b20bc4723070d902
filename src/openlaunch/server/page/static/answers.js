// What answers to predictions have in common: the events of a stream, and problems.
import { h } from "./lib.js";

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
