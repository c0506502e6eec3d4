// Elements from data. Text is only ever text: nothing here, or anywhere, makes markup of a string.

export function h(tag, props = {}, ...children) {
  return fill(document.createElement(tag), props, children);
}

export function svg(tag, props = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), props, children);
}

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked" || name === "disabled" || name === "hidden" || name === "selected") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== undefined && child !== null && child !== false && child !== ""));
  return element;
}

export function put(parent, ...children) {
  parent.replaceChildren(...children.flat(Infinity).filter((child) => child !== undefined && child !== null && child !== false && child !== ""));
  return parent;
}

// Only if it differs: what has not changed is neither painted nor read out again.
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function announce(text) {
  say(document.getElementById("announcer"), text);
}

let numbers = 0;
export function field(label, control, help, kind = "") {
  control.id ||= `f${++numbers}`;
  const more = help && h("div", { class: "quiet", id: `${control.id}-help` }, help);
  if (help) control.setAttribute("aria-describedby", more.id);
  return h("div", { class: `field ${kind}` }, h("label", { for: control.id }, label), control, more);
}

export function check(label, props = {}) {
  const box = h("input", { type: "checkbox", ...props });
  return [h("label", { class: "check" }, box, h("span", {}, label)), box];
}

export function select(options, props = {}) {
  return h("select", props, options.map(([value, label]) => h("option", { value }, label)));
}

// A link, if it is one that a person may follow; else the text that it is.
export function link(url) {
  return /^https?:\/\/[^\s<>"]+$/i.test(url) ? h("a", { href: url, rel: "noopener noreferrer", target: "_blank" }, url) : h("span", {}, url);
}

export function facts(...pairs) {
  const shown = pairs.filter(([, value]) => value !== undefined && value !== null && value !== "" && value !== false);
  return h("dl", { class: "facts" }, shown.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
}

// ------------------------------------------------------------------ words and times

export function count(number, one, many = `${one}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
}

export function listed(words, join = "and") {
  return words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} ${join} ${words.at(-1)}`;
}

const two = (number) => String(number).padStart(2, "0");
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

export function clock(at, seconds = true) {
  const time = new Date(at);
  return `${two(time.getUTCHours())}:${two(time.getUTCMinutes())}${seconds ? `:${two(time.getUTCSeconds())}` : ""} UTC`;
}

export function moment(at) {
  const time = new Date(at);
  const today = new Date().toISOString().slice(0, 10) === time.toISOString().slice(0, 10);
  return today ? clock(time) : `${time.getUTCDate()} ${MONTHS[time.getUTCMonth()]} ${time.getUTCFullYear()}, ${clock(time, false)}`;
}

export function when(at) {
  const time = new Date(at);
  return h("time", { datetime: time.toISOString(), title: `${time.toLocaleString()} where you are` }, moment(time));
}

export function lasting(milliseconds) {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} days`;
}

export function left(milliseconds) {
  const seconds = Math.max(0, Math.ceil(milliseconds / 1000));
  return `${Math.floor(seconds / 60)}:${two(seconds % 60)}`;
}

export function milliseconds(value) {
  if (value === null || value === undefined) return "—";
  return value < 10 ? `${value.toFixed(1)} ms` : value < 10000 ? `${Math.round(value)} ms` : `${(value / 1000).toFixed(1)} s`;
}
