// Lines over ten minutes, as SVG: colour and dash tell them apart, and a table says the same.

import { clock, h, put, say, svg } from "./dom.js";

const WIDTH = 520, HEIGHT = 176, LEFT = 44, RIGHT = 8, TOP = 10, BOTTOM = 22, SPAN = 600000;

// `series(moments)` gives [{name, values}], one value (or null) a moment.
export function plot(title, unit, series, format = (value) => value.toLocaleString("en", { maximumFractionDigits: 1 })) {
  const canvas = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
  const legend = h("ul", { class: "legend" });
  const reading = h("span", { class: "quiet number" });
  const table = h("tbody");
  const shown = h("details", { class: "more", ontoggle: () => tabulate() }, h("summary", { class: "quiet" }, "As a table"),
    h("table", {}, h("caption", { class: "visually-hidden" }, title), table));
  const element = h("div", { class: "panel plot" }, h("figure", {}, h("div", { class: "headline" }, h("figcaption", {}, title), reading), canvas, legend), shown);
  let moments = [], lines = [], until = 0, pointed = null;

  canvas.addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect();
    pointed = until - SPAN + ((event.clientX - box.left) / box.width * WIDTH - LEFT) / (WIDTH - LEFT - RIGHT) * SPAN;
    point();
  });
  canvas.addEventListener("pointerleave", () => { pointed = null; point(); });

  const x = (at) => LEFT + (at - until + SPAN) / SPAN * (WIDTH - LEFT - RIGHT);

  function paint(all, end) {
    until = end;
    moments = all.filter((each) => each.at > until - SPAN);
    lines = series(moments);
    const top = nice(Math.max(0, ...lines.flatMap((line) => line.values.map((value) => value ?? 0))));
    const y = (value) => TOP + (1 - value / top) * (HEIGHT - TOP - BOTTOM);
    const grid = [0, top / 2, top].map((value) => [
      svg("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(value), y2: y(value) }),
      svg("text", { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, format(value)),
    ]);
    const times = [8, 6, 4, 2, 0].map((minutes) => svg("text", { x: x(until - minutes * 60000), y: HEIGHT - 6, "text-anchor": minutes ? "middle" : "end" }, clock(until - minutes * 60000, false).slice(0, 5)));
    put(canvas, grid, times, lines.map((line, i) => svg("path", { class: `curve c${line.colour ?? i % 6}`, d: path(line.values, y) })), svg("g", { class: "cursors" }));
    canvas.setAttribute("aria-label", `${title}, last ten minutes to ${clock(until)}. ${lines.map((line) => `${line.name}: ${last(line)}`).join("; ")}`);
    names();
    point();
    tabulate();
  }

  function path(values, y) {
    let d = "", open = false;
    values.forEach((value, i) => {
      const gap = i && moments[i].at - moments[i - 1].at > 15000;
      if (value === null || value === undefined) { open = false; return; }
      d += `${open && !gap ? "L" : "M"}${x(moments[i].at).toFixed(1)} ${y(value).toFixed(1)}`;
      open = true;
    });
    return d;
  }

  const last = (line) => {
    const value = line.values.at(-1);
    return value === null || value === undefined ? "—" : `${format(value)} ${unit}`;
  };

  function names() {
    lines.forEach((line, i) => {
      const item = legend.children[i] ?? legend.appendChild(h("li", {}, svg("svg", { viewBox: "0 0 26 10", "aria-hidden": "true" }, svg("path", { d: "M0 5H26" })), h("span"), " ", h("b", { class: "number" })));
      item.querySelector("path").setAttribute("class", `curve c${line.colour ?? i % 6}`);
      say(item.querySelector("span"), line.name);
      say(item.querySelector("b"), last(line));
    });
    while (legend.children.length > lines.length) legend.lastChild.remove();
  }

  function point() {
    const group = canvas.querySelector(".cursors");
    if (!group) return;
    if (pointed === null || !moments.length) { put(group); say(reading, ""); return; }
    const i = moments.reduce((best, each, j) => Math.abs(each.at - pointed) < Math.abs(moments[best].at - pointed) ? j : best, 0);
    put(group, svg("line", { class: "cursor", x1: x(moments[i].at), x2: x(moments[i].at), y1: TOP, y2: HEIGHT - BOTTOM }));
    say(reading, `${clock(moments[i].at)}: ${lines.map((line) => `${line.name} ${line.values[i] === null || line.values[i] === undefined ? "—" : format(line.values[i])}`).join(", ")}`);
  }

  function tabulate() {
    if (!shown.open) return;
    const step = Math.max(1, Math.floor(moments.length / 10));
    const chosen = moments.map((_, i) => i).filter((i) => (moments.length - 1 - i) % step === 0);
    put(table, h("tr", {}, h("th", { scope: "col" }, "Time"), lines.map((line) => h("th", { scope: "col", class: "number" }, `${line.name} (${unit})`))),
      chosen.map((i) => h("tr", {}, h("th", { scope: "row" }, clock(moments[i].at)), lines.map((line) => h("td", { class: "number" }, line.values[i] === null || line.values[i] === undefined ? "—" : format(line.values[i]))))));
  }

  return { element, paint };
}

function nice(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 4, 5, 10].map((step) => step * power).find((step) => step >= value);
}

