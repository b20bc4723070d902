// The frame of the page: signing in, the navigation, and which view is shown.
import { ask, button, field, get, h, request, root, say, select, send, sentence } from "./lib.js";
import { endpointList, oneEndpoint } from "./endpoints.js";
import { oneTask, taskList } from "./tasks.js";
import { jobs, oneImageJob } from "./jobs.js";
import { stored } from "./stored.js";
import { admin } from "./admin.js";
import { notifications } from "./notifications.js";

const ROUTES = [
  [/^endpoints$/, endpointList, "Endpoints"],
  [/^endpoints\/([^/]+)(?:\/([a-z-]+))?$/, oneEndpoint, "Endpoint"],
  [/^tasks$/, taskList, "Tasks"],
  [/^tasks\/([^/]+)$/, oneTask, "Task"],
  [/^jobs(?:\/(models|image|triggers))?$/, jobs, "Jobs"],
  [/^jobs\/image\/([^/]+)$/, oneImageJob, "Image job"],
  [/^stored(?:\/(bundles|environments))?$/, stored, "Files"],
  [/^notifications$/, notifications, "Notifications"],
  [/^admin(?:\/(keys|audit|server))?$/, admin, "Admin"],
];
const main = document.getElementById("main");
const bar = document.getElementById("top");
const session = { who: null, owner: null };
let ended = new AbortController();

async function begin() {
  const link = new URLSearchParams(location.hash.slice(1)).get("link");
  try {
    if (link) {
      history.replaceState(null, "", root);
      session.who = await send("POST", "/page/sign-in", { link });
    } else {
      session.who = await get("/v1/whoami");
    }
  } catch (error) {
    return signIn(error.status === 401 && !link ? "" : error.message);
  }
  signedIn();
}

function signedIn() {
  session.owner = session.who.role === "admin" ? sessionStorage.getItem("owner") ?? "*" : "";
  show();
}

function signIn(problem = "") {
  ended.abort();
  session.who = null;
  bar.replaceChildren();
  document.title = "Sign in – Openlaunch";
  const wrong = h("p", { class: "is-bad", role: "alert" }, problem);
  const key = h("input", { type: "password", name: "key", autocomplete: "current-password", required: true, spellcheck: "false" });
  const form = h("form", { class: "card sign-in fields", onsubmit: async (event) => {
    event.preventDefault();
    try {
      session.who = await send("POST", "/page/sign-in", { key: key.value.trim() });
      signedIn();
    } catch (error) {
      wrong.textContent = error.message;
      key.select();
    }
  } }, h("h1", null, "Openlaunch"), field("API key", key), wrong, h("button", { class: "main" }, "Sign in"),
    h("p", { class: "soft" }, "On the machine of the server, ", h("code", null, "openlaunch ui"),
      " signs you in. Another key is made with ", h("code", null, "openlaunch keys create --owner NAME"), "."));
  main.replaceChildren(form);
  key.focus();
}

function header(path) {
  const parts = [["endpoints", "Endpoints"], ["tasks", "Tasks"]];
  if (session.who.role !== "predict") parts.push(["jobs", "Jobs"], ["stored", "Files"], ["notifications", "Notifications"]);
  if (session.who.role === "admin") parts.push(["admin", "Admin"]);
  const owners = session.who.role === "admin" && h("label", null, h("span", null, "Show "),
    select("owner", [["*", "everybody's"], ["", "my own"]], session.owner, (event) => {
      session.owner = event.target.value;
      sessionStorage.setItem("owner", session.owner);
      show();
    }));
  bar.replaceChildren(
    h("a", { class: "brand", href: "#endpoints" }, "Openlaunch"),
    h("nav", { "aria-label": "Main" }, parts.map(([name, text]) =>
      h("a", { href: `#${name}`, "aria-current": path.split("/")[0] === name ? "page" : null }, text))),
    h("div", { class: "who" }, owners, h("span", { class: "soft" }, `${session.who.owner} (${session.who.role})`),
      button("Sign out", async () => {
        if (!await ask("Sign out?", "", "Sign out")) return;
        await request("/page/sign-out", { method: "POST" });
        signIn();
      })));
}

function show() {
  if (!session.who) return;
  ended.abort();
  ended = new AbortController();
  const [path, query] = location.hash.slice(1).split("?");
  if (path === "main") return main.focus();
  const found = ROUTES.map(([pattern, view, title]) => [pattern.exec(path || "endpoints"), view, title]).find(([match]) => match);
  header(path || "endpoints");
  const view = {
    signal: ended.signal,
    session,
    query: new URLSearchParams(query),
    // What lists ask for: an admin sees everybody's things, or the own ones.
    owner: session.owner ? { owner: session.owner } : {},
    title: (text) => { document.title = `${text} – Openlaunch`; },
    fail: (error) => main.replaceChildren(h("div", { class: "card problem", role: "alert" }, h("h1", null, "This can't be shown"), h("p", null, sentence(error.message)),
      h("p", null, h("a", { href: "#endpoints" }, "All endpoints")))),
  };
  if (!found) return view.fail(new Error(`The page has nothing under ${path}.`));
  const [match, make, title] = found;
  view.title(title);
  const content = h("div", null, h("p", { class: "soft" }, "Loading …"));
  main.replaceChildren(content);
  const start = async () => make(view, content, ...match.slice(1).map((part) => part && decodeURIComponent(part)));
  start().catch((error) => { if (!view.signal.aborted) view.fail(error); });
}

window.addEventListener("hashchange", show);
window.addEventListener("signed-out", () => { if (session.who) { signIn("Your session has ended: sign in again."); } });
window.addEventListener("unhandledrejection", (event) => { if (event.reason?.name !== "AbortError") say(String(event.reason?.message || event.reason)); });
begin();
