/** What is expected of each instrument, why, and who may be held at all. */

import { fill, h } from "../dom.js";
import { DASH, number, percent, signed, signedPercent, tone } from "../format.js";
import { barred, bars, link, most, NO_STRATEGY, picker, standsAt } from "../marks.js";
import { part, parts } from "../parts.js";
import { card, empty, figures, table } from "../widgets.js";

const LABELS = { STRONG_BUY: "good", BUY: "good", SELL: "warn", STRONG_SELL: "bad" };
const SHOWN = { all: () => true, members: (row) => row.in_universe, "left out": (row) => !row.in_universe };

export default {
  id: "assessment_universe", title: "Assessment and universe", group: "Research", key: "4", topics: ["run", "step"],
  about: "Expected returns with their confidence and what they are made of, and who was let into the universe.",

  async load(ctx) {
    const choice = { strategy_id: ctx.strategy };
    if (!ctx.strategy) return null;
    return parts({ assessed: ctx.get("/api/status/assessment", choice), universe: ctx.get("/api/status/universe", { ...choice, limit: 1000 }) });
  },

  draw(data, ctx) {
    if (!data) return empty(NO_STRATEGY);
    return h("div.grid", part(data.assessed, (view) => assessedCards(view, ctx), ctx), part(data.universe, (view) => universeCard(view, ctx), ctx));
  },
};

const signal = (word) => (word ? h("span.pill", { class: LABELS[word] ?? "muted" }, word.replace("_", " ")) : DASH);

function assessedCards(view, ctx) {
  const rows = view.instruments;
  if (!rows.length) return card("Expected returns", {}, empty("Nothing has been assessed up to this session. Run a day or a backtest with the assessment engine on, or choose a later day."));
  const full = most(rows.map((row) => row.expected_return));
  const chosen = rows.find((row) => row.instrument_id === ctx.item) ?? rows[0];
  return [
    card("Expected returns", { width: 7, note: standsAt(view) }, table([
      { name: "instrument_id", title: "Instrument" },
      { name: "expected_return", title: "Expected", num: true, tone, show: (value) => barred(value, signedPercent(value, 3), full, value < 0 ? "bad" : "good") },
      { name: "score", title: "Score", num: true, show: (value) => signed(value) },
      { name: "confidence", title: "Confidence", num: true, show: (value) => barred(value, percent(value, 0), 1) },
      { name: "signal_label", title: "Signal", show: signal },
    ], rows, { caption: `${rows.length} instruments, the best first; returns over ${horizons(rows)} sessions`, onRow: (row) => ctx.open(row.instrument_id), selected: (row) => row === chosen })),
    breakdown(chosen, ctx),
  ];
}

function breakdown(row, ctx) {
  const pieces = Object.entries(row.alpha_breakdown).map(([name, value]) =>
    ({ label: name.replaceAll("_", " "), value, tone: value < 0 ? "bad" : "good", why: "its inputs were missing" }));
  return card(`What is behind ${row.instrument_id}`, { width: 5, note: "standard scores of the alpha components" },
    figures([
      { label: "Expected", value: signedPercent(row.expected_return, 3), tone: tone(row.expected_return), small: `in ${row.horizon_days} sessions` },
      { label: "Confidence", value: percent(row.confidence, 0), why: "not measured" },
      { label: "Signal", value: signal(row.signal_label) },
    ]),
    bars(pieces, { signed: true, show: (value) => signed(value), label: "Alpha components", empty: "No breakdown was recorded for this model." }),
    h("p", link(ctx, "fragility", `How fragile is ${row.instrument_id}?`, { item: row.instrument_id })));
}

const horizons = (rows) => [...new Set(rows.map((row) => row.horizon_days))].sort((a, b) => a - b).join(" or ");

/** Reasons as words: what left an instrument out, then everything else that was noted of it. */
function reasonsOf(row) {
  const { exclusion, ...rest } = row.reasons;
  const notes = Object.entries(rest).map(([name, value]) => `${name.replaceAll("_", " ")} ${typeof value === "number" ? number(value) : JSON.stringify(value)}`);
  if (exclusion) notes.unshift(exclusion);
  return notes.length ? notes.join("; ") : row.in_universe ? "" : "no reason was recorded";
}

function universeCard(view, ctx) {
  const host = h("div");
  const show = (name) => {
    ctx.local.shown = name;
    fill(host, members(view.candidates.filter(SHOWN[name])));
  };
  show(ctx.local.shown ?? "all");
  const cut = view.total > view.candidates.length ? `; the first ${view.candidates.length} are listed` : "";
  return card("Universe", {
    note: view.as_of_date ? `${view.universe_id ?? ""}: ${view.included} of ${view.total} are members, ${standsAt(view)}${cut}` : standsAt(view),
    tools: [picker("show", ctx.local.shown ?? "all", Object.keys(SHOWN), show)],
  }, host);
}

const members = (rows) => table([
  { name: "instrument_id", title: "Instrument" },
  { name: "in_universe", title: "Member", show: (value) => h("span.pill", { class: value ? "good" : "bad" }, value ? "in" : "out") },
  { name: "tier", title: "Tier" },
  { name: "score", title: "Score", num: true, show: (value) => number(value, 1) },
  { name: "quality_score", title: "Stability", num: true, show: (value) => barred(value, number(value), 1) },
  { name: "liquidity_score", title: "Liquidity", num: true, show: (value) => barred(value, number(value), 1) },
  { name: "reasons", title: "Why", show: (_, row) => reasonsOf(row) },
], rows, { caption: "Members first; a dash is not measured", empty: "Nobody is in this list." });
