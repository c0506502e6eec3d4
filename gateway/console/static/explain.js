// Explain: why somebody may, or may not. A caller or what is known of them, and a model; or a refused request's id.

import { get, call, may, part } from "./api.js";
import { problem } from "./dialog.js";
import { facts, field, h, put, select, when } from "./dom.js";
import { wire } from "./holding.js";
import { begin, state, watch } from "./live.js";
import { REASONS, order } from "./words.js";

const asked = new URLSearchParams(location.search);
const model = h("input", { type: "text", list: "models-known", required: true, autocomplete: "off", spellcheck: "false", value: asked.get("model") ?? "" });
const known = h("datalist", { id: "models-known" });
const people = h("datalist", { id: "callers-known" });
const caller = h("input", { type: "text", list: "callers-known", autocomplete: "off", spellcheck: "false", value: asked.get("caller") ?? "" });
const how = select([["caller", "a registered caller"], ["attributes", "anyone, by what is known of them"]]);
const ATTRIBUTES = [["nationality", "Nationalities"], ["latest_nationality", "Latest nationality"], ["permanent_residence", "Permanent residence"], ["legal_status", "Legal status"]];
const attributes = Object.fromEntries(ATTRIBUTES.map(([name]) => [name, h("input", { type: "text", autocomplete: "off", spellcheck: "false", placeholder: "not known" })]));
const org = h("input", { type: "text", autocomplete: "off", spellcheck: "false", placeholder: "none" });
const request = h("input", { type: "text", autocomplete: "off", spellcheck: "false", value: asked.get("request") ?? "", required: true });
const answer = h("div", { "aria-live": "polite" });

const byCaller = h("div", {}, field("Caller", caller));
const byAttributes = h("div", { hidden: true }, h("div", { class: "pair" }, ATTRIBUTES.map(([name, label]) => field(label, attributes[name])), field("Organisation", org)),
  h("p", { class: "quiet" }, "Countries by two letters, with commas between. Empty: not known. ", h("code", {}, "none"), ": known to be none."));
const form = h("form", { class: "panel", onsubmit: explain, "aria-labelledby": "ask-title" }, h("h2", { id: "ask-title" }, "May they?"), known, people,
  h("div", { class: "pair" }, field("Who", how), field("Model", model)), byCaller, byAttributes, h("div", { class: "actions" }, h("button", { class: "primary" }, "Explain")));
const seek = h("form", { class: "panel", onsubmit: refusal, "aria-labelledby": "seek-title" }, h("h2", { id: "seek-title" }, "Why was this refused?"),
  field("Request id", request, "Every response carries it: Portcullis-Request-Id, and request_id in a refusal."), h("div", { class: "actions" }, h("button", {}, "Look it up")));
const mayAsk = may("read_callers");
put(document.getElementById("view"), h("div", { class: "three" }, mayAsk ? form : "", seek), answer);
how.addEventListener("change", () => {
  byCaller.hidden = how.value !== "caller";
  byAttributes.hidden = !byCaller.hidden;
});

function values(text) {
  const trimmed = text.trim();
  if (!trimmed) return undefined;
  return /^none$/i.test(trimmed) ? [] : trimmed.split(/[\s,]+/).filter(Boolean);
}

async function explain(event) {
  event.preventDefault();
  const someone = Object.fromEntries(ATTRIBUTES.map(([name]) => [name, values(attributes[name].value)]).filter(([, value]) => value));
  const body = how.value === "caller" ? { caller: caller.value.trim(), model: model.value.trim() }
    : { attributes: { ...someone, ...(org.value.trim() ? { org: org.value.trim() } : {}) }, model: model.value.trim() };
  const found = await call("POST", "/explain", body);
  put(answer, found.ok ? verdict(found.body, how.value === "caller" ? body.caller : "Such a caller") : problem(found.body));
}

function verdict(told, who) {
  const permit = told.decision === "permit";
  const { trace } = told;
  const id = told.model ?? trace[0]?.model ?? told.asked.name;
  return h("section", { class: "panel", "aria-label": "The decision" },
    h("p", { class: `verdict ${permit ? "good" : "bad"}` }, h("b", {}, `${who} ${permit ? "may use" : "may not use"} ${id}`), permit ? "." : `: ${REASONS[told.reason] ?? told.reason}.`),
    facts(["Reason", told.reason && h("span", { class: "id" }, told.reason)], ["By", restriction(told.restriction)], ["Order", order(state.orders, told.order)], ["Since", told.since && when(told.since)], ["Until", told.until && when(told.until)],
      ["They read", told.message && `“${told.message}”`], ["Would be denied by", told.would_deny && h("span", {}, h("span", { class: "id" }, told.would_deny), " (in shadow)")], ["Revision", told.revision]),
    h("h3", {}, "How it was decided"), h("ol", {}, trace.map(walk)));
}

function restriction(id) {
  if (!id) return "";
  const hold = state.holds.get(id);
  return h("span", {}, hold ? "hold " : state.directives.has(id) ? "directive " : "", h("span", { class: "id" }, id), hold ? `, placed by ${hold.by}` : "");
}

const TRUTH = { yes: ["yes", "bad"], no: ["no", "good"], "not known": ["not known", "warn"] };

function walk(each) {
  if (!each.known) return h("li", {}, h("span", { class: "id" }, each.name), ": the catalog has no such model.");
  return h("li", {}, "Is there a hold on ", h("span", { class: "id" }, each.model), "? ", h("span", { class: "answer" }, each.hold ? `Yes, ${each.hold}.` : "No."),
    each.directives.length ? each.directives.map((rule) => h("div", {}, "Does the directive ", h("span", { class: "id" }, rule.id), " apply? ", said(rule.applies), rule.as.map(subject))) : h("div", {}, "Is there a directive in force on it? ", h("span", { class: "answer" }, "No.")));
}

function said(truth) {
  const [word, kind] = TRUTH[truth] ?? [truth, ""];
  return h("span", { class: `answer ${kind}` }, `${word[0].toUpperCase()}${word.slice(1)}.`);
}

function subject(each) {
  return h("ul", { class: "trace" }, node(each.who), each.except.map((one) => node(one, "Excepted: ")));
}

function node(each, prefix = "") {
  return h("li", {}, `${prefix}${each.condition}? `, h("span", { class: "answer" }, each.holds), each.because ? h("ul", { class: "trace" }, each.because.map((one) => node(one))) : "");
}

async function refusal(event) {
  event?.preventDefault();
  const found = await get(`/refusals/${part(request.value.trim())}`);
  put(answer, found.ok ? remembered(found.body) : problem(found.body));
}

function remembered(line) {
  return h("section", { class: "panel", "aria-label": "The refusal" },
    h("p", { class: "verdict bad" }, h("b", {}, `Refused: ${REASONS[line.reason] ?? line.reason}.`)),
    facts(["Reason", h("span", { class: "id" }, line.reason)], ["Model", line.model], ["By", restriction(line.restriction)], ["Order", order(state.orders, line.order)], ["At", line.time && when(line.time * 1000)],
      ["Status", line.status], ["Provider", line.provider], ["Operation", line.operation], ["Caller", line.caller && h("span", { class: "id" }, `${line.caller}`)], ["Revision", line.revision], ["Request", h("span", { class: "id" }, line.request_id)]));
}

watch((parts) => {
  if (parts.has("models")) put(known, [...state.models.keys()].map((id) => h("option", { value: id })));
});
if (mayAsk) get("/callers?limit=500").then((found) => {
  if (found.ok) put(people, (found.body.callers ?? []).map((each) => h("option", { value: each.id })));
});
if (asked.get("request")) refusal();
wire();
begin();
