// Files, bundles and environments: their sizes, and what uses them.
import { button, change, empty, field, fill, follow, get, h, NOTHING, owned, request, save, say, send, size, table, time } from "./lib.js";

export async function stored(view, content, kind = "") {
  const body = h("div");
  fill(content, h("h1", null, "Files, bundles and environments"), h("nav", { class: "tabs", "aria-label": "Kinds" },
    [["", "Files"], ["bundles", "Bundles"], ["environments", "Environments"]].map(([name, text]) =>
      h("a", { href: `#stored${name && `/${name}`}`, "aria-current": name === kind ? "page" : null }, text))));
  content.append(body);
  return { "": files, bundles, environments }[kind](view, body);
}

async function files(view, content) {
  const chosen = h("input", { type: "file", name: "file" });
  const list = h("div");
  content.append(h("form", { class: "bar", onsubmit: async (event) => {
    event.preventDefault();
    if (!chosen.files.length) return say("Choose a file first.");
    const form = new FormData();
    form.append("file", chosen.files[0]);
    try {
      await request("/v1/files", { method: "POST", body: form });
      chosen.value = "";
      say("The file is stored.");
      await view.refresh();
    } catch (error) {
      say(error.message);
    }
  } }, field("A new file", chosen), h("button", { class: "main" }, "Upload")), list);
  const columns = owned(view, [
    ["Name", (file) => file.filename],
    ["Id", (file) => h("code", null, file.id), "id"],
    ["Size", (file) => size(file.size), "number"],
    ["For", (file) => file.purpose],
    ["Actions", (file) => h("div", { class: "bar" },
      button("Save", async () => save(await (await request(`/v1/files/${file.id}/content`, { headers: { Accept: "application/binary" } })).blob(), file.filename), "", file.filename),
      change(view, "Delete", { question: `Delete ${file.filename}?`, because: "Its bytes are deleted too.",
        run: () => send("DELETE", `/v1/files/${file.id}`), done: "The file is deleted.", kind: "bad", of: file.filename })), "wide"],
  ]);
  await follow(view, 10, (signal) => get("/v1/files", view.owner, signal), ({ files: found }) =>
    fill(list, found.length ? table("Files", columns, found) : empty("There are no files.", `curl -u "$OPENLAUNCH_API_KEY:" -F file=@data.csv ${new URL("v1/files", document.baseURI)}`)));
}

async function bundles(view, content) {
  const sizes = await get("/page/sizes/bundles", view.owner, view.signal);
  const columns = owned(view, [
    ["Bundle", (bundle) => bundle.name],
    ["Version", (bundle) => bundle.version ?? "–", "number"],
    ["Kind", (bundle) => bundle.flavor.flavor.replaceAll("_", " "), "tight"],
    ["Needs", (bundle) => h("div", { class: "reason" }, (bundle.flavor.requirements || []).join(", ") || "nothing")],
    ["Size", (bundle) => size(sizes[bundle.flavor.location]), "number"],
    ["Used by", (bundle) => bundle.users.map((endpoint) => h("div", null, h("a", { href: `#endpoints/${endpoint.id}` }, endpoint.name)))],
    ["Made", (bundle) => time(bundle.created_at), "tight"],
    ["Actions", (bundle) => (bundle.users.length ? NOTHING : change(view, "Delete", { question: `Delete version ${bundle.version ?? ""} of ${bundle.name}?`, because: "No endpoint uses it.",
      run: () => send("DELETE", `/v2/model-bundles/${bundle.id}`), done: "The bundle is deleted.", kind: "bad", of: `${bundle.name} ${bundle.version ?? ""}` }))],
  ]);
  const load = async (signal) => Promise.all([get("/v2/model-bundles", { ...view.owner, commands: true }, signal), get("/v1/model-endpoints", view.owner, signal)]);
  await follow(view, 10, load, ([{ model_bundles: found }, { model_endpoints: endpoints }]) => {
    const rows = found.map((bundle) => ({ ...bundle, users: endpoints.filter((e) => [e.bundle_id, e.serving_bundle_id, e.canary?.bundle_id].includes(bundle.id)) }));
    fill(content, rows.length ? table("Bundles", columns, rows) : empty("There are no bundles.", "openlaunch deploy my_model.py:predict --name my-model"));
  });
}

async function environments(view, content) {
  const columns = owned(view, [
    ["Environment", (each) => h("code", null, each.id)],
    ["Python", (each) => each.python],
    ["Needs", (each) => h("div", { class: "reason" }, each.requirements.join(", ") || "nothing")],
    ["Size", (each) => size(each.bytes), "number"],
    ["Used by", (each) => each.used_by.join(", ") || "nobody"],
    ["Last used", (each) => time(each.last_used_at), "tight"],
  ]);
  const prune = change(view, "Remove what nobody uses", { question: "Remove your environments that no endpoint uses?", because: "They are built again when one needs them.", action: "Remove",
    run: () => send("POST", "/v1/environments/prune"), done: ({ removed }) => `${removed.length} environments were removed.` });
  const list = h("div");
  content.append(h("div", { class: "bar" }, prune), list);
  await follow(view, 10, (signal) => get("/v1/environments", view.owner, signal), ({ environments: found }) =>
    fill(list, found.length ? table("Environments", columns, found) : empty("There are no environments.", "openlaunch deploy my_model.py:predict --name my-model")));
}
