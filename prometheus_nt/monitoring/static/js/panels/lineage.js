/** Why a fill happened: the way back from it to the data that the engines saw. */

import { h } from "../dom.js";
import { DASH, moment, money, number, percent, signedPercent, whole } from "../format.js";
import { part, parts } from "../parts.js";
import { bookPicker, link, NO_STRATEGY } from "../marks.js";
import { card, empty, pill, table } from "../widgets.js";

const TITLES = {
  fill: "The fill", fills: "The fills", order: "The order", decision: "The decision", target: "The target", risk: "What risk changed",
  scores: "What was measured", stages: "The engines", data: "The data", run: "The run",
};

export default {
  id: "lineage", title: "Lineage", group: "Trade", key: "7", topics: ["fill"],
  about: "From a fill back to its order, the target, what risk changed, the scores, and the data behind them.",

  async load(ctx) {
    // The field stays where a fill is not found, so that another can be asked for.
    const field = Promise.resolve(null);
    if (ctx.item) return parts({ field, lineage: ctx.get(`/api/lineage/fills/${encodeURIComponent(ctx.item)}`) });
    if (!ctx.portfolio) return {};
    return parts({ field, recent: ctx.get("/api/status/execution", { portfolio_id: ctx.portfolio, mode: ctx.mode, limit_orders: 1, limit_fills: 100 }) });
  },

  draw({ lineage, recent }, ctx) {
    return h("div.stack", ask(ctx), lineage ? part(lineage, (found) => chain(found.steps, ctx), ctx)
      : recent ? part(recent, (found) => fills(found, ctx), ctx) : empty(NO_STRATEGY));
  },
};

function ask(ctx) {
  const input = h("input", { value: ctx.item ?? "", placeholder: "fill id", size: 44, autocomplete: "off", spellcheck: "false" });
  return h("form.row", { on: { submit: (event) => { event.preventDefault(); input.blur(); ctx.open(input.value.trim()); } } },
    h("label.field", "fill", input), h("button.first", "Trace"),
    ctx.item ? h("button", { type: "button", on: { click: () => ctx.open("") } }, "Newest fills") : bookPicker(ctx, "lineage"));
}

const fills = (recent, ctx) => card("Newest fills", { note: "choose one to follow it back" }, table([
  { name: "fill_id", title: "Fill", show: (id) => h("span.mono", id) },
  { name: "timestamp", title: "Time (UTC)", show: moment },
  { name: "instrument_id", title: "Instrument" },
  { name: "side", title: "Side", show: (word) => h("span", { class: word === "BUY" ? "good" : "bad" }, word) },
  { name: "quantity", title: "Shares", num: true, show: whole },
  { name: "price", title: "Price", num: true, show: (value) => number(value) },
], recent.fills, { empty: "No fill of this book up to this session. Choose another book, or type a fill's id.", onRow: (row) => ctx.open(row.fill_id) }));

/* ---------------------------------------------------------------- the chain */

const chain = (steps, ctx) => h("ol.chain", { "aria-label": "From the fill back to the data" },
  steps.map((step, i) => h("li", stepCard(step, i, ctx))));

function stepCard({ kind, facts, rows, missing }, at, ctx) {
  const sentence = missing ? null : SAID[kind]?.(facts, rows);
  return card(`${at + 1}. ${TITLES[kind] ?? kind}`, { tools: linksOf(kind, facts, ctx) },
    missing && h("p.said.muted", `${missing[0].toUpperCase()}${missing.slice(1)}.`),
    sentence && h("p.said", sentence),
    rows.length > 0 && factTable(rows),
    Object.keys(facts).length > 0 && h("details", h("summary", "All that is stored"), factList(facts)));
}

/** What a step says in one sentence. */
const SAID = {
  fill: (f) => `${f.side === "BUY" ? "Bought" : "Sold"} ${whole(f.quantity)} ${f.instrument_id} at ${number(f.price, 4)} on ${moment(f.timestamp)} UTC, for a commission of ${money(f.commission, 2)} (${f.mode.toLowerCase()}).`,
  fills: (_, rows) => `${rows.length} ${rows.length === 1 ? "fill" : "fills"}.`,
  order: (f) => [`A ${f.order_type.toLowerCase()} order to ${f.side.toLowerCase()} ${whole(f.quantity)} ${f.instrument_id}, sent ${moment(f.timestamp)} UTC. `, pill(f.status)],
  decision: (f) => `${f.config_id} decided on the close of ${f.as_of_date}, and sent ${f.output_refs?.orders ?? "its"} orders.`,
  target: (f) => `On ${f.as_of_date} the book wanted ${percent(f.weight)} of it${f.weight ? `, as one of ${f.names} names` : ": nothing"}; solved by ${f.optimization_params?.method ?? "a method that is not stored"}${bindings(f)}.`,
  risk: (_, rows) => rows.map((row) => `${row.action_type.toLowerCase()}: ${percent(row.original_weight)} became ${percent(row.adjusted_weight)}`).join("; "),
  scores: measured,
  stages: (_, rows) => `${rows.length} engines ran on that session, each on the results of those before it.`,
  data: (f) => `${whole(f.bars)} bars of ${f.dataset_id} from ${f.first_date ?? DASH} to ${f.last_bar?.trade_date ?? DASH}, close ${number(f.last_bar?.close)}. ${UNCHANGED[String(f.unchanged)]}`,
  run: (f) => `${f.run_id}, ${f.mode.toLowerCase()}, by ${f.sleeve_id}.`,
};

const UNCHANGED = {
  true: "The dataset is still what the engines saw.", false: "The dataset has grown or was revised since: the engines saw other bytes.",
  null: "No engine's decision is stored, so whether it changed since is not known.", undefined: "",
};

const bindings = ({ optimization_params: solved }) => (solved?.binding?.length ? `, held back by ${solved.binding.join(" and ").replaceAll("_", " ")}` : "");

function measured({ instrument_scores: score, universe_members: member, fragility_measures: fragile, stability_vectors: stable }) {
  const parts = [
    score && `expected ${signedPercent(score.expected_return, 3)} over ${score.horizon_days} sessions with confidence ${percent(score.confidence, 0)} (${score.signal_label})`,
    member && (member.included ? `in the universe, ${member.tier.toLowerCase()}` : `left out of the universe: ${member.reasons?.exclusion ?? "no reason stored"}`),
    stable && `instability ${number(stable.overall_score, 0)} of 100`, fragile && `fragility ${number(fragile.fragility_score)} (${fragile.fragility_class})`,
  ].filter(Boolean);
  const text = parts.join("; ");
  return text && `${text[0].toUpperCase()}${text.slice(1)}.`;
}

const LINKS = {
  fill: (f) => [["execution", "this book's trading", { portfolio: f.portfolio_id }]],
  target: (f) => [["portfolio_risk", "the book that day", { portfolio: f.portfolio_id, as_of: f.as_of_date }]],
  decision: (f) => [["assessment_universe", "assessment that day", { as_of: f.as_of_date }], ["fragility", "fragility that day", { as_of: f.as_of_date }]],
  data: (f) => [["data_health", "health of the dataset", { item: f.dataset_id }]],
  run: (f) => [["backtests", "the run", { item: f.run_id }]],
};

const linksOf = (kind, facts, ctx) => (Object.keys(facts).length ? LINKS[kind]?.(facts) ?? [] : []).map(([panel, text, changes]) => link(ctx, panel, text, changes));

/* ---------------------------------------------------------------- what is stored */

const factList = (facts) => h("dl.facts", Object.entries(facts).map(([name, value]) => h("div", h("dt", name.replaceAll("_", " ")), h("dd", told(name, value)))));

/** A value as people read it; what has parts is a list of its own. */
function told(name, value) {
  if (value === null || value === undefined || value === "") return DASH;
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "number") return Number.isInteger(value) ? whole(value) : number(value, Math.abs(value) < 1 ? 5 : 2);
  if (Array.isArray(value)) return value.length ? value.map((one) => (typeof one === "object" ? JSON.stringify(one) : one)).join(", ") : "none";
  if (typeof value === "object") return Object.keys(value).length ? factList(value) : "none";
  if (name === "status" || name === "regime") return pill(value);
  if (/timestamp|_at$/.test(name)) return moment(value);
  return /(_id|hash|fingerprint)$/.test(name) ? h("span.mono", value) : value;
}

function factTable(rows) {
  const names = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  return table(names.map((name) => ({
    name, title: name.replaceAll("_", " "), show: (value) => told(name, value),
    num: rows.every((row) => typeof row[name] === "number" || row[name] === null),
  })), rows);
}
