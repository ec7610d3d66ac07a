/** What was ordered, what was filled and at which cost, what is held, and what was refused. */

import { h } from "../dom.js";
import { DASH, moment, money, number, percent, shortMoney, signed, tone, whole } from "../format.js";
import { bookPicker, link, NO_STRATEGY, picker } from "../marks.js";
import { part, parts } from "../parts.js";
import { actionsCard } from "../trading.js";
import { card, empty, figures, pill, table } from "../widgets.js";

const MOST = 200;

export default {
  id: "execution", title: "Execution", group: "Trade", key: "6", topics: ["fill", "run"],
  about: "Orders, fills with their slippage, positions, and what the risk stage or the market refused.",

  async load(ctx) {
    if (!ctx.portfolio) return null;
    const trading = ctx.get("/api/status/execution", { portfolio_id: ctx.portfolio, mode: ctx.mode, limit_orders: MOST, limit_fills: MOST });
    const mode = ctx.mode || (await trading.catch(() => null))?.mode;
    return parts({ trading, actions: ctx.get("/api/status/risk_actions", { strategy_id: ctx.strategy, mode, limit: 100 }) });
  },

  draw(data, ctx) {
    if (!data) return empty(NO_STRATEGY);
    const modes = ctx.options?.modes ?? [];
    return h("div.stack",
      h("div.row", bookPicker(ctx, "execution"), picker("mode", ctx.mode, modes, (mode) => ctx.go("execution", { mode }), "most real")),
      h("div.grid", part(data.trading, (view) => tradingCards(view, ctx), ctx), part(data.actions, (view) => actionsCard(view, ctx), ctx)));
  },
};

const side = (word) => h("span", { class: word === "BUY" ? "good" : "bad" }, word);
const bp = (value) => (value === null || value === undefined ? DASH : `${signed(value, 1)} bp`);

function tradingCards(view, ctx) {
  if (!view.mode) return card("Trading", {}, empty(`${view.unknown?.mode ?? "nothing was traded"}. Choose a later day or another mode, or run \`prometheus paper\` or \`prometheus backtest\`.`));
  return [summary(view), fillsCard(view, ctx), ordersCard(view), positionsCard(view)];
}

const sum = (values) => values.reduce((total, value) => total + value, 0);
const slippageOf = (row) => row.slippage_bps ?? null;

function summary(view) {
  const count = (...words) => view.orders.filter((row) => words.includes(row.status)).length;
  const traded = sum(view.fills.map((row) => row.quantity * row.price));
  const known = view.fills.filter((row) => slippageOf(row) !== null);
  const weight = sum(known.map((row) => row.quantity * row.price));
  const mean = weight ? sum(known.map((row) => slippageOf(row) * row.quantity * row.price)) / weight : null;
  return card("At a glance", { note: [view.mode?.toLowerCase(), `the newest ${view.orders.length} orders and ${view.fills.length} fills`].filter(Boolean).join(", ") }, figures([
    { label: "Filled", value: whole(count("FILLED")) },
    { label: "Rejected or denied", value: whole(count("REJECTED", "DENIED")), tone: count("REJECTED", "DENIED") ? "bad" : "" },
    { label: "Cancelled or expired", value: whole(count("CANCELED", "CANCELLED", "EXPIRED")) },
    { label: "Traded", value: shortMoney(traded) },
    { label: "Commission", value: money(sum(view.fills.map((row) => row.commission ?? 0))), small: traded ? percent(sum(view.fills.map((row) => row.commission ?? 0)) / traded, 3) : undefined },
    { label: "Mean slippage", value: bp(mean), tone: mean > 0 ? "bad" : "", why: "no price of the decision is recorded with these fills" },
  ]));
}

const ordersCard = ({ orders }) => card("Orders", { width: 6 }, table([
  { name: "timestamp", title: "Time (UTC)", show: moment },
  { name: "instrument_id", title: "Instrument" },
  { name: "side", title: "Side", show: (word, row) => h("span.nowrap", side(word), row.order_type !== "MARKET" && h("small.muted", ` ${row.order_type.toLowerCase()}`)) },
  { name: "quantity", title: "Shares", num: true, show: whole },
  { name: "status", title: "Status", show: pill },
], orders, { caption: "Newest first; market orders unless said", empty: "No order of this book up to this session." }));

const fillsCard = ({ fills }, ctx) => card("Fills", { note: "choose one to see why it happened" }, table([
  { name: "fill_id", title: "Why", show: (id) => link(ctx, "lineage", "trace", { item: id }) },
  { name: "timestamp", title: "Time (UTC)", show: moment },
  { name: "instrument_id", title: "Instrument" },
  { name: "side", title: "Side", show: side },
  { name: "quantity", title: "Shares", num: true, show: whole },
  { name: "price", title: "Price", num: true, show: (value) => number(value, 2) },
  { name: "commission", title: "Commission", num: true, show: (value) => money(value, 2) },
  { name: "slippage_bps", title: "Slippage", num: true, tone: (value) => (value > 0 ? "bad" : "good"), show: bp },
], fills, { caption: "Newest first; slippage is a cost when positive", empty: "No fill of this book up to this session." }));

const positionsCard = ({ positions }) => card("Positions", { width: 6 }, table([
  { name: "instrument_id", title: "Instrument" },
  { name: "quantity", title: "Shares", num: true, show: whole },
  { name: "avg_cost", title: "Mean cost", num: true, show: (value) => number(value, 2) },
  { name: "market_value", title: "Value", num: true, show: shortMoney },
  { name: "unrealized_pnl", title: "Unrealised", num: true, tone, show: shortMoney },
], positions, { caption: positions[0]?.as_of_date ? `At ${positions[0].as_of_date}` : undefined, empty: "The book holds nothing at this session." }));
