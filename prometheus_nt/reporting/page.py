"""The frame of a page that needs nothing but itself: style, scripts and data are inline."""

import json
from collections.abc import Iterable
from html import escape

from plotly.offline import get_plotlyjs

from prometheus_nt.reporting.charts import Figure

# Nothing may be fetched, whatever a script inside the page asks for.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:; base-uri 'none'; form-action 'none'"
)

STYLE = """
:root {
  color-scheme: light dark;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  --page: #f4f6f8; --card: #ffffff; --ink: #17212d; --muted: #5a6775; --rule: #e0e5ea;
  --band: #10243a; --band-ink: #f3f6f9; --band-muted: #a9bacb; --note: #fff8e6;
  --note-rule: #d9a520; --strategy: #1d5fa6; --benchmark: #97a3b0; --gain: #2a9d73;
  --loss: #c2493d; --loss-soft: rgba(194, 73, 61, .16);
  --hue-0: #1d5fa6; --hue-1: #5d9ad1; --hue-2: #a5c8e6; --hue-3: #2b8a80; --hue-4: #86c5b8;
  --hue-5: #c8963a; --hue-6: #e8cd8f; --hue-7: #b0583f; --hue-8: #dba08b; --hue-9: #75609f;
  --hue-10: #b7a8d1;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #0e141b; --card: #161e27; --ink: #e4eaf0; --muted: #94a3b2; --rule: #27323e;
    --band: #0a1826; --note: #2a2412; --strategy: #5b9fe0; --benchmark: #76838f;
    --gain: #35b386; --loss: #e0695c; --loss-soft: rgba(224, 105, 92, .2);
    --hue-0: #4b8fd3; --hue-1: #82b4e2; --hue-2: #b5d3ee; --hue-3: #3aa598;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--ink); line-height: 1.5; font-size: 15px;
}
.wide { max-width: 1180px; margin: 0 auto; padding: 0 20px; }
header { background: var(--band); color: var(--band-ink); padding: 30px 0 26px; }
h1 { margin: 2px 0 6px; font-size: 1.85rem; line-height: 1.2; overflow-wrap: anywhere; }
h2 { margin: 0 0 4px; font-size: 1.12rem; }
.facts, .eyebrow { color: var(--band-muted); margin: 0; overflow-wrap: anywhere; }
.eyebrow { font-size: .8rem; letter-spacing: .08em; text-transform: uppercase; }
.facts b { color: var(--band-ink); font-weight: 600; }
.headline {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(140px, 1fr)); gap: 12px;
  margin: 22px 0 0;
}
.headline > div { border-left: 2px solid rgba(255, 255, 255, .25); padding-left: 12px; }
.headline dt { color: var(--band-muted); font-size: .8rem; }
.headline dd {
  margin: 0; font-size: 1.5rem; font-weight: 600; font-variant-numeric: tabular-nums;
}
.headline .beside {
  color: var(--band-muted); font-size: .8rem; font-weight: 400; min-height: 1.2em;
}
nav { padding: 12px 0 0; font-size: .85rem; display: flex; flex-wrap: wrap; gap: 4px 16px; }
nav a { color: var(--muted); text-decoration: none; }
nav a:hover { color: var(--ink); text-decoration: underline; }
main {
  display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 18px;
  padding: 14px 0 40px;
}
section, aside {
  grid-column: 1 / -1; background: var(--card); border: 1px solid var(--rule); border-radius: 10px;
  padding: 18px 20px; min-width: 0;
}
aside { background: var(--note); border-left: 4px solid var(--note-rule); }
aside ul { margin: 6px 0 0; padding-left: 20px; }
aside li { margin: 2px 0; overflow-wrap: anywhere; }
@media (min-width: 900px) { section.half { grid-column: auto; } }
.caption { margin: 0 0 10px; color: var(--muted); font-size: .88rem; }
.missing {
  margin: 8px 0; padding: 14px; border: 1px dashed var(--rule); border-radius: 8px;
  color: var(--muted);
}
.chart { height: 340px; }
.half .chart { height: 300px; }
.switch { float: right; }
.switch button {
  font: inherit; font-size: .82rem; padding: 3px 12px; border: 1px solid var(--rule);
  border-radius: 6px; background: transparent; color: var(--ink); cursor: pointer;
}
.switch button[aria-pressed="true"] { background: var(--strategy); color: #fff; }
.columns {
  display: grid; gap: 18px 28px;
  grid-template-columns: repeat(auto-fit, minmax(min(330px, 100%), 1fr));
}
.scroll { overflow: auto; }
/* A shade at the edge says that there is more; what moves with the table covers it at the end. */
.scroll {
  background:
    linear-gradient(to right, var(--card) 40%, transparent) 0 0 / 40px 100% no-repeat local,
    linear-gradient(to left, var(--card) 40%, transparent) 100% 0 / 40px 100% no-repeat local,
    linear-gradient(to right, #0005, transparent) 0 0 / 12px 100% no-repeat scroll,
    linear-gradient(to left, #0005, transparent) 100% 0 / 12px 100% no-repeat scroll;
}
.scroll.long { max-height: 540px; }
table {
  border-collapse: collapse; width: 100%; font-size: .86rem; font-variant-numeric: tabular-nums;
}
th, td {
  padding: 5px 8px; border-bottom: 1px solid var(--rule); text-align: right; white-space: nowrap;
}
thead th {
  position: sticky; top: 0; background: var(--card); color: var(--muted); font-weight: 600;
  font-size: .8rem; z-index: 1;
}
th:first-child { text-align: left; padding-left: 0; }
tbody th { font-weight: 400; }
.metrics thead th:first-child { color: var(--ink); font-size: .88rem; }
.metrics tbody th { white-space: normal; }
.metrics td:nth-child(3) { color: var(--muted); }
.positions td:nth-child(2), .positions th:nth-child(2),
.fills td:nth-child(-n+3), .fills th:nth-child(-n+3),
.manifest td, .manifest th { text-align: left; }
.manifest td {
  white-space: normal; overflow-wrap: anywhere;
  font-family: ui-monospace, Menlo, Consolas, monospace;
}
.manifest tbody th { color: var(--muted); }
.worded { min-width: 560px; }
.worded td, .worded th { text-align: left; vertical-align: top; }
.worded td { white-space: normal; overflow-wrap: break-word; }
.heat td, .heat tbody th { padding: 5px 6px; }
.heat tbody th, .heat thead th:first-child { position: sticky; left: 0; background: var(--card); }
.heat .gain { background: color-mix(in srgb, var(--gain) var(--strength), transparent); }
.heat .loss { background: color-mix(in srgb, var(--loss) var(--strength), transparent); }
.heat .total { font-weight: 600; border-left: 2px solid var(--rule); }
footer { color: var(--muted); font-size: .82rem; padding: 0 0 30px; }
@media (max-width: 600px) {
  .wide { padding: 0 12px; }
  section, aside { padding: 14px 12px; border-radius: 8px; }
  h1 { font-size: 1.4rem; }
  .headline { grid-template-columns: repeat(2, 1fr); }
  .chart, .half .chart { height: 290px; }
}
@media print {
  body { background: #fff; }
  nav, .switch { display: none; }
  section { break-inside: avoid; border-color: #ccc; }
  .scroll { max-height: none; overflow: visible; }
}
"""

SCRIPT = """
(() => {
  "use strict";
  const page = JSON.parse(document.getElementById("figures").textContent);
  const touch = matchMedia("(pointer: coarse)").matches;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const logarithmic = new Set();

  function themed(node, style, key) {
    if (Array.isArray(node)) {
      return key === "traces" ? node.map((item) => themed(item, style, "")) : node;
    }
    if (node !== null && typeof node === "object") {
      const entries = Object.entries(node);
      return Object.fromEntries(entries.map(([name, item]) => [name, themed(item, style, name)]));
    }
    if (key === "x" && node === "$sessions") return page.sessions;
    const isColour = typeof node === "string" && key.endsWith("color") && node.startsWith("--");
    return isColour ? style.getPropertyValue(node).trim() : node;
  }

  function layoutOf(figure, style) {
    const colour = (name) => style.getPropertyValue(name).trim();
    const axis = {
      gridcolor: colour("--rule"), zerolinecolor: colour("--benchmark"), zerolinewidth: 1,
      linecolor: colour("--rule"), automargin: true, fixedrange: touch,
    };
    const own = figure.layout;
    const yaxis = { ...axis, ...own.yaxis };
    if (logarithmic.has(figure.name)) Object.assign(yaxis, { type: "log", nticks: 6 });
    return {
      ...own, xaxis: { ...axis, showgrid: false, ...own.xaxis }, yaxis,
      autosize: true, margin: { l: 12, r: 12, t: 12, b: 12 },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: style.fontFamily, size: 12, color: colour("--muted") },
      legend: { orientation: "h", x: 0, xanchor: "left", y: 1.02, yanchor: "bottom" },
      hovermode: "x unified",
      hoverlabel: {
        bgcolor: colour("--card"), bordercolor: colour("--rule"), font: { color: colour("--ink") },
      },
      dragmode: touch ? false : "zoom",
    };
  }

  function draw(figure) {
    const style = getComputedStyle(document.documentElement);
    const box = document.getElementById("chart-" + figure.name);
    const traces = themed(figure.traces, style, "traces");
    Plotly.react(box, traces, layoutOf(figure, style), { displayModeBar: false });
  }

  for (const button of document.querySelectorAll("button[data-figure]")) {
    button.addEventListener("click", () => {
      const name = button.dataset.figure;
      const on = !logarithmic.has(name);
      logarithmic[on ? "add" : "delete"](name);
      button.setAttribute("aria-pressed", String(on));
      draw(page.figures.find((figure) => figure.name === name));
    });
  }
  const drawAll = () => page.figures.forEach(draw);
  const fitted = new ResizeObserver((changes) => {
    for (const change of changes) Plotly.Plots.resize(change.target);
  });
  dark.addEventListener("change", drawAll);
  drawAll();
  for (const box of document.querySelectorAll(".chart")) fitted.observe(box);
})();
"""


def render_page(title: str, body: str, sessions: list[str], figures: Iterable[Figure]) -> str:
    """Return a whole HTML page.

    Parameters
    ----------
    title : str
        Plain text; escaped here.
    body : str
        HTML, with a `<div id="chart-...">` for each figure's name.
    sessions : list of ISO dates, the x axis that figures share
    """
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
{body}
<script type="application/json" id="figures">{_figures_json(sessions, figures)}</script>
<script>{get_plotlyjs()}</script>
<script>{SCRIPT}</script>
</body>
</html>
"""


def _figures_json(sessions: list[str], figures: Iterable[Figure]) -> str:
    data = [
        {"name": figure.name, "traces": figure.traces, "layout": figure.layout}
        for figure in figures
    ]
    text = json.dumps(
        {"sessions": sessions, "figures": data}, allow_nan=False, separators=(",", ":")
    )
    # A name that contains "</script>" must not end the element that holds it.
    return text.replace("<", "\\u003c")
