// What the page shows, kept current: all of it on every connection, then what has changed. Never silently stale.

import { ME, get } from "./api.js";
import { clock, count, h, lasting, put, say } from "./dom.js";

const PARTS = ["models", "holds", "directives", "orders", "replicas", "traffic", "changes"];
const SILENT_MS = 4500; // the gateway speaks every second
const PAINT_MS = 250; // however much comes in, no more than four times a second is drawn
const KEPT_MS = 600000;
const BACK_OFF = [300, 1000, 2000, 4000];
const HIDDEN_MS = 20000; // a browser keeps six connections to a gateway: pages that nobody sees let theirs go

export const state = { head: {}, plots: [], ...Object.fromEntries(PARTS.map((name) => [name, new Map()])) };
const watchers = new Set();
let touched = new Map();
let source, heard = 0, lostAt = 0, skew = 0, attempt = 0, version = 0, ready = false, refused = false, painting = false, paused = false, retry, hiding;

export const now = () => Date.now() + skew;
export const isLive = () => ready && !lostAt;

// Call `paint` with the parts that changed, each with the ids that did (null: any), at most four times a second; and once when everything
// is there. Gives what ends it.
export function watch(paint) {
  watchers.add(paint);
  if (ready) paint(everything());
  return () => watchers.delete(paint);
}

const everything = () => new Map([...PARTS, "head", "plots"].map((name) => [name, null]));

export function receive(kind, news) {
  if (kind === "full") {
    for (const name of PARTS) state[name] = new Map();
    state.plots = [];
    touched = everything();
  }
  if (kind === "full" || news.holds) version += 1;
  state.head = news.head;
  skew = news.head.at - Date.now();
  for (const name of PARTS) {
    if (!news[name]) continue;
    if (!touched.has(name)) touched.set(name, new Set());
    const ids = touched.get(name);
    for (const [id, value] of Object.entries(news[name])) {
      ids?.add(id);
      if (value === null) state[name].delete(id);
      else state[name].set(id, value);
    }
  }
  if (news.plots?.length) {
    state.plots.push(...news.plots);
    while (state.plots.length && state.plots[0].at < now() - KEPT_MS) state.plots.shift();
    touched.set("plots", null);
  }
  touched.set("head", null);
  heard = Date.now();
  ready = true;
  attempt = 0;
  if (lostAt) lostAt = 0;
  schedule();
}

function schedule() {
  if (painting) return;
  painting = true;
  setTimeout(() => requestAnimationFrame(() => {
    painting = false;
    const parts = touched;
    touched = new Map();
    for (const paint of watchers) paint(parts);
    paintTop();
  }), document.hidden ? 1000 : PAINT_MS);
}

// ------------------------------------------------------------------ the connection

export function connect() {
  clearTimeout(retry);
  retry = undefined;
  source?.close();
  source = new EventSource("/console/events");
  for (const kind of ["full", "news"]) source.addEventListener(kind, (event) => receive(kind, JSON.parse(event.data)));
  source.addEventListener("over", () => { source.close(); get("/holds?by=me"); }); // it answers 401, which leads to signing in
  source.onerror = () => lost();
}

function lost() {
  source?.close();
  if (!lostAt) lostAt = heard || Date.now();
  if (!retry) retry = setTimeout(again, BACK_OFF[Math.min(attempt++, BACK_OFF.length - 1)]);
  paintTop();
}

async function again() {
  const answer = await get("/holds?by=me"); // whether the session still stands: an EventSource would not say
  refused = answer.status === 403;
  if (refused) paintTop();
  else if (answer.status !== 0) connect();
  else { retry = undefined; lost(); }
}

let ticked = Date.now();
function tick() {
  if (paused) return;
  const slept = Date.now() - ticked > 10000;
  ticked = Date.now();
  if (heard && !retry && (slept || Date.now() - heard > SILENT_MS)) {
    if (Date.now() - heard > SILENT_MS) lostAt ||= heard;
    attempt = 0;
    connect();
    heard = heard && Date.now() - SILENT_MS + 3000; // a moment for the answer, then again
  }
  paintTop();
}

function pause() {
  paused = true;
  clearTimeout(retry);
  retry = undefined;
  source?.close();
}

function resume() {
  if (!paused) { tick(); return; }
  paused = false;
  ticked = Date.now();
  lostAt ||= heard;
  attempt = 0;
  connect();
  paintTop();
}

// ------------------------------------------------------------------ what is the same on every page

function paintTop() {
  const lamp = document.getElementById("liveness");
  if (!lamp) return;
  lamp.classList.toggle("live", isLive());
  lamp.classList.toggle("dead", Boolean(lostAt));
  say(document.getElementById("liveness-text"),
    refused ? "Not for your roles" : lostAt ? `Not live since ${clock(lostAt + skew)}` : ready ? `Live ${clock(state.head.at)}` : "Connecting…");
  paintBanners();
  badge("models", offline().size, "offline");
  badge("directives", state.changes.size, "waiting for approval");
}

function badge(page, number, what) {
  const element = document.querySelector(`[data-count="${page}"]`);
  element.hidden = !number;
  say(element, String(number));
  element.setAttribute("aria-label", ` (${number} ${what})`);
}

let banner = "";
function paintBanners() {
  const wanted = banners();
  const key = wanted.map(([, ...words]) => words.join("")).join("|");
  if (key === banner) return;
  banner = key;
  put(document.getElementById("banners"), wanted.map(([kind, strong, text]) =>
    h("div", { class: `notice ${kind}`, role: "alert" }, h("p", {}, h("b", {}, strong), ` ${text}`))));
}

function banners() {
  const { head } = state;
  const found = [];
  if (refused) return [["warn", `Your roles (${ME.roles.join(", ")}) do not include reading the policy.`, "An approver can give you another."]];
  if (lostAt) {
    found.push(["bad", `Not live since ${clock(lostAt + skew)}.`,
      "What you see may be out of date. Trying to reconnect; what you do is still sent."]);
  }
  if (head.redis === "unreachable") {
    found.push(["bad", `Redis cannot be reached since ${clock(head.away_since)}.`,
      "Shown is what was known then. Taking a model offline works, on this machine at once, and everywhere when Redis is back. Nothing can be opened but your own hold of this machine."]);
  }
  if (head.redis === "empty") {
    found.push(["bad", `Redis has lost its policy since ${clock(head.away_since)}.`,
      "Replicas refuse when their leases end. Restore it: portcullis policy restore."]);
  }
  const missing = (head.workers?.down ?? 0) + (head.workers?.silent ?? 0);
  if (missing && !lostAt) found.push(["warn", `${count(missing, "worker")} of this machine ${missing === 1 ? "does" : "do"} not serve.`, "See Traffic."]);
  return found;
}

// Which models are off, each with the ids of the holds on it.
let known = { version: -1, result: new Map() };
export function offline() {
  if (known.version !== version) {
    const result = new Map();
    for (const [id, hold] of state.holds) {
      for (const model of hold.covers) result.set(model, [...(result.get(model) ?? []), id]);
    }
    known = { version, result };
  }
  return known.result;
}

export const since = (at) => lasting(now() - new Date(at).getTime());

export function begin() {
  if (!ME.id) return;
  for (const time of document.querySelectorAll("time[data-epoch]")) say(time, clock(Number(time.dataset.epoch) * 1000, false));
  const chosen = localStorage.getItem("portcullis-theme") ?? "auto";
  for (const choice of document.querySelectorAll("#theme input")) {
    choice.checked = choice.value === chosen;
    choice.addEventListener("change", () => {
      localStorage.setItem("portcullis-theme", choice.value);
      if (choice.value === "auto") delete document.documentElement.dataset.theme;
      else document.documentElement.dataset.theme = choice.value;
    });
  }
  const menu = document.querySelector("details.menu");
  document.addEventListener("click", (event) => { if (!menu.contains(event.target)) menu.open = false; });
  menu.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { menu.open = false; menu.querySelector("summary").focus(); }
  });
  document.querySelector("nav [aria-current]").scrollIntoView({ inline: "center", block: "nearest" });
  connect();
  setInterval(tick, 1000);
  addEventListener("online", () => { attempt = 0; connect(); });
  document.addEventListener("visibilitychange", () => {
    clearTimeout(hiding);
    if (document.hidden) hiding = setTimeout(pause, HIDDEN_MS);
    else resume();
  });
}
