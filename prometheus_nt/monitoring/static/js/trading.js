/** Tables of trading that more than one panel shows. */

import { h } from "./dom.js";
import { DASH, percent } from "./format.js";
import { pillAs } from "./marks.js";
import { card, table } from "./widgets.js";

export const REJECTED = "EXECUTION_REJECT";
const TONES = { EXECUTION_REJECT: "bad", VETO: "bad", REJECTED: "bad", CAPPED: "warn", SCALED: "warn", OK: "good" };

/** What the risk stage and execution changed; refusals by execution are marked. */
export function actionsCard(view, ctx, width) {
  const refused = view.actions.filter((row) => row.action_type === REJECTED).length;
  return card("Risk actions", { width, note: refused ? `${refused} refused by execution, marked ★` : "newest first" }, table([
    { name: "created_at", title: "Session" },
    { name: "instrument_id", title: "Instrument", show: (value) => value ?? "the book" },
    { name: "action_type", title: "Action", show: (word) => [pillAs(word, TONES[word]), word === REJECTED && h("b.bad", { title: "refused by execution" }, " ★")] },
    { name: "original_weight", title: "Wished", num: true, show: (value) => percent(value) },
    { name: "adjusted_weight", title: "Allowed", num: true, show: (value) => percent(value) },
    { name: "reason", title: "Why", tone: (value) => (value ? "long" : ""), show: (value) => (value ? value.replaceAll("_", " ").toLowerCase() : DASH) },
    { name: "run_id", title: "Run", show: (value) => h("span.mono", value) },
  ], view.actions, { caption: `Actions on the books of ${view.strategy_id}`, empty: "The risk stage changed nothing up to this session." }));
}
