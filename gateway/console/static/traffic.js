// Traffic: what passes and what is refused, how fast, over which replicas; and the drills.

import { ME, call, get, may } from "./api.js";
import { ask, problem } from "./dialog.js";
import { count, h, milliseconds, put, say, when } from "./dom.js";
import { wire } from "./holding.js";
import { begin, now, state, watch } from "./live.js";
import { plot } from "./plot.js";

const TILES = [["permitted", "permitted a second"], ["blocked", "refused a second"], ["in_flight", "requests in flight"], ["streams", "streams among them"]];
const tiles = TILES.map(([, label]) => h("div", { class: "tile" }, h("b", {}, "—"), label));

const reasons = (moments) => [...new Set(moments.flatMap((each) => Object.keys(each.blocked)))].sort();
const PLOTS = [
  plot("Requests", "/s", (moments) => [
    { name: "permitted", values: moments.map((each) => each.permitted) },
    ...reasons(moments).map((reason) => ({ name: reason.replace(/_/g, " "), values: moments.map((each) => each.blocked[reason] ?? 0) })),
  ]),
  plot("Time to the first byte", "ms", (moments) => [
    { name: "median", values: moments.map((each) => each.p50) }, { name: "99th percentile", values: moments.map((each) => each.p99) },
  ]),
  plot("In flight", "", (moments) => [
    { name: "requests", values: moments.map((each) => each.in_flight) }, { name: "streams", colour: 4, values: moments.map((each) => each.streams) },
  ]),
  plot("Streams cut", "", (moments) => [{ name: "cut", colour: 1, values: moments.map((each) => each.cut) }]),
];
const REPLICAS = ["Replica", "State", "Revision", "Lease", "Streams cut", "Version"];
const replicas = h("tbody", { role: "rowgroup" });
const drills = h("section", { "aria-labelledby": "drills-title" });

put(document.getElementById("view"), h("div", { class: "tiles" }, tiles), h("section", { class: "plots", "aria-label": "The last ten minutes" }, PLOTS.map((each) => each.element)),
  h("section", { "aria-labelledby": "replicas-title" }, h("h2", { id: "replicas-title" }, "Replicas"),
    h("table", { id: "replicas", class: "lines", role: "table", "aria-labelledby": "replicas-title" }, h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, REPLICAS.map((head) => h("th", { role: "columnheader", scope: "col" }, head)))), replicas)),
  drills);

function paintNow() {
  const last = state.plots.at(-1);
  if (!last) return;
  const values = { ...last, blocked: Object.values(last.blocked).reduce((sum, each) => sum + each, 0) };
  TILES.forEach(([name], i) => say(tiles[i].firstChild, values[name].toLocaleString("en", { maximumFractionDigits: 1 })));
  tiles[1].classList.toggle("loud", values.blocked > 0);
  for (const each of PLOTS) each.paint(state.plots, now());
}

function paintReplicas() {
  const found = [...state.replicas.values()].sort((a, b) => a.id.localeCompare(b.id));
  put(replicas, found.length ? found.map(replica) : h("tr", { role: "row" }, h("td", { role: "cell", class: "wide-cell quiet" }, "No replica is listed: nothing serves.")));
}

function replica(each) {
  const cell = (label, ...content) => h("td", { role: "cell", "data-label": label }, content);
  const here = each.lease_until !== undefined;
  const behind = each.state === "live" && each.rev < state.head.revision;
  const lease = !here || each.state !== "live" ? "—" : each.lease_until + 5000 < now() ? h("b", { class: "bad" }, "over: refuses") : h("span", { class: "good" }, "held");
  return h("tr", { role: "row" }, h("th", { role: "rowheader", scope: "row", class: "id" }, each.id),
    cell("", each.state === "left" ? h("span", { class: "chip draft" }, "Left") : h("span", { class: "chip on" }, "Live")),
    cell("revision", h("span", { class: behind ? "warn" : "" }, `${each.rev ?? "—"}${behind ? ` (of ${state.head.revision})` : ""}`), each.nack ? h("b", { class: "bad" }, " cannot read it whole") : ""),
    cell("lease", lease, here && each.state === "live" ? h("span", { class: "quiet" }, each.serving ? `, ${each.serving}` : "") : each.state === "live" ? h("span", { class: "quiet" }, " another machine's") : ""),
    cell("streams cut", String(each.streams_cut ?? "—")), cell("version", each.version ?? "—"));
}

// ------------------------------------------------------------------ drills

async function paintDrills() {
  const answer = await get("/drills");
  const { body } = answer;
  const title = h("h2", { id: "drills-title" }, "Drills");
  if (!answer.ok) return put(drills, title, problem(body));
  const button = may("operate") && body.model ? h("button", { type: "button", onclick: drill }, "Run a drill…") : "";
  put(drills, h("div", { class: "headline" }, title, button), !body.model
    ? h("div", { class: "empty" }, h("p", {}, "No canary is set: the switch is only used when it is needed."), h("p", {}, "Set ", h("code", {}, "drill.model"), " and ", h("code", {}, "drill.key"), " to a model that nobody else uses, and it can be tried at any time."))
    : body.drills.length ? h("ol", { class: "timeline" }, body.drills.slice(0, 20).map(drilled)) : h("p", { class: "quiet" }, `No drill yet. It takes ${body.model} off and on, end to end, and measures it.`));
}

function drilled(each) {
  const off = each.steps.find((step) => step.step === "offline");
  const cut = each.steps.find((step) => step.step === "cut");
  const text = each.state === "failed" ? h("span", { class: "bad" }, `failed: ${each.failure}`)
    : each.state === "running" ? `running, ${count(each.steps.length, "step")} done`
      : `off on ${count(off?.replicas ?? 0, "replica")} after ${milliseconds(off?.ms)}, ${count(cut?.streams ?? 0, "stream")} cut after ${milliseconds(cut?.ms)}`;
  return h("li", {}, h("b", { class: each.state === "passed" ? "good" : each.state === "failed" ? "bad" : "" }, each.state), when(each.at), h("span", {}, each.model, ", by ", each.by, ": ", text));
}

function drill() {
  ask({
    title: "Run a drill", label: "Run it",
    content: h("p", {}, `The canary ${ME.drill ?? ""} goes off and on, end to end: requests are permitted, streams run, are cut, requests are refused, and permitted again. Nothing else is touched.`),
    act: (key) => call("POST", "/drills?wait=60", {}, { key }),
    done: ({ body }, opened) => {
      opened.show(body.state === "passed" ? "The drill passed" : body.state === "failed" ? "The drill failed" : "The drill runs",
        [body.failure ? problem({ title: "It failed", detail: body.failure }) : "",
          h("ol", {}, body.steps.map((step) => h("li", {}, `${step.step}${step.streams ? ` (${count(step.streams, "stream")})` : ""}: `, h("span", { class: "number" }, milliseconds(step.ms)))))]);
      paintDrills();
    },
  });
}

watch((parts) => {
  if (parts.has("plots")) paintNow();
  if (parts.has("replicas") || parts.has("models")) paintReplicas();
});
paintDrills();
wire();
begin();
