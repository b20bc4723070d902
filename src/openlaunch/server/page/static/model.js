// A request to a language model, by one of the routes of OpenAI's API that its bundle serves.
import { copyable, field, fill, h, request, select, shownJson } from "./lib.js";
import { parsed } from "./form.js";
import { curl, eventsOf, requestForm } from "./answers.js";

const MESSAGES = [{ role: "user", content: "Hello!" }];
const EXAMPLES = {
  "/v1/chat/completions": { messages: MESSAGES, max_tokens: 256, stream: true },
  "/v1/completions": { prompt: "Once upon a time", max_tokens: 256, stream: true },
  "/v1/embeddings": { input: "Hello!" },
  "/v1/responses": { input: "Hello!", stream: true },
  "/v1/messages": { messages: MESSAGES, max_tokens: 256, stream: true },
  "/v1/rerank": { query: "a fruit", documents: ["apple", "hammer"] },
  "/v1/score": { text_1: "apple", text_2: ["pear", "hammer"] },
};

// The routes of a bundle of which the page knows a request.
export function routesOf(bundle) {
  return (bundle?.flavor.openai?.routes || []).filter((route) => EXAMPLES[route]);
}

export function tryModel(view, content, name, routes) {
  const body = h("textarea", { name: "request", rows: 14, spellcheck: "false" });
  const result = h("div", { "aria-live": "polite" }), code = h("div");
  const route = select("route", routes.map((each) => [each, each]), routes[0], () => begin());
  const showCode = () => fill(code, h("h2", null, "The same with curl"), copyable(curl(route.value, body.value, true)));
  const begin = () => { body.value = shownJson({ model: name, ...EXAMPLES[route.value] }); showCode(); };
  const send = (signal) => ask(route.value, parsed("The request", body.value), result, signal);
  const form = requestForm(view, "Send", result, send, field("Route", route), field("Request as JSON", body));
  body.addEventListener("input", showCode);
  content.replaceChildren(h("div", { class: "columns" }, h("div", null, form, result), code));
  begin();
}

async function ask(route, body, result, signal) {
  const began = performance.now();
  const seconds = () => `${((performance.now() - began) / 1000).toFixed(1)} s`;
  fill(result, h("p", { class: "soft" }, "It runs …"));
  const answer = await request(route, { method: "POST", body, signal });
  const text = h("pre", { tabindex: 0, role: "region", "aria-label": "Answer" }), heading = h("h2", null, "Answer");
  result.replaceChildren(h("section", { class: "card" }, heading, text));
  if (!answer.headers.get("content-type").startsWith("text/event-stream")) {
    text.textContent = shownJson(await answer.json());
  } else {
    for await (const { data } of eventsOf(answer)) {
      if (data && data !== "[DONE]") text.append(textOf(JSON.parse(data)));
    }
  }
  heading.textContent = `Answer in ${seconds()}`;
}

// The text that an event of a stream adds, in the shapes of the routes; an error as it is.
function textOf(event) {
  if (event.error) return `\n${shownJson(event.error)}`;
  const [choice] = event.choices || [];
  return choice?.delta?.content ?? choice?.delta?.reasoning_content ?? choice?.text ?? event.delta?.text ?? (typeof event.delta === "string" ? event.delta : "");
}
