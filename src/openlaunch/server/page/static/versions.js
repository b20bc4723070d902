// The versions of an endpoint's bundle: what differs, and going to another one.
import { button, change, empty, fill, follow, get, h, NOTHING, pill, send, table, time } from "./lib.js";

export async function versions(view, content, first) {
  const name = first.serving_bundle_name || first.bundle_name;
  const load = async (signal) => {
    const [endpoint, { model_bundles: bundles }] = await Promise.all([get(`/v1/model-endpoints/${first.id}`, {}, signal),
      get("/v2/model-bundles", { model_name: name, commands: true, owner: first.created_by === view.session.who.owner ? null : first.created_by }, signal)]);
    return { endpoint, bundles: bundles.filter((bundle) => bundle.name === name) };
  };
  const difference = h("div", { "aria-live": "polite" });
  const body = h("div");
  fill(content, body);
  content.append(difference);
  await follow(view, 10, load, ({ endpoint, bundles }) => {
    const serving = bundles.find((bundle) => bundle.id === endpoint.serving_bundle_id);
    const use = (bundle) => change(view, "Deploy", { question: `Deploy version ${bundle.version ?? bundle.id}?`, because: `${endpoint.name} gets this version of ${bundle.name}: its workers replace the others once they are ready.`,
      run: () => send("PUT", `/v1/model-endpoints/${endpoint.id}`, { model_bundle_id: bundle.id }), done: "The version is being rolled out.", of: `version ${bundle.version}` });
    const tryFirst = (bundle) => change(view, "Start a canary", { question: `Start a canary of version ${bundle.version ?? bundle.id}?`, because: "It gets a tenth of the predictions once it is loaded.", action: "Start",
      run: () => send("POST", `/v1/model-endpoints/${endpoint.id}/canary`, { model_bundle_id: bundle.id }), done: "The canary is being started.", to: `#endpoints/${endpoint.id}`, of: `version ${bundle.version}` });
    const columns = [
      ["Version", (bundle) => bundle.version ?? bundle.id],
      ["State", (bundle) => (bundle.id === endpoint.serving_bundle_id ? pill("SERVING") : bundle.id === endpoint.canary?.bundle_id ? "canary" : NOTHING)],
      ["Made", (bundle) => time(bundle.created_at), "tight"],
      ["Kind", (bundle) => bundle.flavor.flavor.replaceAll("_", " "), "tight"],
      ["Actions", (bundle) => (bundle.id === endpoint.serving_bundle_id ? NOTHING : h("div", { class: "bar" },
        serving && button("What differs", () => fill(difference, differences(bundle, serving)), "", `version ${bundle.version}`),
        use(bundle), tryFirst(bundle))), "wide"],
    ];
    fill(body, bundles.length ? table("Versions", columns, bundles) : empty("The endpoint's bundle is not among yours."));
  });
}

function linesOf(bundle) {
  return JSON.stringify({ metadata: bundle.metadata, flavor: bundle.flavor }, null, 2).split("\n");
}

function differences(bundle, serving) {
  const [mine, theirs] = [linesOf(bundle), linesOf(serving)];
  const rows = diff(theirs, mine);
  return h("section", { class: "card" }, h("h2", null, `Version ${bundle.version} beside ${serving.version}, which serves`),
    h("pre", { tabindex: 0 }, rows.map(([kind, text]) => (kind === "+" ? h("ins", null, `+ ${text}`) : kind === "-" ? h("del", null, `- ${text}`) : `  ${text}\n`))));
}

// The shortest way from one text to another, line by line; of long texts only what differs at one place.
function diff(before, after) {
  let start = 0, end = 0;
  while (start < before.length && start < after.length && before[start] === after[start]) start += 1;
  while (end < before.length - start && end < after.length - start && before[before.length - 1 - end] === after[after.length - 1 - end]) end += 1;
  const a = before.slice(start, before.length - end), b = after.slice(start, after.length - end);
  const same = (lines) => lines.map((line) => [" ", line]);
  return [...same(before.slice(Math.max(0, start - 3), start)), ...(a.length * b.length > 250000 ? [...a.map((line) => ["-", line]), ...b.map((line) => ["+", line])] : between(a, b)),
    ...same(before.slice(before.length - end, before.length - end + 3))];
}

function between(a, b) {
  const common = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let j = b.length - 1; j >= 0; j -= 1) common[i][j] = a[i] === b[j] ? common[i + 1][j + 1] + 1 : Math.max(common[i + 1][j], common[i][j + 1]);
  }
  const rows = [];
  let i = 0, j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) { rows.push([" ", a[i]]); i += 1; j += 1; }
    else if (j < b.length && (i === a.length || common[i][j + 1] > common[i + 1][j])) rows.push(["+", b[j++]]);
    else rows.push(["-", a[i++]]);
  }
  return rows;
}
