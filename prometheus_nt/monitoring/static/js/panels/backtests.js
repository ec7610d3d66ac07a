/** Runs: what was run and how it went, one of them in full, several beside each other, and the next. */

import { token } from "../api.js";
import { chart, colour, line } from "../chart.js";
import { h } from "../dom.js";
import { attempt, form, guarded, pager, parsed } from "../forms.js";
import { DASH, moment, money, number, percent, signedPercent, tone, whole } from "../format.js";
import { picker, pillAs } from "../marks.js";
import { part, parts } from "../parts.js";
import { state } from "../state.js";
import { button, card, empty, figures, pill, progress, table } from "../widgets.js";

const A_PAGE = 100;
const STATES = ["RUNNING", "COMPLETED", "FAILED", "HALTED", "STOPPED", "FINISHED"];
const UNFINISHED = ["PENDING", "RUNNING", "RETRYING"];

export default {
  id: "backtests", title: "Backtests", group: "Research", topics: ["run", "job"],
  about: "Every run, one in full, several beside each other; and the next one, asked for here.",

  load(ctx) {
    const names = ctx.item.split(",").filter(Boolean);
    if (names.length > 1) return parts({ compared: ctx.get("/api/compare", { run_id: names, as_of: "" }) });
    if (names.length) {
      const path = `/api/runs/${encodeURIComponent(names[0])}`;
      return parts({ detail: ctx.get(path), equity: ctx.get(`${path}/equity`) });
    }
    const wanted = (ctx.local.wanted ??= {});
    return parts({
      runs: ctx.get("/api/runs", { ...wanted, limit: A_PAGE, offset: ctx.local.offset ?? 0 }),
      jobs: ctx.get("/api/jobs", { kind: "backtest", limit: 20 }),
    });
  },

  draw(data, ctx) {
    if (data.compared) return h("div.stack", back(ctx), h("div.grid", part(data.compared, (view) => comparison(view, ctx), ctx)));
    if (data.detail) {
      return h("div.stack", back(ctx), h("div.grid",
        part(data.detail, (view) => summary(view, ctx), ctx), part(data.equity, curves, ctx), part(data.detail, particulars, ctx)));
    }
    return h("div.grid", part(data.jobs, (page) => underWay(page.rows, ctx), ctx), part(data.runs, (page) => runsCard(page, ctx), ctx), askCard(ctx));
  },
};

const back = (ctx) => h("div.row", h("button", { type: "button", on: { click: () => ctx.open("") } }, "← All runs"));
const measured = (value) => (typeof value !== "number" ? value ?? DASH : Number.isInteger(value) ? whole(value) : number(value, 4));
const lines = (...words) => words.map((one) => h("div.nowrap", one));
const figure = (name, show) => (_, row) => show(row.metrics?.[name]);
const metric = (name, title, show, toned) => ({ name, title, num: true, show: figure(name, show), tone: toned && ((_, row) => toned(row.metrics?.[name])) });

/* ---------------------------------------------------------------- the list */

function underWay(rows, ctx) {
  const busy = rows.filter((row) => UNFINISHED.includes(row.status));
  if (!busy.length) return null;
  return card("Under way", { note: "backtests that wait or run" }, table([
    { name: "job_id", title: "Job", show: (id) => h("span.mono", id) },
    { name: "status", title: "Status", show: pill },
    { name: "progress", title: "Progress", show: (value, row) => (row.status === "PENDING" ? "waits for a worker" : progress(value)) },
    { name: "message", title: "Doing", show: (value) => value ?? DASH },
    { name: "submitted_by", title: "For" },
    { name: "updated_at", title: "", show: (_, row) => guarded(ctx, "OPERATE", button("Cancel", () => cancel(row, ctx), "danger")) },
  ], busy, { caption: "Backtests under way" }));
}

async function cancel(row, ctx) {
  await attempt(() => ctx.post(`/api/jobs/${encodeURIComponent(row.job_id)}/cancel`));
  ctx.refresh();
}

function runsCard(page, ctx) {
  const { local } = ctx;
  const chosen = (local.chosen ??= []);
  const want = (name) => (value) => { local.wanted[name] = value; local.offset = 0; ctx.refresh(); };
  const strategies = (ctx.options?.strategies ?? []).map((one) => one.strategy_id);
  const compare = h("button.first", { type: "button", disabled: chosen.length < 2,
    title: chosen.length < 2 ? "Tick two or more completed runs first" : null, on: { click: () => ctx.open(chosen.join(",")) } }, `Compare ${chosen.length || ""}`);
  const pick = (id) => {
    local.chosen = chosen.includes(id) ? chosen.filter((one) => one !== id) : [...chosen, id];
    ctx.refresh();
  };
  const filtered = Object.values(local.wanted).some(Boolean);
  return card("Runs", { note: "newest first; choose one to open it", tools: [
    picker("strategy", local.wanted.strategy_id ?? "", strategies, want("strategy_id"), "any"),
    picker("mode", local.wanted.mode ?? "", ctx.options?.modes ?? [], want("mode"), "any"),
    picker("status", local.wanted.status ?? "", STATES, want("status"), "any"), compare] },
  table([
    { name: "run_id", title: "Run", show: (id) => h("span.mono", id) },
    { name: "created_at", title: "Compare", show: (_, row) => (row.status === "COMPLETED" ? h("input", { type: "checkbox", checked: chosen.includes(row.run_id), "aria-label": `Compare ${row.run_id}`,
      on: { click: (e) => e.stopPropagation(), change: (e) => { e.target.blur(); pick(row.run_id); } } }) : DASH) },
    { name: "mode", title: "Mode" },
    { name: "status", title: "Status", show: pill },
    { name: "start_date", title: "From, to", show: (from, row) => lines(from, row.end_date) },
    metric("cagr", "A year", signedPercent, tone), metric("annualised_sharpe", "Sharpe", number),
    metric("max_drawdown", "Drawdown", percent), metric("turnover_annual", "Turnover", number),
    { name: "completed_at", title: "Ended (UTC)", show: (at) => lines(...moment(at).split(" ")) },
  ], page.rows, { caption: "Runs", onRow: (row) => ctx.open(row.run_id),
    empty: filtered ? "No run is like this. Loosen the filters." : "Nothing has been run yet. Ask for a backtest below, or run `prometheus backtest`." }),
  pager(page, A_PAGE, (offset) => { local.offset = offset; ctx.refresh(); }));
}

/* ---------------------------------------------------------------- a new one */

function askCard(ctx) {
  const strategies = (ctx.options?.strategies ?? []).map((one) => one.strategy_id);
  return card("Run a backtest", { note: "a worker runs it; what is wrong is told before anything is kept" }, form(ctx, "backtest", [
    { name: "strategy_id", label: "Strategy", required: true, placeholder: strategies[0] ?? "US_CORE_LONG_EQ", hint: strategies.length ? `known: ${strategies.join(", ")}` : "the strategy that a file of the configuration folder trades" },
    { name: "config", label: "Configuration files", hint: "by default the strategy's own; more than one with commas" },
    { name: "start_date", label: "From", type: "date", mistakes: ["sessions.start", "start"] },
    { name: "end_date", label: "To", type: "date", mistakes: ["sessions.end", "end", "sessions"] },
    { name: "market_ids", label: "Markets", placeholder: "US_EQ", hint: "empty is any; more than one with commas", mistakes: ["market"] },
    { name: "force", label: "Run again what is recorded", type: "checkbox" },
    { name: "config_overrides", label: "Settings over the file's, as JSON", type: "textarea", wide: true, placeholder: '{"engines.portfolio.max_names": 10}', mistakes: ["execution", "engines", "gate", "sleeve", "data", "overrides"] },
  ], { act: "Run it", submit: async (values) => {
    const made = await ctx.post("/api/control/run_backtest", {
      strategy_id: values.strategy_id.trim(), config: list(values.config), market_ids: list(values.market_ids),
      config_overrides: parsed(values.config_overrides, "config_overrides"), force: values.force === true,
      ...(values.start_date && { start_date: values.start_date }), ...(values.end_date && { end_date: values.end_date }),
    });
    ctx.toast(`${made.job_id}: ${made.status}`);
    ctx.refresh();
  } }));
}

const list = (text) => (text ?? "").split(",").map((one) => one.trim()).filter(Boolean);

/* ---------------------------------------------------------------- one run */

const HEADLINES = [
  ["cagr", "A year", signedPercent, tone], ["annualised_sharpe", "Sharpe ratio", number], ["probabilistic_sharpe_ratio", "Better than 0", percent],
  ["sortino", "Sortino", number], ["calmar", "Calmar", number], ["annualised_vol", "Volatility", percent],
  ["max_drawdown", "Deepest drawdown", percent], ["beta", "Beta", number], ["alpha_annual", "Alpha a year", signedPercent, tone],
  ["turnover_annual", "Turnover a year", number], ["cost_drag_annual", "Costs a year", percent], ["exposure_net_mean", "Mean net exposure", percent],
  ["hit_rate", "Days that gained", percent], ["num_fills", "Fills", whole],
];

function summary({ run, has_report }, ctx) {
  const none = run.status === "COMPLETED" ? "the run recorded no such figure" : `the run is ${run.status}`;
  return card(run.run_id, { note: `${run.strategy_id} · ${run.mode.toLowerCase()} · ${run.start_date} to ${run.end_date} · ${run.dataset_id}`,
    tools: [pill(run.status), reportLink(run, has_report, ctx)] },
  figures(HEADLINES.map(([name, label, show, toned]) => ({ label, value: show(run.metrics[name]), tone: toned?.(run.metrics[name]), why: none }))));
}

function reportLink(run, has, ctx) {
  if (!has) return h("span.muted", "no report");
  // A new page cannot carry a token.
  if (token() || ctx.options?.open_to_all === false) return h("span.muted", "report: ", h("code", `prometheus report ${run.run_id}`));
  return h("a", { href: `/api/runs/${encodeURIComponent(run.run_id)}/report`, target: "_blank", rel: "noopener" }, "Full report");
}

function curves(view) {
  if (!view.sessions.length) return card("Equity", {}, empty("No session of this run is recorded yet. It appears here while the run goes on."));
  const scale = view.benchmark ? rebased(view) : null;
  const traces = [line("equity", view.sessions, view.equity)];
  if (scale) traces.push(line(view.benchmark_id ?? "benchmark", view.sessions, scale, { line: { width: 1.2, dash: "dot" } }));
  return [
    card("Equity", { note: scale ? `benchmark ${view.benchmark_id}, from the same start` : view.unknown?.benchmark ?? "" },
      chart(`Equity from ${view.sessions[0]} to ${view.sessions.at(-1)}`, traces, { layout: { yaxis: { tickprefix: "$" } } })),
    card("Drawdown", { width: 6 }, chart("Drawdown below the highest equity", [line("drawdown", view.sessions, view.drawdown, { fill: "tozeroy", line: { width: 1, color: colour("bad") } })], { size: "low", layout: { yaxis: { tickformat: ".0%" } } })),
    card("Exposure", { width: 6 }, chart("Gross and net exposure", [line("gross", view.sessions, view.gross_exposure), line("net", view.sessions, view.net_exposure)], { size: "low", layout: { legend: { orientation: "h", y: 1.3 }, yaxis: { tickformat: ".0%" } } })),
  ];
}

function rebased({ benchmark, equity }) {
  const first = benchmark.findIndex((level) => level !== null);
  return benchmark.map((level) => (level === null ? null : (level / benchmark[first]) * equity[first]));
}

function particulars(view) {
  const all = Object.entries(view.run.metrics).map(([name, value]) => ({ name, value }));
  return [
    view.run.mode !== "BACKTEST" && divergence(view),
    card("Findings", { width: 6 }, !view.findings ? empty(view.unknown?.findings ?? "Not judged.") : table([
      { name: "severity", title: "Severity", show: pill }, { name: "code", title: "Finding" },
      { name: "message", title: "What", tone: () => "long" }, { name: "remedy", title: "Remedy", show: (value) => value || DASH },
    ], view.findings, { caption: "Findings", empty: "The checks after the run found nothing." })),
    card("Notes", { width: 6 }, view.notes.length ? h("ul", view.notes.map((note) => h("li", note))) : empty(view.unknown?.notes ?? "The run left no note.")),
    card("All figures", { width: 6 }, table([{ name: "name", title: "Figure" }, { name: "value", title: "Value", num: true, show: measured }], all, { caption: "Figures", empty: "No figure is recorded." })),
    card("Files and hashes", { width: 6 }, h("dl.facts", ["order_list_hash", "config_hash", "code_hash", "data_fingerprint"].map((name) =>
      h("div", h("dt", name.replaceAll("_", " ")), h("dd.mono", view[name] ?? DASH)))),
    table([{ name: "name", title: "File" }, { name: "rows", title: "Rows", num: true, show: whole }, { name: "bytes", title: "Bytes", num: true, show: whole }], view.artifacts, { caption: "Files", empty: "No file is kept." })),
    card("Settings", {}, h("details", h("summary", "What it was run with"), h("pre.lines", { tabindex: 0 }, JSON.stringify(view.config, null, 2)))),
  ];
}

/** How far a run that trades was from the backtest of its sessions, and why. */
function divergence({ run, divergence: found, unknown }) {
  if (!found) return card("Against its backtest", {}, empty(unknown?.divergence ?? "Not compared."));
  const verdict = found.identical ? "the same orders and fills" : found.within ? "within the tolerance" : "too far apart";
  return card("Against its backtest", { note: `${found.backtest}, ${found.start} to ${found.end}`, tools: [pillAs(verdict, found.within ? "good" : "bad")] },
    figures([
      { label: "Gap at the end", value: money(found.gap_usd, 2) }, { label: "Furthest apart", value: `${number(found.worst_bps)} bp`, small: `of equity; ${number(found.tolerance_bps)} bp are allowed` },
      { label: "Sessions", value: whole(found.sessions) },
    ]),
    table([
      { name: "cause", title: "Cause", show: (word) => word.replaceAll("_", " ").toLowerCase() }, { name: "usd", title: "USD", num: true, show: (usd) => money(usd, 2) },
      { name: "bps", title: "bp of equity", num: true, show: (bps) => number(bps) }, { name: "meaning", title: "What it is", tone: () => "long" },
    ], found.causes, { caption: "The parts add up to the gap", empty: "Nothing differs." }),
    found.notes.length ? h("ul.muted", found.notes.map((note) => h("li", note))) : null);
}

/* ---------------------------------------------------------------- several */

const pValue = (value) => (value !== null && value < 0.001 ? "< 0.001" : number(value, 3));
const lucky = (value) => (value === null ? DASH : value ? "yes" : "no");

const ASK_AGAIN_MS = 1500;
let asking;

/** Ask again for what the server still computes, once. */
function askAgain(ctx) {
  clearTimeout(asking);
  asking = setTimeout(() => state.item === ctx.item && ctx.refresh(), ASK_AGAIN_MS);
}

function comparison(view, ctx) {
  if (view.computing) askAgain(ctx);
  const why = (name) => view.unknown?.[name];
  return [
    card("How much of it is luck", { note: `the best of ${whole(view.trials)} that were tried on these sessions` }, figures([
      { label: "Were tried", value: whole(view.trials) },
      { label: "Independent of each other", value: number(view.distinct, 1), why: why("distinct") },
      { label: "Sharpe that luck reaches", value: number(view.hurdle), why: why("hurdle") },
      { label: "Probability of overfitting", value: percent(view.overfitting, 0), why: why("overfitting") },
      { label: "Best is luck (p)", value: pValue(view.best_is_luck), why: why("best_is_luck") },
    ])),
    card("Equity of one unit of capital", {}, chart(`Equity of ${view.runs.length} runs`, view.runs.map((run) => line(run.run_id, view.sessions, run.equity)), { layout: { yaxis: { type: "log" } } })),
    card("Beside each other", {}, table([
      { name: "run_id", title: "Run", show: (id) => h("span.mono", id) },
      metric("annualised_sharpe", "Sharpe", number),
      { name: "sharpe_low", title: "95 % interval", num: true, show: (low, row) => (low === null ? DASH : `${number(low)} to ${number(row.sharpe_high)}`) },
      { name: "above_zero", title: "Above 0", num: true, show: (value) => percent(value, 1) },
      { name: "above_luck", title: "Above luck", num: true, show: (value) => percent(value, 1) },
      { name: "years_needed", title: "Years needed", num: true, show: (value) => number(value, 1) },
      { name: "survives", title: "Survives", show: lucky },
      metric("cagr", "A year", signedPercent, tone), metric("max_drawdown", "Drawdown", percent), metric("turnover_annual", "Turnover", number), metric("cost_drag_annual", "Costs", percent),
    ], view.runs, { caption: "Runs compared on their common sessions", onRow: (row) => ctx.open(row.run_id) })),
  ];
}
