/** The day at a glance: money, exposure, regime, and what wants attention. */

import { chart, colour, line } from "../chart.js";
import { fill, h } from "../dom.js";
import { number, percent, shortMoney, signedPercent, tone } from "../format.js";
import { link } from "../marks.js";
import { part, parts } from "../parts.js";
import { state } from "../state.js";
import { card, empty, figures, pill, table } from "../widgets.js";

const MOST_CURVES = 12;
const SPANS = { "1 year": 252, "5 years": 1260, all: Infinity };

/** The curves of the book shown last: years of sessions, read again only when the book has moved. */
const kept = { key: null, curves: null };

export default {
  id: "overview", title: "Overview", group: "Watch", key: "1", topics: ["run", "alert"],
  about: "Profit, exposure and regime of everything that is traded or was run last.",

  async load(ctx) {
    const { timestamp, ...view } = await ctx.get("/api/status/overview", { strategy_id: state.strategy });
    return parts({ view: Promise.resolve(view), curves: curvesOf(ctx, view) });
  },

  draw({ view: { data: view }, curves }, ctx) {
    const why = (name) => view.unknown?.[name];
    const change = (label, name) => ({ label, value: signedPercent(view[name]), tone: tone(view[name]), why: why(name) });
    return h("div.grid",
      card("Profit and loss", { width: 6, note: bookNote(view) }, figures([
        change("Today", "pnl_today"), change("Month", "pnl_mtd"), change("Year", "pnl_ytd"),
        { label: "Deepest drawdown", value: percent(view.max_drawdown), why: why("max_drawdown") },
      ])),
      card("Exposure", { width: 6 }, figures([
        { label: "Equity", value: shortMoney(view.equity), why: why("equity") },
        { label: "Net", value: percent(view.net_exposure, 1), why: why("net_exposure") },
        { label: "Gross", value: percent(view.gross_exposure, 1), why: why("gross_exposure") },
        { label: "Leverage", value: number(view.leverage), why: why("leverage") },
        { label: "Stability index", value: number(view.global_stability_index), why: why("global_stability_index"), small: view.global_stability_index === null ? undefined : "1 is calm" },
      ])),
      part(curves, (found) => curveCard(found, view, ctx), ctx),
      card("Regime by region", { width: 6 }, table([
        { name: "region", title: "Region" },
        { name: "regime_label", title: "Regime", show: pill },
        { name: "confidence", title: "Confidence", num: true, show: (value) => percent(value, 0) },
        { name: "as_of_date", title: "At" },
      ], view.regimes ?? [], { empty: "No regime has been recorded up to this day.", onRow: (row) => ctx.go("regime_stab", { region: row.region }) })),
      card("Alerts", { width: 6 }, table([
        { name: "severity", title: "Severity", show: pill },
        { name: "message", title: "What" },
      ], view.alerts ?? [], { empty: "No open alert." })));
  },
};

const bookNote = (view) => view.as_of_date &&
  `${(view.mode ?? "").toLowerCase()}, ${view.runs.length} ${view.runs.length === 1 ? "sleeve" : "sleeves"}, at ${view.as_of_date}`;

async function curvesOf(ctx, view) {
  if (!view.runs.length || view.runs.length > MOST_CURVES) return null;
  const key = JSON.stringify([view.runs, view.as_of_date, view.equity, ctx.as_of]);
  if (kept.key !== key) {
    const curves = await Promise.all(view.runs.map((id) => ctx.get(`/api/runs/${encodeURIComponent(id)}/equity`)));
    Object.assign(kept, { key, curves });
  }
  return kept.key;
}

function curveCard(found, view, ctx) {
  const title = "Equity and drawdown";
  if (!found) return card(title, {}, empty(noCurve(view), view.runs.length > 0 && link(ctx, "backtests", "Open the runs.")));
  const book = together(kept.curves);
  const plots = h("div");
  const buttons = Object.keys(SPANS).map((span) => h("button", { type: "button", on: { click: () => show(span) } }, span));
  function show(span) {
    ctx.local.span = span;
    buttons.forEach((one) => one.setAttribute("aria-pressed", String(one.textContent === span)));
    fill(plots, drawCurves(cut(book, SPANS[span])));
  }
  show(ctx.local.span ?? "5 years");
  return card(title, { note: noteOf(book), tools: buttons }, plots);
}

const noCurve = (view) => (view.runs.length ? `The book has ${view.runs.length} runs, more than are added up here (${MOST_CURVES}). ` :
  "No run has been recorded up to this session. Start one with `prometheus backtest` or `prometheus paper`.");

const noteOf = (book) => `sum of ${book.count} ${book.count === 1 ? "run" : "runs"} on their common sessions; ` +
  (book.benchmark ? `benchmark ${book.name} begins at the book's equity` : `no benchmark: ${book.why}`);

/** Runs as one book, on the sessions that all have; the benchmark of one unit scaled to its beginning. */
function together(curves) {
  const maps = curves.map((one) => new Map(one.sessions.map((day, i) => [day, one.equity[i]])));
  const sessions = curves[0].sessions.filter((day) => maps.every((map) => map.has(day)));
  const equity = sessions.map((day) => maps.reduce((sum, map) => sum + map.get(day), 0));
  const names = new Set(curves.map((one) => one.benchmark_id));
  const same = names.size === 1 && curves[0].benchmark;
  const of = same && new Map(curves[0].sessions.map((day, i) => [day, curves[0].benchmark[i]]));
  return {
    sessions, equity, count: curves.length, name: curves[0].benchmark_id,
    benchmark: same ? sessions.map((day) => of.get(day) ?? null) : null,
    why: names.size > 1 ? "the runs have different ones" : curves[0].unknown?.benchmark ?? "none is kept",
  };
}

function cut(book, count) {
  const last = (list) => list && list.slice(-Math.min(count, list.length));
  const [sessions, equity, benchmark] = [book.sessions, book.equity, book.benchmark].map(last);
  const first = benchmark?.findIndex((value) => value !== null) ?? -1;
  const scale = first < 0 ? null : equity[first] / benchmark[first];
  return { ...book, sessions, equity, benchmark: scale && benchmark.map((value) => value && value * scale) };
}

function drawCurves({ sessions, equity, benchmark, name }) {
  let high = -Infinity;
  const drawdown = equity.map((value) => { high = Math.max(high, value); return value / high - 1; });
  const traces = [line("book", sessions, equity)];
  if (benchmark) traces.push(line(name, sessions, benchmark, { line: { width: 1.2, dash: "dot" } }));
  const under = line("drawdown", sessions, drawdown, { fill: "tozeroy", line: { width: 1, color: colour("bad") }, fillcolor: colour("bad-soft") });
  return [
    chart(`Equity from ${sessions[0]} to ${sessions.at(-1)}`, traces, { layout: { yaxis: { tickprefix: "$", tickformat: ".3s" } } }),
    chart(`Drawdown within the span shown, deepest ${percent(Math.min(...drawdown))}`, [under],
      { size: "low", layout: { yaxis: { tickformat: ".0%" } } }),
  ];
}
