// Models: what is off and why first; then the catalog, with what passes now.

import { may, part, get } from "./api.js";
import { open } from "./dialog.js";
import { announce, count, facts, field, h, listed, moment, put, say, when } from "./dom.js";
import { canUndo, release, takeOffline, undoButton, wire } from "./holding.js";
import { begin, offline, since, state, watch } from "./live.js";
import { STATES, callers, directive, order } from "./words.js";

const holds = h("section", { "aria-labelledby": "holds-title" });
const search = h("input", { type: "search", placeholder: "Name, family, tag or provider", autocomplete: "off" });
const only = h("select", {}, [["", "All"], ["off", "Offline"], ["on", "Available"], ["busy", "In use now"]].map(([value, label]) => h("option", { value }, label)));
const summary = h("p", { class: "quiet", role: "status" });
const body = h("tbody");
const nothing = h("div", { class: "empty", hidden: true });
const HEADS = ["Model", "State", "Permitted/s", "Refused/s", "In flight", "Held by", ""];
const catalog = h("section", { "aria-labelledby": "catalog-title" },
  h("div", { class: "headline" }, h("h2", { id: "catalog-title" }, "Catalog"), summary),
  h("div", { class: "filters" }, field("Search", search), field("Show", only, undefined, "narrow")),
  h("table", { id: "models", class: "lines", role: "table", "aria-labelledby": "catalog-title" },
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, HEADS.map((head, i) => h("th", { role: "columnheader", scope: "col", class: i > 1 && i < 5 ? "number" : null }, head || h("span", { class: "visually-hidden" }, "What you can do"))))),
    (body.setAttribute("role", "rowgroup"), body)),
  nothing);

put(document.getElementById("view"), holds, catalog);

// ------------------------------------------------------------------ holds

const cards = new Map();
let told;

// The change that would release a hold, if one waits for a second person.
function waiting(hold) {
  return [...state.changes.values()].find((change) => change.edits.some((edit) => edit.kind === "holds" && edit.op === "delete" && edit.id === hold.id));
}

function paintHolds() {
  const sorted = [...state.holds.values()].sort((a, b) => b.at.localeCompare(a.at));
  for (const id of cards.keys()) if (!state.holds.has(id)) cards.delete(id);
  const shown = sorted.map((hold) => {
    const known = cards.get(hold.id);
    const key = JSON.stringify([hold, canUndo(hold), order(state.orders, hold.order), waiting(hold)?.change]);
    if (known?.key === key) return known.element;
    const element = card(hold);
    cards.set(hold.id, { key, element });
    return element;
  });
  const title = sorted.length
    ? h("h2", { id: "holds-title" }, `${count(offline().size, "model")} of ${state.models.size} offline`)
    : h("h2", { id: "holds-title" }, "Nothing is held");
  if (told !== undefined && told !== title.textContent) announce(title.textContent);
  told = title.textContent;
  const wanted = [title, ...(shown.length ? shown : [h("p", { class: "quiet" }, "Every model is available to whoever no directive denies.")])];
  if (holds.children.length !== wanted.length || holds.firstChild.textContent !== title.textContent || shown.some((each, i) => holds.children[i + 1] !== each)) {
    const focused = document.activeElement;
    put(holds, wanted);
    if (focused?.isConnected) focused.focus();
  }
}

function card(hold) {
  const what = hold.models.includes("*") ? "Everything" : listed(hold.models);
  return h("article", { class: "panel hold", "aria-label": `Hold ${hold.id}` },
    h("div", { class: "headline" }, h("h3", {}, h("span", { class: "chip off" }, "Offline"), " ", what),
      h("div", { class: "actions" }, canUndo(hold) ? undoButton(() => state.holds.get(hold.id) ?? hold) : "",
        may("operate") && !hold.scope ? h("button", { type: "button", class: "small", onclick: () => release(state.holds.get(hold.id) ?? hold) }, "Release…") : "")),
    hold.scope ? h("p", { class: "warn" }, "On this machine only, until Redis is back.") : "",
    waiting(hold) ? h("p", { class: "warn" }, `${waiting(hold).by} asked for its release: `, h("a", { href: "/console/directives" }, "it waits for a second person"), ".") : "",
    facts(["Held by", hold.by], ["Since", h("span", {}, when(hold.at), h("span", { class: "quiet", "data-since": hold.at }, ` (${since(hold.at)})`))],
      ["Order", hold.order && h("a", { href: `/console/orders?order=${part(hold.order)}` }, order(state.orders, hold.order))],
      ["Public message", hold.public_message && h("span", {}, `“${hold.public_message}”`)], ["Note", hold.note],
      ["Requests in flight", hold.in_flight?.let_finish ? `may finish for ${hold.in_flight.let_finish} s` : null],
      ["Covers", hold.covers.length > 1 || what !== hold.covers[0] ? count(hold.covers.length, "model") : null],
      ["Hold", h("span", { class: "id" }, hold.id)]));
}

// ------------------------------------------------------------------ the catalog

const rows = new Map();

function row(id) {
  const model = state.models.get(id);
  const cell = (label, props = {}) => h("td", { role: "cell", "data-label": label, ...props });
  const parts = {
    state: cell("", {}), permitted: cell("permitted/s", { class: "number" }), blocked: cell("refused/s", { class: "number" }),
    flight: cell("in flight", { class: "number" }), held: cell("", { class: "wide-cell quiet" }), act: cell("", { class: "act" }),
  };
  const name = h("button", { type: "button", class: "plain id", onclick: () => details(id) }, id);
  const element = h("tr", { role: "row" }, h("th", { role: "rowheader", scope: "row" }, name), Object.values(parts));
  const text = [id, model.family, ...model.tags, ...model.aliases, ...model.routes.flatMap((route) => [route.provider, ...route.names])].join("\n").toLowerCase();
  return { element, parts, text, off: undefined, hidden: false };
}

function paintRow(id, known, off) {
  const { parts } = known;
  const held = off.get(id);
  const traffic = state.traffic.get(id);
  number(parts.permitted, traffic?.permitted, 1);
  number(parts.blocked, traffic?.blocked, 1);
  number(parts.flight, traffic?.in_flight, 0);
  const key = held?.map((each) => `${each} ${state.holds.get(each).scope ?? ""}`).join() ?? "";
  if (known.off === key) return;
  known.off = key;
  known.element.classList.toggle("is-off", Boolean(held));
  put(parts.state, held ? h("span", { class: "chip off" }, "Offline") : h("span", { class: "chip on" }, "Available"));
  put(parts.held, held ? held.map((each) => heldBy(state.holds.get(each))) : "");
  put(parts.act, !may("operate") || held?.some((each) => state.holds.get(each).scope) ? "" : held
    ? h("button", { type: "button", class: "small", onclick: () => release(state.holds.get(held[0])) }, held.length > 1 ? "Release one…" : "Release…", h("span", { class: "visually-hidden" }, ` ${id}`))
    : h("button", { type: "button", class: "small", onclick: () => takeOffline(id) }, "Take offline…", h("span", { class: "visually-hidden" }, ` ${id}`)));
}

function number(cell, value, digits) {
  say(cell, value ? value.toFixed(digits) : "—");
  cell.classList.toggle("none", !value);
}

function heldBy(hold) {
  return h("div", {}, `${hold.by}, since ${moment(hold.at)}`, hold.order ? `, under ${order(state.orders, hold.order)}` : "");
}

function paintCatalog(parts) {
  const off = offline();
  if (parts.has("models")) {
    for (const id of rows.keys()) if (!state.models.has(id)) { rows.get(id).element.remove(); rows.delete(id); }
    for (const id of state.models.keys()) if (!rows.has(id)) rows.set(id, row(id));
    const sorted = [...rows.keys()].sort();
    sorted.forEach((id, i) => { if (body.children[i] !== rows.get(id).element) body.insertBefore(rows.get(id).element, body.children[i] ?? null); });
  }
  const all = parts.has("models") || parts.has("holds") || parts.has("orders") || parts.get("traffic") === null;
  for (const id of all ? rows.keys() : parts.get("traffic") ?? []) if (rows.has(id)) paintRow(id, rows.get(id), off);
  if (all || only.value === "busy") filter();
}

function filter() {
  const wanted = search.value.trim().toLowerCase();
  const off = offline();
  const kind = { "": () => true, off: (id) => off.has(id), on: (id) => !off.has(id), busy: (id) => state.traffic.has(id) }[only.value];
  let shown = 0;
  for (const [id, known] of rows) {
    const hide = !(kind(id) && known.text.includes(wanted));
    if (known.hidden !== hide) known.hidden = known.element.hidden = hide;
    shown += !hide;
  }
  say(summary, shown === rows.size ? count(rows.size, "model") : `${shown} of ${count(rows.size, "model")}`);
  nothing.hidden = shown > 0;
  say(nothing, rows.size ? "No model is like this. Change the search." : "The catalog is empty. portcullis catalog put adds models.");
}

search.addEventListener("input", filter);
only.addEventListener("change", filter);

// ------------------------------------------------------------------ one model

function details(id) {
  const model = state.models.get(id);
  const who = h("p", { class: "quiet" }, "…");
  const opened = open(id, [
    facts(["State", offline().has(id) ? h("span", { class: "chip off" }, "Offline") : h("span", { class: "chip on" }, "Available")],
      ["Routes", h("ul", { class: "plain" }, model.routes.map((route) => h("li", {}, route.provider, h("span", { class: "quiet" }, ` as ${listed(route.names)}`))))],
      ["Also called", listed(model.aliases)], ["Family", model.family], ["Tags", listed(model.tags)],
      ["Lease", `${model.max_stale} s: a replica that hears nothing for so long refuses it`]),
    h("h3", {}, "Held by"), offline().has(id) ? offline().get(id).map((each) => h("p", {}, h("span", { class: "id" }, each), " ", heldBy(state.holds.get(each)))) : h("p", { class: "quiet" }, "Nobody."),
    h("h3", {}, "Directives"), directivesOn(id), h("h3", {}, "Who can use it"), who],
  h("a", { class: "button", href: `/console/explain?model=${part(id)}` }, "Explain…"), may("operate") && !offline().has(id)
    ? h("button", { type: "button", class: "danger-quiet", onclick: () => { opened.close(); takeOffline(id); } }, "Take offline…") : "",
  h("button", { type: "button", class: "primary", onclick: () => opened.close() }, "Close"));
  get(`/models/${part(id)}/reach`).then(({ ok, body: told }) => {
    say(who, ok ? `${callers(told.callers.permitted)} of ${told.callers.of} registered. ${told.permitted.profiles} of ${count(told.profiles, "profile")}${told.permitted.examples.length ? `: ${told.permitted.examples.slice(0, 6).join("; or ")}` : ""}.` : told.detail);
    who.className = "";
  });
}

function directivesOn(id) {
  const found = [...state.directives.values()].filter((each) => each.state !== "lifted" && each.covers.includes(id));
  return found.length ? h("ul", { class: "plain" }, found.map((each) => h("li", {}, h("span", { class: `chip ${STATES[each.state][1]}` }, STATES[each.state][0]), " ", directive(each)))) : h("p", { class: "quiet" }, "None.");
}

// ------------------------------------------------------------------ begin

watch((parts) => {
  if (["holds", "orders", "models", "changes"].some((name) => parts.has(name))) paintHolds();
  paintCatalog(parts);
  for (const each of holds.querySelectorAll("[data-since]")) say(each, ` (${since(each.dataset.since)})`);
});
wire();
begin();
