/** A book: what it holds and wants, what it is exposed to, and what it may lose. */

import { h } from "../dom.js";
import { number, percent, shortMoney, signedPercent, text, tone } from "../format.js";
import { barred, bars, bookPicker, link, most, NO_STRATEGY, standsAt } from "../marks.js";
import { part, parts } from "../parts.js";
import { actionsCard } from "../trading.js";
import { card, empty, figures, table, toneOf } from "../widgets.js";

const NO_BOOK = "Nothing has been recorded of this book up to this session. Run `prometheus backtest`, `prometheus paper` or `prometheus day run`, or choose another book or day.";

export default {
  id: "portfolio_risk", title: "Portfolio and risk", group: "Trade", key: "5", topics: ["run", "fill", "step"],
  about: "Weights against targets, exposures, and what the book may lose.",

  async load(ctx) {
    if (!ctx.portfolio) return null;
    const choice = { portfolio_id: ctx.portfolio, mode: ctx.mode };
    const book = ctx.get("/api/status/portfolio", choice);
    const mode = ctx.mode || (await book.catch(() => null))?.mode;
    return parts({
      book,
      risk: ctx.get("/api/status/portfolio_risk", { ...choice, mode }),
      actions: ctx.get("/api/status/risk_actions", { strategy_id: ctx.strategy, mode, limit: 100 }),
    });
  },

  draw(data, ctx) {
    if (!data) return empty(NO_STRATEGY);
    return h("div.stack", h("div.row", bookPicker(ctx, "portfolio_risk")), h("div.grid",
      part(data.book, (view) => bookCards(view, ctx), ctx),
      part(data.risk, riskCards, ctx),
      part(data.actions, (view) => actionsCard(view, ctx), ctx)));
  },
};

/* ---------------------------------------------------------------- the book */

function bookCards(view, ctx) {
  if (!view.as_of_date) return card("Book", {}, empty(view.unknown?.as_of_date ?? NO_BOOK));
  const why = (name) => view.unknown?.[name];
  const change = (label, name) => ({ label, value: signedPercent(view.pnl?.[name]), tone: tone(view.pnl?.[name]), why: why(`pnl.${name}`) ?? why("pnl") });
  return [
    card("Profit and loss", { width: 12, note: standsAt(view) }, figures([
      change("Today", "today"), change("Month", "mtd"), change("Year", "ytd"),
      ...["equity", "cash", "net_exposure", "gross_exposure"].filter((name) => name in view).map((name) => ({
        label: capital(name.replace("_", " ")), value: /exposure/.test(name) ? percent(view[name], 1) : shortMoney(view[name]), why: why(name) })),
    ])),
    weightsCard(view, ctx, why),
    h("div.detail.w4", exposureCards(view, why)),
  ];
}

function weightsCard(view, ctx, why) {
  const rows = view.positions.map((row) => ({ ...row, gap: gapOf(row) }));
  const full = most(rows.flatMap((row) => [row.weight, row.target_weight]));
  return card("Weights against targets", { width: 8, note: why("positions") }, table([
    { name: "instrument_id", title: "Instrument", show: (name) => link(ctx, "fragility", name, { item: name }) },
    { name: "weight", title: "Weight", num: true, show: (value) => barred(value, percent(value), full) },
    { name: "target_weight", title: "Target", num: true, show: (value) => barred(value, percent(value), full, "info") },
    { name: "gap", title: "Gap", num: true, tone: (value) => (Math.abs(value) > 0.01 ? "warn" : "muted"), show: (value) => signedPercent(value) },
      { name: "market_value", title: "Value", num: true, show: shortMoney },
  ], rows, { caption: "Gap is the weight held less the weight wanted", empty: "The book holds nothing and wants nothing at this session." }));
}

const capital = (words) => words[0].toUpperCase() + words.slice(1);
const isKnown = (value) => value !== null && value !== undefined;
const gapOf = ({ weight, target_weight: target }) => (isKnown(weight) && isKnown(target) ? weight - target : null);

const EXPOSURES = [["by_sector", "By sector"], ["by_factor", "By factor (betas)"], ["by_fragility_class", "By fragility class"]];

function exposureCards(view, why) {
  return EXPOSURES.map(([name, title]) => {
    const items = Object.entries(view.exposures?.[name] ?? {}).sort(([, a], [, b]) => Math.abs(b) - Math.abs(a));
    const show = name === "by_factor" ? (value) => number(value) : (value) => percent(value, 1);
    return card(title, {}, bars(items.map(([label, value]) => ({ label: label.replaceAll("_", " "), value, tone: name === "by_fragility_class" ? toneOf(label) : "" })),
      { signed: items.some(([, value]) => value < 0), show, label: title, empty: why(name) ?? why(`exposures.${name}`) ?? why("exposures") ?? "Not recorded at this session." }));
  });
}

/* ---------------------------------------------------------------- risk */

const BASIS = { target: "of the book that was decided", held: "of the book that was held" };

function riskCards(view) {
  if (!view.as_of_date) return card("Risk", {}, empty(view.unknown?.as_of_date ?? NO_BOOK));
  const why = (name) => view.unknown?.[name] ?? "not measured";
  return [
    card("Risk", { width: 6, note: [BASIS[view.basis], standsAt(view)].filter(Boolean).join(", ") }, figures([
      { label: "Volatility", value: percent(view.volatility, 1), why: why("volatility"), small: "a year" },
      { label: "VaR 95 %", value: percent(view.var_95), why: why("var_95"), small: "a session" },
      { label: "Expected shortfall 95 %", value: percent(view.expected_shortfall), why: why("expected_shortfall"), small: "a session" },
      { label: "Deepest drawdown", value: percent(view.max_drawdown, 1), why: why("max_drawdown") },
      { label: "Beta", value: number(view.beta), why: why("beta") },
    ]), tailsTable(view.tails ?? [])),
    h("div.detail.w6", scenarioCard(view), componentCard(view, why)),
  ];
}

const tailsTable = (tails) => tails.length > 0 && table([
  { name: "method", title: "Method" },
  { name: "level", title: "Level", num: true, show: (value) => percent(value, 0) },
  { name: "sessions", title: "Sessions", num: true },
  { name: "value_at_risk", title: "VaR", num: true, show: (value) => percent(value) },
  { name: "expected_shortfall", title: "Shortfall", num: true, show: (value) => percent(value) },
], tails, { caption: "Value at risk and expected shortfall, as returns of the book" });

function scenarioCard({ scenarios = [] }) {
  const rows = [...scenarios].sort((a, b) => (a.pnl ?? 0) - (b.pnl ?? 0));
  return card("Scenario losses", { note: "of the book's value, the worst first" }, bars(rows.map(({ scenario, pnl, covered }) => ({
    label: scenario.replaceAll("_", " "), value: pnl, tone: pnl < 0 ? "bad" : "good", why: "no position could be valued in it",
    shown: pnl === null ? undefined : `${signedPercent(pnl, 1)}${isKnown(covered) && covered < 0.995 ? ` (${percent(covered, 0)} covered)` : ""}`,
  })), { signed: rows.some((row) => row.pnl > 0), label: "Scenario losses", show: (value) => signedPercent(value, 1), empty: "No scenario was computed for this book: the risk engine's configuration names none." }));
}

function componentCard(view, why) {
  const given = view.component_risk ?? {};
  const items = (Array.isArray(given) ? given.map((row) => [row.instrument_id, row.risk ?? row.value]) : Object.entries(given))
    .sort(([, a], [, b]) => b - a);
  const total = items.reduce((sum, [, value]) => sum + value, 0);
  return card("Component risk", { note: items.length ? `each name's part of the volatility of ${percent(total, 1)}` : undefined },
    bars(items.map(([label, value]) => ({ label: text(label), value, shown: `${percent(value)} · ${percent(value / total, 0)}` })),
      { signed: items.some(([, value]) => value < 0), label: "Component risk", empty: `Component risk: ${why("component_risk")}.` }));
}
