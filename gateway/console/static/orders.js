// Orders and what stands under each; and the log, backwards.

import { get } from "./api.js";
import { count, facts, field, h, link, listed, milliseconds, put, say, select, when } from "./dom.js";
import { wire } from "./holding.js";
import { begin, state, watch } from "./live.js";
import { action, directive, order } from "./words.js";

const asked = new URLSearchParams(location.search).get("order") ?? "";
const orders = h("section", { "aria-labelledby": "orders-title" });
const text = h("input", { type: "search", autocomplete: "off", placeholder: "Who, what, a model, a revision" });
const which = select([["", "Every order, and none"]]);
const list = h("ol", { class: "timeline", "aria-label": "Revisions, newest first" });
const more = h("button", { type: "button", hidden: true }, "Older");
const status = h("p", { class: "quiet", role: "status" });
const keep = h("button", { type: "button", disabled: true }, "Save what is shown (JSON)");
const log = h("section", { "aria-labelledby": "log-title" }, h("div", { class: "headline" }, h("h2", { id: "log-title" }, "Audit log"), status),
  h("form", { class: "filters", role: "search", onsubmit: (event) => { event.preventDefault(); load(true); } }, field("Search", text), field("Order", which, undefined, "narrow"), h("button", {}, "Search"), keep),
  list, h("div", { class: "actions" }, more));
put(document.getElementById("view"), orders, log);

function paintOrders() {
  const found = [...state.orders.values()].sort((a, b) => b.at.localeCompare(a.at));
  put(orders, h("h2", { id: "orders-title" }, "Orders"), found.length ? found.map(card)
    : h("div", { class: "empty" }, h("p", {}, "No order is known."), h("p", {}, "One comes in with the hold or directive that it is behind.")));
  const chosen = which.value || asked;
  put(which, h("option", { value: "" }, "Every order, and none"), found.map((each) => h("option", { value: each.id }, `${each.authority}, ${each.reference}`)));
  which.value = state.orders.has(chosen) ? chosen : "";
}

function card(each) {
  const holds = each.holds.map((id) => state.holds.get(id)).filter(Boolean);
  const directives = each.directives.map((id) => state.directives.get(id)).filter(Boolean);
  const waits = [...state.changes.values()].filter((change) => change.edits.some((edit) => each[edit.kind]?.includes(edit.id)));
  return h("article", { class: "panel", "aria-label": `Order ${each.reference}` },
    h("h3", {}, each.authority, ", ", each.reference),
    facts(["Link", each.url && link(each.url)], ["Disclosed", each.disclose ? "Whoever is refused may learn of it." : "No: whoever is refused learns only the public message."],
      ["Entered", h("span", {}, `by ${each.by}, `, when(each.at))],
      ["Stands under it", holds.length + directives.length ? h("ul", { class: "plain" },
        holds.map((hold) => h("li", {}, h("span", { class: "chip off" }, "Hold"), ` on ${listed(hold.models)}, by ${hold.by} since `, when(hold.at))),
        directives.map((one) => h("li", {}, h("span", { class: `chip ${one.state === "in_force" ? "off" : one.state}` }, one.state.replace("_", " ")), " ", directive(one)))) : "Nothing any more."],
      ["Waits", waits.length ? h("a", { href: "/console/directives" }, `${count(waits.length, "change")} for approval`) : ""]),
    h("button", { type: "button", class: "small", onclick: () => { which.value = each.id; load(true).then(() => log.scrollIntoView()); } }, "What happened under it"));
}

// ------------------------------------------------------------------ the log

let shown = [], next = null, turn = 0;

async function load(anew) {
  const mine = ++turn;
  const query = new URLSearchParams();
  if (text.value.trim()) query.set("text", text.value.trim());
  if (which.value) query.set("order", which.value);
  if (!anew && next) query.set("before", next);
  say(status, "Reading…");
  const answer = await get(`/console/timeline?${query}`);
  if (mine !== turn) return;
  if (!answer.ok) { say(status, answer.body.detail); return; }
  shown = anew ? answer.body.entries : [...shown, ...answer.body.entries];
  next = answer.body.next;
  paintLog();
}

function paintLog() {
  put(list, shown.length ? shown.map(entry) : h("li", {}, h("span", {}, "—"), h("span", {}, "Nothing is like this."), h("span", {}, "Change the search.")));
  more.hidden = next === null;
  keep.disabled = !shown.length;
  say(status, `${count(shown.length, "revision")}${next === null ? "" : ", and older ones"}. Every signature was checked.`);
}

function entry(each) {
  return h("li", {}, h("span", { class: "number quiet" }, each.revision), when(each.at), h("span", {}, h("b", {}, each.actor), ` ${action(each)} `, h("span", { class: "id" }, each.subject),
    each.order ? h("span", { class: "quiet" }, `, under ${order(state.orders, each.order)}`) : "", proof(each)));
}

// What its receipt says, where there is one.
function proof({ receipt }) {
  if (!receipt) return "";
  const { models } = receipt;
  const what = models.length > 3 ? count(models.length, "model") : listed(models);
  const how = receipt.enforced ? `enforced on ${count(receipt.replicas, "replica")} after ${milliseconds(receipt.elapsed_ms)}` : `not proven: ${receipt.basis.replace(/_/g, " ")}`;
  return h("div", { class: receipt.enforced ? "quiet" : "bad" }, [what, how, receipt.streams_cut ? `${count(receipt.streams_cut, "stream")} cut` : ""].filter(Boolean).join("; "));
}

more.addEventListener("click", () => load(false));
which.addEventListener("change", () => load(true));
keep.addEventListener("click", () => {
  const lines = shown.map((each) => JSON.stringify(each)).join("\n");
  const url = URL.createObjectURL(new Blob([`${lines}\n`], { type: "application/jsonl" }));
  const anchor = h("a", { href: url, download: "portcullis-log.jsonl" });
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
});

let revision = 0, begun = false;
watch((parts) => {
  if (["orders", "holds", "directives", "changes"].some((name) => parts.has(name))) paintOrders();
  if (state.head.revision !== revision) {
    revision = state.head.revision;
    if (!begun || shown.length <= 100) load(true);
    begun = true;
  }
});
wire();
begin();
