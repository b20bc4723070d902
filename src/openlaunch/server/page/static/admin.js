// For admins: owners with what they hold and may hold, keys, the audit log, and the server.
import { button, change, copyable, facts, field, fill, follow, get, h, NOTHING, pill, readiness, say, select, send, shownSeconds, size, table, tally, tell, time } from "./lib.js";

export async function admin(view, content, kind = "") {
  const body = h("div");
  fill(content, h("h1", null, "Admin"), h("nav", { class: "tabs", "aria-label": "Admin" },
    [["", "Owners"], ["keys", "Keys"], ["audit", "Audit log"], ["server", "Server"]].map(([name, text]) =>
      h("a", { href: `#admin${name && `/${name}`}`, "aria-current": name === kind ? "page" : null }, text))));
  content.append(body);
  return { "": owners, keys, audit, server }[kind](view, body);
}

const AMOUNTS = [["endpoints", "Endpoints"], ["workers", "Workers"], ["cpus", "CPUs"], ["memory", "Memory", size], ["gpus", "GPUs"], ["queued_tasks", "Queued tasks"], ["stored_bytes", "Uploads", size], ["tokens_per_minute", "Tokens a minute"], ["tokens_per_day", "Tokens a day"]];

async function owners(view, content) {
  let now = new Map();
  const columns = [
    ["Owner", (row) => h("a", { href: `#endpoints?search=${encodeURIComponent(`${row.owner}/`)}` }, row.owner)],
    ["Workers now", (row) => String(now.get(row.owner) ?? 0), "number"],
    ...AMOUNTS.map(([name, text, show = String]) => [text, (row) => {
      const allowed = row.allowed[name], used = row.used[name] ?? 0;
      return h("span", { class: allowed != null && used >= allowed ? "is-bad" : null }, `${show(used)}${allowed == null ? "" : ` of ${show(allowed)}`}`);
    }, "number"]),
    ["Actions", (row) => button("Set the quotas", () => setQuotas(view, row), "", row.owner), "wide"],
  ];
  const load = (signal) => Promise.all([get("/v1/quotas", { owner: "*" }, signal), get("/v1/metrics", { owner: "*" }, signal)]);
  await follow(view, 5, load, ([{ quotas }, { endpoints }]) => {
    now = new Map();
    for (const each of endpoints) now.set(each.owner, (now.get(each.owner) ?? 0) + each.workers);
    fill(content, h("p", { class: "soft" }, "Workers, CPUs, memory and GPUs are what the workers of an owner's endpoints may take at most, which quotas limit."), table("Owners", columns, quotas));
  });
}

async function setQuotas(view, row) {
  const inputs = AMOUNTS.map(([name, text]) => [name, text, h("input", { name, placeholder: "unchanged", value: row.allowed[name] ?? "" })]);
  let sent = false;
  await tell(`Quotas of ${row.owner}`, h("p", { class: "soft" }, "Each is a number, a size such as 8Gi, unlimited or default."), h("div", { class: "fields" }, inputs.map(([, text, input]) => field(text, input))),
    h("div", { class: "bar" }, button("Set", async () => {
      const body = Object.fromEntries(inputs.map(([name, , input]) => [name, input.value.trim()]).filter(([name, value]) => value && value !== String(row.allowed[name] ?? ""))
        .map(([name, value]) => [name, /^\d+(\.\d+)?$/.test(value) ? Number(value) : value]));
      await send("PUT", `/v1/quotas/${encodeURIComponent(row.owner)}`, body);
      sent = true;
      say("The quotas are set.");
    }, "main")));
  if (sent) await view.refresh();
}

async function keys(view, content) {
  const owner = h("input", { name: "owner", required: true, pattern: "[A-Za-z0-9][A-Za-z0-9._@\\-]{0,63}" });
  const role = select("role", [["user", "user"], ["predict", "predict"], ["metrics", "metrics"], ["admin", "admin"]], "user");
  const list = h("div");
  content.append(h("form", { class: "bar", onsubmit: async (event) => {
    event.preventDefault();
    try {
      const made = await send("POST", "/v1/keys", { owner: owner.value, role: role.value });
      await tell(`The key of ${made.owner}`, h("p", null, "It is shown only now."), copyable(made.api_key));
      await view.refresh();
    } catch (error) {
      say(error.message);
    }
  } }, field("Owner", owner), field("Role", role), h("button", { class: "main" }, "Make a key")), list);
  const columns = [
    ["Owner", (key) => key.owner], ["Role", (key) => key.role, "tight"], ["Begins with", (key) => h("code", null, key.prefix)], ["Id", (key) => h("code", null, key.id), "id"],
    ["Made", (key) => time(key.created_at), "tight"],
    ["Limits", (key) => [key.requests_per_second && `${key.requests_per_second}/s`, key.requests_per_day && `${key.requests_per_day} a day`, key.tokens_per_minute && `${key.tokens_per_minute} tokens/min`, key.tokens_per_day && `${key.tokens_today} of ${key.tokens_per_day} tokens today`].filter(Boolean).join(", ")],
    ["Ends", (key) => (key.revoked_at ? ["revoked ", time(key.revoked_at)] : key.expires_at ? time(key.expires_at) : "never")],
    ["Actions", (key) => (key.revoked_at ? NOTHING : change(view, "Revoke", { question: `Revoke the key ${key.prefix}… of ${key.owner}?`, because: "It is refused from now on, and its sessions end.",
      run: () => send("DELETE", `/v1/keys/${key.id}`), done: "The key is revoked.", kind: "bad", of: `${key.prefix} of ${key.owner}` })), "wide"],
  ];
  await follow(view, 10, (signal) => get("/v1/keys", {}, signal), ({ keys: found }) => fill(list, table("Keys", columns, found)));
}

async function audit(view, content) {
  const inputs = ["owner", "action", "object_id", "key_id"].map((name) => [name, h("input", { name, type: "search", value: view.query.get(name) || "" })]);
  const list = h("div"), rest = h("div");
  let cursors = [null];
  content.append(h("form", { class: "bar", onsubmit: (event) => {
    event.preventDefault();
    const query = new URLSearchParams(inputs.map(([name, input]) => [name, input.value.trim()]).filter(([, value]) => value));
    location.hash = `#admin/audit${String(query) && `?${query}`}`;
  } }, inputs.map(([name, input]) => field(name[0].toUpperCase() + name.slice(1).replace("_", " "), input)), h("button", null, "Search")), list, rest);
  const columns = [
    ["When", (entry) => time(entry.at), "tight"],
    ["Who", (entry) => entry.owner ?? "the server", "short"],
    ["What", (entry) => entry.action.replaceAll("_", " "), "short"],
    ["Object", (entry) => [entry.object_owner && `${entry.object_owner}: `, entry.object_id && h("code", null, entry.object_id)]],
    ["With", (entry) => (Object.keys(entry.summary).length ? h("code", null, JSON.stringify(entry.summary)) : null), "wide"],
    ["Answer", (entry) => h("span", { class: entry.status >= 400 ? "is-bad" : null }, `${entry.status}${entry.times > 1 ? ` ×${entry.times}` : ""}`), "number"],
    ["From", (entry) => entry.address, "tight"],
  ];
  const query = Object.fromEntries(inputs.map(([name]) => [name, view.query.get(name)]));
  await follow(view, 10, (signal) => Promise.all(cursors.map((cursor) => get("/v1/audit-log", { ...query, cursor }, signal))), (pages) => {
    const next = pages.at(-1).next_cursor, found = pages.flatMap((page) => page.entries);
    fill(list, found.length ? table("Audit log", columns, found) : h("p", null, "No entry fits."));
    fill(rest, next && button("Show earlier ones", () => { cursors = [...cursors, next].slice(-10); return view.refresh(); }));
  });
}

const NODE = [
  ["Node", (node) => [node.address, node.name && ` (${node.name})`]],
  ["State", (node) => [pill(node.state), node.reason && h("div", { class: "reason soft" }, node.reason)], "wide"],
  ["Since", (node) => time(node.since), "tight"],
  ["Workers", (node) => String(node.workers), "number"],
  ["Free CPUs", (node) => `${shownCpus(node.free_cpus)} of ${shownCpus(node.cpus)}`, "number"],
  ["Free memory", (node) => `${size(node.free_memory)} of ${size(node.memory)}`, "number"],
  ["Free GPUs", (node) => `${node.free_gpus} of ${node.gpus}`, "number"],
];

function shownCpus(count) {
  return String(Number(count.toFixed(2)));
}

function counted(numbers) {
  const both = (times) => `${shownSeconds(times.p50)} at the median, ${shownSeconds(times.p99)} at p99`;
  return h("div", { class: "card" }, facts(
    ["Delay of the event loop", both(numbers.event_loop_lag)],
    ["Time of a commit", both(numbers.commits)],
    ["Operations in a commit", numbers.operations && numbers.operations.toFixed(1)],
    ["Open connections", `${numbers.connections} of ${numbers.max_connections}`],
    ["Memory", numbers.memory && size(numbers.memory)],
    ["Open files", numbers.open_files],
    ["Refused requests", tally(numbers.refused) || "none"],
  ));
}

async function server(view, content) {
  // A server that does not lead has no nodes to tell of.
  const nodes = (signal) => get("/v1/nodes", {}, signal).then((found) => found.nodes, (error) => { if (error.code === "not_leading") return []; throw error; });
  const load = (signal) => Promise.all([readiness(signal), get("/v1/storage", {}, signal), get("/v1/servers", {}, signal), nodes(signal)]);
  await follow(view, 5, load, ([health, storage, servers, found]) =>
    fill(content, h("div", { class: "card" }, h("p", null, "The server is ", pill(health.status)),
      facts(...health.checks.map((check) => [check.name, [pill(check.status), check.detail && [` ${check.detail}`, check.since && [", since ", time(check.since)]]]]))),
    h("h2", null, "Servers"), table("Servers", [["Address", (each) => each.address], ["Leads", (each) => (each.leads ? "yes" : "no")],
      ["Answers this page", (each) => (each.here ? "yes" : "no")]], servers.servers),
    h("p", null, `For workers there are ${shownCpus(servers.cpus)} CPUs, ${size(servers.memory)} of memory and ${servers.gpus} GPUs, of which ${servers.free_gpus} are free.`),
    h("h2", null, "This server"), counted(servers.numbers),
    servers.gpu_use.length > 0 && table("GPUs", [["GPU", (gpu) => String(gpu.index)], ["Busy", (gpu) => `${Math.round(100 * gpu.utilization)} %`, "number"],
      ["Memory in use", (gpu) => `${size(gpu.memory_used)} of ${size(gpu.memory)}`, "number"]], servers.gpu_use),
    h("h2", null, "Nodes"), found.length ? table("Nodes", NODE, found)
      : h("p", { class: "soft" }, "Workers run on the server's machine. Other machines take part with ", h("code", null, "openlaunch agent"), "."),
    h("h2", null, "Storage"), h("p", null, `${size(storage.disk_free_bytes)} of ${size(storage.disk_bytes)} on the disk are free.`),
    table("Storage", [["Kind", (kind) => kind.kind], ["Size", (kind) => size(kind.bytes), "number"], ["Files", (kind) => kind.count, "number"],
      ["Holds nothing", (kind) => size(kind.free_bytes), "number"], ["What goes, and when", (kind) => kind.goes, "wide"]], [...storage.kinds].sort((a, b) => b.bytes - a.bytes))));
}
