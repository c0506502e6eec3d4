"""How the report looks: on a screen, and on paper."""

STYLE = """
:root { --ink: #1c2330; --quiet: #5b6575; --line: #d9dee6; --paper: #ffffff; --wash: #f5f7fa;
  --open: #2f855a; --some: #b7791f; --shut: #c53030; --calm: #64748b; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--wash); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 40px 32px 64px; background: var(--paper); }
h1 { font-size: 30px; line-height: 1.2; margin: 4px 0 18px; letter-spacing: -.01em; }
h2 { font-size: 20px; margin: 0 0 12px; padding-top: 28px; border-top: 2px solid var(--ink); }
h3 { font-size: 15px; margin: 20px 0 6px; }
section { margin-top: 32px; }
p { margin: 4px 0; } ul { margin: 4px 0; padding-left: 18px; } li { margin: 2px 0; }
.over, .quiet, .legend, .seq { color: var(--quiet); font-size: 13px; }
.none { color: var(--quiet); }
time { white-space: nowrap; font-variant-numeric: tabular-nums; } time b { font-weight: 650; }
code { font: 12.5px/1.4 ui-monospace, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
blockquote { margin: 6px 0; padding: 2px 10px; border-left: 3px solid var(--line); color: var(--quiet); }
.warning { color: var(--shut); font-weight: 600; }
dl.order { display: grid; grid-template-columns: 210px 1fr; gap: 4px 16px; margin: 0; }
dt { color: var(--quiet); } dd { margin: 0; overflow-wrap: anywhere; }
.badge, .chip { display: inline-block; border-radius: 999px; padding: 1px 11px; color: #fff; font-size: 13px;
  font-weight: 600; vertical-align: middle; letter-spacing: 0; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(230px, 1fr)); gap: 12px; }
.card { border: 1px solid var(--line); border-radius: 8px; padding: 12px 14px; }
.card h3 { margin: 0; font-size: 13px; color: var(--quiet); font-weight: 600; }
.card .value { font-size: 13.5px; margin: 2px 0 4px; }
.card .value b { display: block; font-size: 21px; line-height: 1.25; } .card p:last-child { font-size: 13px;
  color: var(--quiet); }
figure { margin: 0; } svg.timeline { width: 100%; height: auto; display: block; }
svg text { font-family: inherit; fill: var(--ink); }
svg .lane { font-size: 13px; font-weight: 600; } svg .bar { font-size: 12.5px; fill: #fff; font-weight: 600; }
svg .time { font-size: 11px; fill: var(--quiet); font-variant-numeric: tabular-nums; }
svg .tick { stroke: var(--line); stroke-dasharray: 2 3; } svg .axis { stroke: var(--ink); stroke-width: 1.5; }
svg .mark { fill: var(--paper); stroke: var(--ink); stroke-width: 1.5; } svg .number { font-size: 10px;
  font-weight: 700; }
.p-received { fill: var(--calm); background: var(--calm); } .p-in_force { fill: var(--shut);
  background: var(--shut); }
.p-partly_lifted, .a-some { fill: var(--some); background: var(--some); }
.p-lifted, .a-all { fill: var(--open); background: var(--open); } .a-none { fill: var(--shut);
  background: var(--shut); }
.key { display: inline-block; width: 12px; height: 12px; border-radius: 3px; margin-left: 10px;
  vertical-align: -1px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th { text-align: left; color: var(--quiet); font-size: 12.5px; font-weight: 600; padding: 6px 10px 6px 0;
  border-bottom: 1px solid var(--ink); }
td { padding: 9px 14px 9px 0; border-bottom: 1px solid var(--line); vertical-align: top; overflow-wrap: anywhere; }
table.who td:nth-child(1) { width: 21%; } table.who td:nth-child(2) { width: 31%; }
  table.who td:nth-child(4) { width: 17%; }
table.steps td:nth-child(1) { width: 34px; } table.steps td:nth-child(2) { width: 17%; }
table.steps td:nth-child(3) { width: 21%; } table.steps td:nth-child(5) { width: 20%; }
table .number { display: inline-block; min-width: 22px; text-align: center; border: 1.5px solid var(--ink);
  border-radius: 999px; font-size: 12px; font-weight: 700; }
td > ul { padding-left: 16px; margin: 0; }
@media (max-width: 640px) { main { padding: 20px 14px; } dl.order { grid-template-columns: 1fr; }
  dt { margin-top: 6px; } }
@media print { body { background: none; font-size: 11pt; } main { max-width: none; padding: 0; }
  tr, .card, figure { break-inside: avoid; } .scroll { overflow: visible; } table { font-size: 10pt; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
"""
