// Directives: what waits for approval, what is in force and planned, and a form that reads as the sentence it means.

import { ME, call, get, may, part } from "./api.js";
import { ask, open, opening, outcome, problem } from "./dialog.js";
import { count, facts, field, h, listed, moment, put, say, select, when } from "./dom.js";
import { inFlight, orderFields, wire, words } from "./holding.js";
import { begin, now, since, state, watch } from "./live.js";
import { STATES, callers, directive, edit, order } from "./words.js";

const inbox = h("section", { "aria-labelledby": "inbox-title" });
const schedule = h("section", { "aria-labelledby": "schedule-title" });
const list = h("section", { "aria-labelledby": "list-title" });
const writer = h("div");
put(document.getElementById("view"), inbox, writer, list, schedule);

// ------------------------------------------------------------------ waiting for approval

function paintInbox() {
  const found = [...state.changes.values()].sort((a, b) => a.at.localeCompare(b.at));
  put(inbox, h("h2", { id: "inbox-title" }, "Waiting for approval"),
    found.length ? found.map(proposal) : h("p", { class: "quiet" }, "Nothing waits for a second person."));
}

function proposal(change) {
  const own = change.by === ME.id;
  return h("article", { class: "panel waiting", "aria-label": `Change ${change.change}` },
    h("div", { class: "headline" }, h("h3", {}, h("span", { class: "chip wait" }, "Waiting"), " ", headline(change)),
      may("approve") && !own ? h("div", { class: "actions" },
        h("button", { type: "button", class: "small", onclick: () => decide(change, "reject") }, "Reject…"),
        h("button", { type: "button", class: "small primary", onclick: () => decide(change, "approve") }, "Look and approve…")) : ""),
    facts(["Proposed by", change.by], ["At", h("span", {}, when(change.at), h("span", { class: "quiet" }, ` (${since(change.at)} ago)`))],
      ["Expires", when(change.expires)], ["Note", change.note], ["Change", h("span", { class: "id" }, change.change)]),
    h("p", {}, h("b", {}, "It opens what an order closed:")), opening(change.opens),
    own ? h("p", { class: "quiet" }, "Your own: another approver decides.") : may("approve") ? "" : h("p", { class: "quiet" }, "An approver decides."));
}

function headline(change) {
  const edits = change.edits.map((each) => {
    const hold = each.kind === "holds" && each.op === "delete" && state.holds.get(each.id);
    return hold ? `Release ${hold.models.includes("*") ? "everything" : listed(hold.models)}, held by ${hold.by}` : edit(each);
  });
  return edits.length ? edits.slice(0, 3).join("; ") + (edits.length > 3 ? `; and ${edits.length - 3} more` : "") : `${change.action} ${change.subject}`;
}

function decide(change, verb) {
  const approve = verb === "approve";
  const released = change.edits.filter((each) => each.kind === "holds" && each.op === "delete").map((each) => state.holds.get(each.id)).filter(Boolean);
  ask({
    title: approve ? "Approve this change" : "Reject this change", label: approve ? "Approve" : "Reject", danger: approve,
    content: [
      h("p", {}, approve ? `It takes effect at once. ${change.by} proposed it, you agree: both names are kept.` : "Nothing changes. The log keeps that you said no."),
      h("p", {}, h("b", {}, "It opens")), opening(change.opens), h("p", {}, h("b", {}, "It does")),
      h("ul", {}, change.edits.map((each) => h("li", {}, edit(each), each.body ? h("details", { class: "more" }, h("summary", {}, "As data"), h("pre", { class: "quote" }, JSON.stringify(each.body, null, 2))) : ""))),
      released.map((hold) => facts(["Hold", h("span", { class: "id" }, hold.id)], ["By", hold.by], ["Since", moment(hold.at)], ["Order", order(state.orders, hold.order)], ["Note", hold.note])),
      facts(["Proposed by", change.by], ["Note", change.note]),
    ],
    act: (key) => call("POST", `/changes/${part(change.change)}/${verb}?wait=0`, {}, { key }),
    done: (answer, opened) => outcome(answer, opened, { verb: approve ? "Approved" : "Rejected" }),
  });
}

// ------------------------------------------------------------------ the list

const NEXT = { draft: ["shadow", "enforce", "lift"], shadow: ["enforce", "lift"], in_force: ["shadow", "lift"], lifted: [] };
const MOVES = {
  shadow: ["Shadow…", "Put in shadow", "It denies nobody, and counts whom it would deny."],
  enforce: ["Put in force…", "Put in force", "It denies from now on; requests in flight that it denies are cut."],
  lift: ["Lift…", "Lift", "It is over, for good. Under an order a second person has to approve."],
};

function paintList() {
  const found = [...state.directives.values()].sort((a, b) => RANK[a.state] - RANK[b.state] || a.id.localeCompare(b.id));
  const lifted = found.filter((each) => each.state === "lifted");
  const standing = found.filter((each) => each.state !== "lifted");
  put(list, h("div", { class: "headline" }, h("h2", { id: "list-title" }, "Directives"),
    may("operate") ? h("button", { type: "button", class: "primary", onclick: () => write() }, "New directive…") : ""),
  standing.length ? standing.map(card) : h("div", { class: "empty" }, h("p", {}, "No directive stands."), h("p", {}, "A directive denies models to some: by nationality, status, organisation. A hold (under Models) denies them to everyone.")),
  lifted.length ? h("details", { class: "more" }, h("summary", {}, `${lifted.length} lifted`), lifted.map(card)) : "");
}
const RANK = { in_force: 0, shadow: 1, draft: 2, lifted: 3 };

function card(each) {
  const [label, kind, meaning] = STATES[each.state];
  return h("article", { class: "panel", "aria-label": `Directive ${each.id}` },
    h("div", { class: "headline" }, h("h3", {}, h("span", { class: `chip ${kind}` }, label), " ", directive(each)),
      may("operate") ? h("div", { class: "actions" }, each.state === "lifted" ? "" : h("button", { type: "button", class: "small", onclick: () => write(each) }, "Change…"),
        NEXT[each.state].map((move) => h("button", { type: "button", class: "small", onclick: () => become(each, move) }, MOVES[move][0]))) : ""),
    facts(["Meaning", meaning], ["Order", each.order && h("a", { href: `/console/orders?order=${part(each.order)}` }, order(state.orders, each.order))],
      ["From", each.window?.from && when(each.window.from)], ["Until", each.window?.until && when(each.window.until)],
      ["Covers", count(each.covers.length, "model")], ["Public message", each.public_message && `“${each.public_message}”`], ["Note", each.note],
      ["By", h("span", {}, `${each.by}, `, when(each.at))], ["Directive", h("span", { class: "id" }, each.id)]));
}

function become(each, move) {
  ask({
    title: `${MOVES[move][1]}: ${each.id}`, label: MOVES[move][1], danger: move !== "shadow",
    content: [h("p", {}, h("b", {}, directive(each)), "."), h("p", {}, MOVES[move][2])],
    act: (key) => call("POST", `/directives/${part(each.id)}/${move}?wait=0`, {}, { key }),
    done: (answer, opened) => outcome(answer, opened, { verb: `${each.id}: ${MOVES[move][1].toLowerCase()}` }),
  });
}

// ------------------------------------------------------------------ the schedule

function paintSchedule() {
  const found = [...state.directives.values()].filter((each) => each.state === "in_force" || each.state === "shadow").flatMap((each) => [
    each.window?.from && [each.window.from, "begins", each], each.window?.until && [each.window.until, "ends", each],
  ]).filter((each) => each && new Date(each[0]).getTime() > now()).sort((a, b) => a[0].localeCompare(b[0]));
  put(schedule, h("h2", { id: "schedule-title" }, "Schedule"), found.length ? h("ol", { class: "timeline" }, found.map(([at, what, each]) =>
    h("li", {}, h("b", {}, what), when(at), h("span", {}, directive(each), each.order && what === "ends" ? h("span", { class: "quiet" }, " It is under an order: a second person lifts it.") : ""))))
    : h("p", { class: "quiet" }, "No window begins or ends from here on."));
}

// ------------------------------------------------------------------ writing one

const SUBJECTS = [
  ["term", "a"], ["nationality", "a national of"], ["latest_nationality", "latest a national of"], ["permanent_residence", "a permanent resident of"],
  ["org", "of the organisation"], ["org_country", "of an organisation from"], ["caller", "the caller"],
];

function clause(value, terms, label) {
  const negated = select([["", "is"], ["not", "is not"]], { "aria-label": `${label}: is or is not` });
  const subject = select(SUBJECTS, { "aria-label": `${label}: what` });
  const term = select(terms.map((id) => [id, id]), { "aria-label": `${label}: term` });
  const values = h("input", { type: "text", "aria-label": `${label}: values`, placeholder: "CN, group:ear-d5", autocomplete: "off", spellcheck: "false" });
  const shape = () => { term.hidden = subject.value !== "term"; values.hidden = subject.value === "term"; };
  subject.addEventListener("change", shape);
  if (!terms.length) subject.value = "nationality";
  read(value);
  shape();
  function read(given) {
    if (!given) return;
    const inner = given.not ?? given;
    negated.value = given.not ? "not" : "";
    const [[form, test]] = Object.entries(inner).filter(([, each]) => each);
    subject.value = form;
    if (form === "term") term.value = test;
    else values.value = test.any_of.join(", ");
  }
  return {
    element: [negated, " ", subject, " ", term, values],
    value() {
      const list = values.value.split(/[\s,]+/).filter(Boolean);
      const plain = subject.value === "term" ? { term: term.value } : { [subject.value]: { any_of: list } };
      return negated.value ? { not: plain } : plain;
    },
    complete: () => subject.value === "term" ? Boolean(term.value) : Boolean(values.value.trim()),
  };
}

// Whether the sentence can say it; what it cannot is written as data.
function sayable(each) {
  const simple = (one) => {
    const inner = one.not ?? one;
    const [form, test] = Object.entries(inner).filter(([, value]) => value)[0] ?? [];
    return form === "term" || (SUBJECTS.some(([name]) => name === form) && test?.any_of);
  };
  return (each.who.everyone || simple(each.who)) && (each.except ?? []).every(simple);
}

let writing = false;

async function write(existing) {
  const [terms, found] = await Promise.all([get("/terms"), existing ? get(`/directives/${part(existing.id)}`) : null]);
  if (!terms.ok || (found && !found.ok)) return void open("Not now", problem((terms.ok ? found : terms).body));
  writing = true;
  const form = writeForm(found?.body, found?.etag, (terms.body.terms ?? []).map((each) => each.id));
  put(writer, form);
  form.querySelector("h2").focus();
}

function writeForm(existing, etag, terms) {
  const id = h("input", { type: "text", pattern: "[A-Za-z0-9][A-Za-z0-9._:\\-]{0,127}", required: true, autocomplete: "off", value: existing?.id ?? "", disabled: Boolean(existing) });
  const names = h("datalist", { id: "patterns" }, [...state.models.keys()].map((each) => h("option", { value: each })));
  const models = h("input", { type: "text", list: "patterns", "aria-label": "Models, by id or pattern", placeholder: "claude-fable-5, family:fable", autocomplete: "off", spellcheck: "false", value: existing?.models.join(", ") ?? "" });
  const data = Boolean(existing) && !sayable(existing);
  const everyone = select([["some", "whoever"], ["all", "everyone"]], { "aria-label": "Whom" });
  const who = clause(existing && !data && !existing.who.everyone ? existing.who : undefined, terms, "Denied");
  if (existing?.who.everyone) everyone.value = "all";
  const exceptions = h("span");
  const clauses = [];
  const whoPart = h("span", {}, who.element);
  everyone.addEventListener("change", () => { whoPart.hidden = everyone.value === "all"; });
  whoPart.hidden = everyone.value === "all";
  const from = h("input", { type: "datetime-local", "aria-label": "From (UTC); empty: at once" });
  const until = h("input", { type: "datetime-local", "aria-label": "Until (UTC); empty: until it is lifted" });
  const flight = inFlight();
  flight.control.setAttribute("aria-label", "Requests in flight");
  const orders = orderFields();
  const message = h("textarea", { maxlength: "2000", rows: "2" });
  const note = h("textarea", { maxlength: "2000", rows: "2" });
  const raw = h("textarea", { class: "code", rows: "6", spellcheck: "false" });
  if (existing) {
    message.value = existing.public_message ?? "";
    note.value = existing.note ?? "";
    orders.choose(existing.order);
    if (existing.in_flight?.let_finish) flight.choose(existing.in_flight.let_finish);
    if (existing.window?.from) from.value = existing.window.from.slice(0, 16);
    if (existing.window?.until) until.value = existing.window.until.slice(0, 16);
    if (data) raw.value = JSON.stringify({ who: existing.who, except: existing.except ?? [] }, null, 2);
    else for (const each of existing.except ?? []) addException(each);
  }
  const reading = h("p", { class: "notice", role: "status" });
  const verdict = h("div", { "aria-live": "polite" });
  const target = select([["in_force", "Put it in force"], ["shadow", "Put it in shadow: count, deny nobody"], ["draft", "Keep it as a draft"]]);
  const save = h("button", { type: "button", class: "danger", disabled: true }, "Save");
  const look = h("button", { class: "primary" }, "Check what it does");

  function addException(value) {
    const one = clause(value, terms, `Exception ${clauses.length + 1}`);
    const line = h("span", { class: "clause" }, "but not to whoever ", one.element, " ", h("button", { type: "button", class: "plain", onclick: () => { clauses.splice(clauses.indexOf(one), 1); line.remove(); stale(); } }, "Remove"));
    clauses.push(one);
    exceptions.append(line);
  }

  function wanted() {
    const time = (control) => control.value ? `${control.value}:00Z` : undefined;
    const window = { ...(from.value ? { from: time(from) } : {}), ...(until.value ? { until: time(until) } : {}) };
    const asked = raw.value.trim() ? JSON.parse(raw.value) : {
      who: everyone.value === "all" ? { everyone: true } : who.value(), except: clauses.map((each) => each.value()),
    };
    return {
      models: models.value.split(/[\s,]+/).filter(Boolean), ...asked, ...(Object.keys(window).length ? { window } : {}),
      ...orders.value(), ...flight.value(), ...words("public_message", message), ...words("note", note),
    };
  }

  function stale() {
    save.disabled = true;
    put(verdict);
    try {
      const now2 = wanted();
      say(reading, now2.models.length ? `${directive(now2)}.` : "Name a model, and the sentence appears here.");
    } catch {
      say(reading, "This is not JSON yet.");
    }
  }

  async function preview(event) {
    event.preventDefault();
    let body;
    try { body = wanted(); } catch { return put(verdict, problem({ title: "This is not JSON", detail: "Correct who and except as data." })); }
    const { window: _, ...always } = body; // what it does while it is in force, whenever that is
    say(look, "Checking…");
    const tried = await call("POST", "/changes?dry_run=true", { edits: existing
      ? [{ op: "put", kind: "directives", id: existing.id, body: always }, ...(existing.state === "in_force" ? [] : [{ op: "state", kind: "directives", id: existing.id, body: { state: "in_force" } }])]
      : [{ op: "put", kind: "directives", id: id.value || "new", body: { ...always, state: "in_force" } }] });
    say(look, "Check what it does");
    put(verdict, tried.ok ? effects(tried.body, existing) : problem(tried.body));
    save.disabled = !tried.ok;
  }

  async function store() {
    const body = wanted();
    save.disabled = true;
    const answer = await call("PUT", `/directives/${part(existing?.id ?? id.value)}?wait=0`, existing ? body : { ...body, state: target.value },
      { headers: existing ? { "If-Match": etag } : { "If-None-Match": "*" } });
    if (!answer.ok) { put(verdict, problem(answer.body)); return; }
    const opened = open("Saved");
    outcome(answer, opened, { verb: existing ? `Changed: ${existing.id}` : `${id.value}: ${STATES[target.value][0].toLowerCase()}` });
    leave();
  }

  function leave() {
    writing = false;
    put(writer);
    paintList();
  }

  save.addEventListener("click", store);
  const form = h("form", { class: "panel", onsubmit: preview, oninput: (event) => { if (event.target !== target) stale(); }, "aria-labelledby": "write-title" },
    h("h2", { id: "write-title", tabindex: "-1" }, existing ? `Change ${existing.id}` : "New directive"), names,
    existing ? "" : h("div", { class: "pair" }, field("Its id", id, "A short name, such as us-persons-only.")),
    data ? h("p", { class: "notice warn" }, "This one says more than the sentence can: change it as data below.") : "",
    h("div", { class: "sentence" }, "Deny ", models, data ? "" : [" to ", everyone, " ", whoPart, exceptions, " ",
      h("button", { type: "button", class: "plain", onclick: () => { addException(); stale(); } }, "+ except")],
    h("span", { class: "clause" }, "from ", from, " until ", until, h("span", { class: "quiet" }, " UTC; empty: from now, until it is lifted")),
    h("span", { class: "clause" }, "and requests in flight ", flight.control)),
    reading, orders.element,
    h("div", { class: "pair" }, field(["Public message ", h("span", { class: "quiet" }, "(the refused read it)")], message), field(["Note ", h("span", { class: "quiet" }, "(stays in the gateway)")], note)),
    h("details", { class: "more", open: data }, h("summary", {}, "As data"), field("who and except, as JSON; it is taken instead of the sentence", raw,
      '{"who": {"all": [{"nationality": {"any_of": ["group:ear-d5"]}}, {"not": {"term": "us-person"}}]}, "except": []}')),
    h("div", { class: "actions" }, look), (verdict.className = "effects", verdict),
    h("div", { class: "actions spread" }, h("button", { type: "button", onclick: leave }, "Cancel"), h("div", { class: "actions" }, existing ? "" : [h("label", { for: "target", class: "visually-hidden" }, "What becomes of it"), Object.assign(target, { id: "target" })], save)),
    h("p", { class: "quiet" }, "Saving needs the check first, and again after every edit."));
  stale();
  return form;
}

const SIDES = [["loses", "Lose access", "bad"], ["not_known", "Denied, for something is not known of them", "warn"], ["gains", "Gain access", "good"]];

function effects(told) {
  return [
    told.needs_approval ? h("div", { class: "notice warn" }, h("p", {}, h("b", {}, "A second person has to approve this. "), "It opens what an order closed:"), opening(told.opens)) : "",
    h("div", { class: "three" }, SIDES.map(([side, label, kind]) => h("section", { class: "panel", "aria-label": label }, h("h3", { class: kind }, label),
      told[side].length ? told[side].map((each) => effect(each)) : h("p", { class: "quiet" }, "Nobody.")))),
    h("section", { class: "panel", "aria-label": "Who can still use it" }, h("h3", {}, "Who can still use it"),
      told.remaining.length ? told.remaining.map((each) => still(each, told)) : h("p", { class: "quiet" }, "It changes nothing about any model.")),
    told.callers.capped ? h("p", { class: "warn" }, `Only the first ${told.callers.looked_at} of ${told.callers.of} callers were looked at.`) : "",
  ];
}

function effect(each) {
  const recent = each.recent_requests ? `, ${count(each.recent_requests, "request")} of theirs in the last 24 hours` : "";
  return h("div", {}, h("p", {}, h("span", { class: "id" }, each.model), ": ", h("b", {}, callers(each.callers)), recent),
    kinds(each.examples));
}

const kinds = (examples) => examples.length ? h("ul", { class: "quiet" }, examples.slice(0, 4).map((one) => h("li", {}, one)),
  examples.length > 4 ? h("li", {}, `and ${count(examples.length - 4, "further kind")}`) : "") : "";

function still(each, told) {
  const name = h("span", { class: "id" }, each.model);
  if (each.profiles === null) return h("p", {}, name, ": there are too many kinds of people to say.");
  const { permitted } = each.callers;
  const who = permitted.total ? `${permitted.total} of ${count(told.callers.of, "registered caller")}` : each.permitted.profiles ? "none of the registered callers" : "nobody at all";
  return h("div", {}, h("p", {}, name, ": ", h("b", {}, who), each.permitted.profiles ? ", and whoever has" : ""), kinds(each.permitted.examples));
}

watch((parts) => {
  if (parts.has("changes") || parts.has("holds")) paintInbox();
  if ((parts.has("directives") || parts.has("orders")) && !writing) paintList();
  if (parts.has("directives")) paintSchedule();
});
wire();
begin();
