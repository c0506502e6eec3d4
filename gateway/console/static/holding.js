// Taking models off, and back: what it hits before, the proof after.

import { ME, call, get, may, part } from "./api.js";
import { ask, outcome } from "./dialog.js";
import { check, count, facts, field, h, left, listed, moment, say, select } from "./dom.js";
import { now, state, watch } from "./live.js";
import { callers, order as orderWords } from "./words.js";

// ------------------------------------------------------------------ off

export function takeOffline(model) {
  dialog({
    title: `Take ${model} offline`,
    lead: h("p", {}, `For everyone, at once, until somebody releases it. For ${Math.round(ME.undo_seconds / 60)} minutes you can undo it by yourself.`),
    covers: [model], pattern: model, phrase: model, what: "the model's name", label: "Take offline",
    path: `/models/${part(model)}/offline`, extra: {}, verb: `${model} is offline`,
  });
}

export function everythingOff() {
  const models = [...state.models.keys()];
  dialog({
    title: "Turn everything off",
    lead: h("div", { class: "notice bad" }, h("p", {}, h("b", {}, `All ${count(models.length, "model")} of the gateway ${ME.gateway}, for everyone. `),
      "Models that are added later are off, too. It is one hold: undo or release it, and what was on before is on again.")),
    covers: models, pattern: "*", phrase: ME.gateway, what: "the gateway's name", label: "Turn everything off",
    path: "/offline", extra: { models: ["*"] }, verb: "Everything is offline",
  });
}

function dialog({ title, lead, covers, pattern, phrase, what, label, path, extra, verb }) {
  const message = h("textarea", { maxlength: "2000", rows: "2" });
  const note = h("textarea", { maxlength: "2000", rows: "2" });
  const order = orderFields();
  const flight = inFlight();
  const typed = h("input", { type: "text", autocomplete: "off", autocapitalize: "off", spellcheck: "false", "data-confirm": true });
  const hits = impact(covers, pattern);
  ask({
    title, label, danger: true,
    content: [
      lead, hits.element,
      h("div", { class: "pair" }, field(["Public message ", h("span", { class: "quiet" }, "(the refused read it)")], message),
        field(["Note ", h("span", { class: "quiet" }, "(stays in the gateway)")], note)),
      order.element, flight.element,
    ],
    confirm: field([`Type ${what}, `, h("code", {}, phrase), ", to confirm"], typed),
    ready: () => typed.value.trim() === phrase && order.complete(),
    act: (key) => call("POST", `${path}?wait=0`, {
      ...extra, ...words("note", note), ...words("public_message", message), ...order.value(), ...flight.value(),
    }, { key }),
    done: (answer, opened) => {
      hits.stop();
      outcome(answer, opened, { verb, more: (body) => body.hold ? undoButton(() => state.holds.get(body.hold) ?? { id: body.hold, by: ME.id, at: new Date(now()), covers }, opened) : "" });
    },
  }).dialog.addEventListener("close", hits.stop);
}

export function words(name, control) {
  const text = control.value.trim();
  return text ? { [name]: text } : {};
}

// What an offline hits now, as long as the dialog is open.
function impact(covers, pattern) {
  const live = h("dd", {});
  const day = h("dd", { class: "quiet" }, "…");
  const providers = new Set(covers.flatMap((id) => state.models.get(id)?.routes.map((route) => route.provider) ?? []));
  const routes = covers.length === 1
    ? (state.models.get(covers[0])?.routes ?? []).map((route) => h("div", {}, route.provider, h("span", { class: "quiet" }, ` as ${named(route.names)}`)))
    : listed([...providers].sort());
  const element = h("div", { class: "hits" }, h("h3", {}, "What this hits"),
    h("dl", { class: "facts" }, h("dt", {}, "Now"), live, h("dt", {}, "Last 24 hours"), day, h("dt", {}, providers.size === 1 ? "Route" : "Routes"), h("dd", {}, routes)));
  const stop = watch(() => {
    const sums = covers.reduce((sum, id) => {
      const one = state.traffic.get(id);
      return one ? [sum[0] + one.in_flight, sum[1] + one.streams, Math.max(sum[2], one.callers)] : sum;
    }, [0, 0, 0]);
    const who = covers.length === 1 && sums[0] ? ` from ${count(sums[2], "caller")}` : "";
    say(live, sums[0] ? `${count(sums[0], "request")} in flight${who}, ${count(sums[1], "stream")} among them` : "nothing in flight on this machine");
  });
  get(`/console/impact?models=${part(pattern)}`).then((answer) => {
    say(day, answer.ok ? (answer.body.requests ? `${count(answer.body.requests, "request")} by ${callers(answer.body.callers)}` : "nobody used it") : "not known just now");
    day.className = "";
  });
  return { element, stop };
}

export const named = (names) => names.length > 2 ? `${names[0]} and ${count(names.length - 1, "other name")}` : listed(names);

export function orderFields() {
  const kinds = [["", "No order"], ["new", "A new order…"], ...[...state.orders.values()].map((each) => [`id:${each.id}`, `${each.authority}, ${each.reference}`])];
  const which = select(kinds);
  const authority = h("input", { type: "text", maxlength: "2000" });
  const reference = h("input", { type: "text", maxlength: "2000" });
  const url = h("input", { type: "url", maxlength: "2000", pattern: "https?://.+", placeholder: "https://" });
  const [disclosed, disclose] = check("Those who are refused may learn authority, reference and link");
  const fresh = h("div", { hidden: true },
    h("div", { class: "pair" }, field("Authority", authority), field("Reference", reference)),
    field(["Link ", h("span", { class: "quiet" }, "(if there is one)")], url), h("div", { class: "field" }, disclosed));
  which.addEventListener("change", () => {
    fresh.hidden = which.value !== "new";
    if (!fresh.hidden) authority.focus();
  });
  const help = "Under an order, opening again takes a second person.";
  return {
    element: h("div", {}, field("Order", which, help), fresh),
    complete: () => which.value !== "new" || Boolean(authority.value.trim() && reference.value.trim() && url.checkValidity()),
    value: () => which.value === "" ? {} : which.value !== "new" ? { order: which.value.slice(3) } : { order: {
      authority: authority.value.trim(), reference: reference.value.trim(), ...words("url", url), disclose: disclose.checked,
    } },
    choose: (id) => { if (id) which.value = `id:${id}`; },
  };
}

export function inFlight() {
  const how = select([["0", "are cut at once"], ["10", "may finish for 10 s, then are cut"], ["60", "may finish for 1 min, then are cut"], ["600", "may finish for 10 min, then are cut"]]);
  return {
    element: field("Requests in flight", how), control: how,
    value: () => how.value === "0" ? {} : { in_flight: { let_finish: Number(how.value) } },
    choose: (seconds) => {
      if (![...how.options].some((each) => each.value === String(seconds))) how.append(h("option", { value: String(seconds) }, `may finish for ${seconds} s, then are cut`));
      how.value = String(seconds);
    },
  };
}

// ------------------------------------------------------------------ back on

export const undoLeft = (hold) => new Date(hold.at).getTime() + ME.undo_seconds * 1000 - now();
export const canUndo = (hold) => may("operate") && hold.by === ME.id && undoLeft(hold) > 0;

export function undoButton(hold, opened) {
  if (!canUndo(hold())) return "";
  const button = h("button", { type: "button", class: opened ? "" : "small", onclick: () => { opened?.close(); undo(hold()); } }, "Undo");
  const timer = setInterval(() => {
    const remaining = undoLeft(hold());
    if (!button.isConnected || remaining <= 0) { clearInterval(timer); button.remove(); } else say(button, `Undo (${left(remaining)} left)`);
  }, 1000);
  say(button, `Undo (${left(undoLeft(hold()))} left)`);
  return button;
}

const covered = (hold) => hold.covers.length > 5 ? count(hold.covers.length, "model") : listed(hold.covers);

export function undo(hold) {
  ask({
    title: "Undo this hold", label: "Undo the hold",
    content: [h("p", {}, h("b", {}, covered(hold)), " can be used again as before, unless another hold stands on it. The log keeps both."), details(hold)],
    act: (key) => call("POST", `/holds/${part(hold.id)}/undo?wait=0`, {}, { key }),
    done: (answer, opened) => outcome(answer, opened, { verb: `Undone: ${hold.id}` }),
  });
}

export function release(hold) {
  const under = hold.order && state.orders.has(hold.order);
  ask({
    title: "Release this hold", label: under ? "Ask for the release" : "Release the hold",
    content: [
      h("p", {}, h("b", {}, covered(hold)), " can be used again, unless another hold stands on it."),
      under ? h("div", { class: "notice warn" }, h("p", {}, "It stands under an order: a second person has to approve, and until then nothing changes.")) : "",
      details(hold),
    ],
    act: (key) => call("POST", `/holds/${part(hold.id)}/release?wait=0`, {}, { key }),
    done: (answer, opened) => outcome(answer, opened, { verb: `Released: ${hold.id}` }),
  });
}

function details(hold) {
  return facts(["Hold", h("span", { class: "id" }, hold.id)], ["By", hold.by], ["Since", moment(hold.at)], ["Order", orderWords(state.orders, hold.order)], ["Note", hold.note], ["Public message", hold.public_message]);
}

export function wire() {
  document.getElementById("everything-off")?.addEventListener("click", everythingOff);
}
