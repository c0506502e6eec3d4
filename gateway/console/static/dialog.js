// Dialogs: the platform's own, so that focus stays inside, Escape leaves, and focus returns.

import { get, newKey } from "./api.js";
import { announce, count, h, listed, milliseconds, put, say } from "./dom.js";

// A dialog: a title, what it says, which scrolls, and at its foot what can be done, which does not.
export function open(title, content, ...foot) {
  const dialog = h("dialog", { "aria-labelledby": "dialog-title" });
  const opener = document.activeElement;
  const opened = { dialog, close: () => dialog.close(), show };
  dialog.addEventListener("close", () => {
    dialog.remove();
    (opener?.isConnected ? opener : document.getElementById("main")).focus({ preventScroll: true });
  });

  function show(heading, more, ...actions) {
    put(dialog, frame("div", {}, heading, more, actions.length ? actions : [close(opened)]));
    dialog.querySelector("h2").focus();
  }

  document.body.append(dialog);
  if (title) put(dialog, frame("div", {}, title, content, foot.length ? foot : [close(opened)]));
  dialog.showModal();
  return opened;
}

function frame(tag, props, heading, content, foot, confirm) {
  return h(tag, props, h("h2", { id: "dialog-title", tabindex: "-1" }, heading), h("div", { class: "scroll" }, content),
    h("div", { class: "foot" }, confirm, h("div", { class: "actions" }, foot)));
}

function close(opened) {
  return h("button", { type: "button", class: "primary", onclick: () => opened.close() }, "Close");
}

export function problem(body) {
  return h("div", { class: "notice bad", role: "alert" }, h("p", {}, h("b", {}, `${body.title ?? "It did not work"}. `), body.detail ?? ""));
}

// A question with one button that does something. `act(key)` gives what came back; `done` shows it.
export function ask({ title, content, confirm, label, danger = false, ready = () => true, act, done }) {
  const opened = open();
  const failure = h("div");
  const button = h("button", { class: danger ? "danger" : "primary", disabled: !ready() }, label);
  let key = newKey(); // kept as long as it is not known whether the call arrived
  let busy = false;

  async function submit(event) {
    event.preventDefault();
    if (!ready() || busy) return;
    busy = button.disabled = true;
    say(button, `${label} …`);
    const answer = await act(key);
    busy = false;
    if (answer.ok) return done(answer, opened);
    if (answer.status >= 400 && answer.status < 500) key = newKey();
    say(button, label);
    button.disabled = !ready();
    put(failure, problem(answer.body));
  }

  const form = frame("form", { onsubmit: submit, oninput: () => { if (!busy) button.disabled = !ready(); } }, title, content,
    [h("button", { type: "button", onclick: () => opened.close() }, "Cancel"), button], [failure, confirm]);
  put(opened.dialog, form);
  (form.querySelector(".scroll input, .scroll select, .scroll textarea") ?? form.querySelector(".foot input, .foot button")).focus();
  return opened;
}

// ------------------------------------------------------------------ receipts

const STATE = {
  waiting: ["waiting", "quiet"], acked: ["enforces it", "good"], left: ["has left", "quiet"],
  expired: ["silent; its lease has ended, it refuses", "warn"],
};

// What came of a call that changes policy, as it comes: local, waiting for somebody, or proven replica by replica.
export function outcome(answer, opened, { verb, more = () => [] }) {
  const { body } = answer;
  if (body.awaiting === "approval") return waiting(body, opened);
  if (body.state === "local") return local(body, opened, verb);
  if (body.scope === "this machine") return withdrawn(body, opened);
  return receipt(body, opened, verb, more);
}

function waiting(change, opened) {
  const told = `Nothing has changed yet. ${change.change} waits for a second person, under Directives, Waiting for approval, until ${change.expires.slice(0, 10)}.`;
  announce(told);
  opened.show("Waits for a second person", [h("div", { class: "notice warn" },
    h("p", {}, h("b", {}, "Nothing has changed yet. "), "This opens something that an order closed, so an approver other than you decides.")),
  h("p", {}, "Change ", h("span", { class: "id" }, change.change), ", in the inbox under ", h("a", { href: "/console/directives" }, "Directives"), `, until ${change.expires.slice(0, 10)}.`),
  opening(change.opens)]);
}

export function opening(opens) {
  if (!opens?.length) return "";
  return h("ul", {}, opens.map((each) => h("li", {}, h("span", { class: "id" }, each.model), ` opens to ${each.profile}`, each.profiles > 1 ? ` and ${count(each.profiles - 1, "further profile")}` : "")));
}

function local(body, opened, verb) {
  const { workers } = body;
  const all = workers.holding === workers.expected;
  opened.show(`${verb}, on this machine`, [h("div", { class: `notice ${all ? "warn" : "bad"}`, role: "status" },
    h("p", {}, h("b", {}, `${workers.holding} of ${count(workers.expected, "worker")} of this machine ${workers.holding === 1 ? "holds" : "hold"} it. ${count(body.streams_cut, "stream")} cut. `),
      "Redis cannot be reached: other machines do not know it yet. It is proposed for all when Redis is back.",
      body.kept ? "" : " It could not be written to disk: a restart of the gateway forgets it.")),
  h("p", {}, "Hold ", h("span", { class: "id" }, body.hold), ` on ${listed(body.models)}`)]);
}

function withdrawn(body, opened) {
  opened.show("Undone, on this machine", [h("div", { class: "notice good", role: "status" }, h("p", {}, `${listed(body.models)} ${body.still_held.length ? "stay offline by other holds" : "can be used here again"}.`)),
    body.may_come_back ? h("p", { class: "warn" }, "Redis may have had it already; then it comes back with Redis. Release it there.") : ""]);
}

function receipt(first, opened, verb, more) {
  const verdict = h("p", { class: "verdict", role: "status" });
  const bar = h("progress", { "aria-label": "Replicas that enforce it" });
  const list = h("ul", { class: "acks", "aria-label": "Replicas" });
  const still = h("div");
  const extra = h("span", { class: "as-is" });
  const rows = new Map();
  opened.show(verb, [verdict, bar, list, still,
    h("p", { class: "quiet" }, `Receipt of revision ${first.revision}, committed ${first.committed_at.slice(11, 19)} UTC.`)], extra, close(opened));
  const held = first.still_held ?? [];
  if (held.length) {
    put(still, h("div", { class: "notice warn" }, h("p", {}, h("b", {}, "Still offline: "), held.map((each) => `${each.model} by ${listed(each.holds.map((hold) => hold.id))}`).join("; "))));
  }
  paint(first);
  follow(first.basis === null ? 0 : Infinity);
  put(extra, more(first));

  function paint(view) {
    const { list: replicas, expected } = view.replicas;
    const settled = replicas.filter((each) => each.state !== "waiting").length;
    bar.max = Math.max(1, expected);
    bar.value = settled;
    bar.hidden = !expected;
    for (const each of replicas) row(each);
    say(verdict, judged(view, settled));
    verdict.className = `verdict ${view.enforced ? "good" : view.basis ? "bad" : ""}`;
  }

  function row(each) {
    const key = `${each.id}:${each.incarnation}`;
    if (!rows.has(key)) {
      const parts = [h("span", { class: "id" }, each.id), h("span"), h("span", { class: "number quiet" })];
      rows.set(key, parts);
      list.append(h("li", {}, parts));
    }
    const [, said, detail] = rows.get(key);
    const [words, kind] = STATE[each.state] ?? [each.state, "quiet"];
    say(said, words);
    said.className = kind;
    say(detail, each.ms === null ? "" : `${milliseconds(each.ms)}${each.streams_cut ? `, ${count(each.streams_cut, "stream")} cut` : ""}`);
  }

  async function follow(tries) {
    while (tries < Infinity && opened.dialog.isConnected) {
      await new Promise((resume) => setTimeout(resume, tries < 20 ? 120 : 500));
      tries += 1;
      const answer = await get(`/receipts/${first.revision}`);
      if (!answer.ok) continue;
      paint(answer.body);
      if (answer.body.basis) return;
    }
  }
}

function judged(view, settled) {
  const { expected } = view.replicas;
  const cut = view.streams_cut ? ` ${count(view.streams_cut, "stream")} cut.` : "";
  if (view.enforced) return `Enforced on ${settled} of ${count(expected, "replica")} after ${milliseconds(view.elapsed_ms)}.${cut}`;
  switch (view.basis) {
    case null: return `Committed. Proven on ${settled} of ${count(expected, "replica")} so far…${cut}${view.draining ? ` ${count(view.draining, "request")} may still finish.` : ""}`;
    case "no_replicas": return "Committed, but not proven: no replica is listed, so nothing serves.";
    case "lost": return "Not enforced: Redis has lost this revision. Look at the models, and do it again.";
    default: return "Committed, but not proven: too few of Redis' replicas have it, so a failover could forget it.";
  }
}
