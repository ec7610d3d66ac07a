/** Which instruments are fragile, and all that is known of one of them. */

import { chart, line } from "../chart.js";
import { h } from "../dom.js";
import { DASH, money, number, percent, signedPercent, whole } from "../format.js";
import { barred, bars, link, standsAt } from "../marks.js";
import { part, parts } from "../parts.js";
import { state } from "../state.js";
import { card, empty, figures, table, toneOf } from "../widgets.js";

export default {
  id: "fragility", title: "Fragility", group: "Watch", key: "3", topics: ["run", "step"],
  about: "Instruments by how easily they break: 0 is robust, 1 is fragile. Choose one to see why.",

  load(ctx) {
    const choice = { strategy_id: state.strategy };
    const list = ctx.get("/api/status/fragility", { ...choice, region: ctx.region });
    const one = ctx.item && { one: ctx.get(`/api/status/fragility/${encodeURIComponent(ctx.item)}`, choice) };
    return parts({ list, ...one });
  },

  draw({ list, one }, ctx) {
    return h("div.grid",
      part(list, (view) => listCards(view, ctx, Boolean(one)), ctx),
      one && h("div.detail.w6", part(one, (view) => detail(view, ctx), ctx)));
  },
};

function listCards(view, ctx, narrow) {
  const classes = Object.entries(view.classes).map(([name, count]) => h("span.row", classPill(name), count));
  return card("Instruments", { width: narrow ? 6 : undefined, note: standsAt(view) }, h("div.row", classes), table([
    { name: "entity_id", title: "Instrument" },
    { name: "fragility_alpha", title: "Fragility", num: true, show: (value) => barred(value, number(value), 1, barTone(value)) },
    !narrow && { name: "soft_target_score", title: "Soft target", num: true, show: (value) => barred(value, number(value), 1, barTone(value)) },
    !narrow && { name: "drawdown_probability", title: "P(drawdown)", num: true, show: (value) => percent(value, 1) },
    { name: "fragility_class", title: "Class", show: classPill },
  ].filter(Boolean), view.entities, {
    caption: "Most fragile first", onRow: (row) => ctx.open(row.entity_id === ctx.item ? "" : row.entity_id), selected: (row) => row.entity_id === ctx.item,
    empty: "No fragility has been recorded up to this session. Run a day or a backtest with the fragility engine on.",
  }));
}

const barTone = (value) => (value >= 0.7 ? "bad" : value >= 0.5 ? "warn" : "");
const classPill = (word) => (word ? h("span.pill", { class: { SHORT_CANDIDATE: "warn", WATCHLIST: "info", NONE: "muted" }[word] ?? toneOf(word) }, word.replace("_", " ")) : DASH);

function detail(view, ctx) {
  const why = view.unknown?.fragility_alpha;
  return [
    card(view.entity_id, { note: standsAt(view), tools: [h("button", { type: "button", on: { click: () => ctx.open("") } }, "Close")] }, figures([
      { label: "Fragility", value: number(view.fragility_alpha), why },
      { label: "Soft target", value: number(view.soft_target_score), why: "no soft-target score of it" },
      { label: "P(drawdown)", value: percent(view.drawdown_probability, 1), why: "no drawdown probability of it" },
      { label: "Class", value: classPill(view.fragility_class), why },
    ])),
    card("History", { note: `${view.history.length} sessions` }, historyOf(view)),
    card("Scenarios", { note: "return of the instrument" }, bars(view.scenarios.map(({ scenario, pnl }) =>
      ({ label: scenario.replaceAll("_", " "), value: pnl, tone: pnl < 0 ? "bad" : "good", why: "not computed" })),
    { signed: true, show: (value) => signedPercent(value, 1), label: "Scenario returns", empty: "No scenario was applied to it: the configuration names none." })),
    card("Held by", {}, table([
      { name: "portfolio_id", title: "Book", show: (name) => link(ctx, "portfolio_risk", name, { portfolio: name }) },
      { name: "as_of_date", title: "At" },
      { name: "position", title: "Shares", num: true, show: whole },
      { name: "weight", title: "Weight", num: true, show: (value) => percent(value) },
      { name: "market_value", title: "Value", num: true, show: (value) => money(value) },
    ], view.positions, { empty: "No book holds it at this session." })),
  ];
}

function historyOf({ entity_id: name, history }) {
  if (!history.length) return empty("No history is kept of it.");
  const days = [...history].reverse();
  const x = days.map((one) => one.date);
  return chart(`Fragility of ${name} over ${days.length} sessions`,
    [line("fragility", x, days.map((one) => one.alpha), { text: days.map((one) => one.fragility_class), hovertemplate: "%{y:.2f} %{text}" }),
      line("soft target", x, days.map((one) => one.score))], { size: "low", layout: { yaxis: { range: [0, 1.02] } } });
}
