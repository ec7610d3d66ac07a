/** A conversation with the assistant, which looks things up in the stores and says where. */

import { h } from "../dom.js";
import { DASH } from "../format.js";
import { link } from "../marks.js";
import { card, empty, table } from "../widgets.js";

const KEPT = "prometheus.conversation";
const MOST_KEPT = 50;
const MOST_ROWS = 50;
const STARTS = ["What can you answer?", "Which regime is it now?", "What are the largest positions?", "What was the worst drawdown?", "What failed today?"];

const said = JSON.parse(sessionStorage.getItem(KEPT) ?? "[]");

export default {
  id: "kronos_chat", title: "Assistant", group: "Research",
  about: "Questions about what is stored. Each answer names the look-ups it rests on; it changes nothing, and what it proposes waits for a decision.",

  async load() {
    return said;
  },

  draw(turns, ctx) {
    const end = h("div");
    requestAnimationFrame(() => turns.length && end.scrollIntoView({ block: "nearest" }));
    return card("Conversation", { note: "kept in this tab", tools: [turns.length ? h("button.quiet", { type: "button", on: { click: () => { said.length = 0; keep(); ctx.refresh(); } } }, "Forget it") : null] },
      turns.length ? h("div.talk", { role: "log", "aria-label": "Conversation" }, turns.flatMap((turn) => [h("div.asked", h("p", turn.question)), answerOf(turn, ctx)])) : null,
      turns.length ? end
        : empty("Nothing has been asked yet.", h("div.row", { style: { justifyContent: "center", marginTop: "10px" } }, STARTS.map((question) =>
          h("button", { type: "button", on: { click: () => ask(question, ctx) } }, question)))),
      asking(ctx));
  },
};

function asking(ctx) {
  const input = h("input", { "aria-label": "Question", placeholder: "Why was AAPL sold?", maxlength: 1000, value: ctx.local.typed ?? "", style: { flex: "1", minWidth: "0" },
    on: { input: (event) => { ctx.local.typed = event.target.value; } } });
  return h("form.row", { style: { marginTop: "12px", flexWrap: "nowrap" }, on: { submit: (event) => {
    event.preventDefault();
    const question = input.value.trim();
    if (!question || ctx.local.waiting) return;
    ctx.local.typed = "";
    input.blur();
    ask(question, ctx).then(() => document.querySelector("[aria-label=Question]")?.focus());
  } } }, input, h("button.first", { type: "submit", disabled: Boolean(ctx.local.waiting) }, ctx.local.waiting ? "Looking…" : "Ask"));
}

async function ask(question, ctx) {
  ctx.local.waiting = true;
  await ctx.refresh();
  const turn = { question };
  try {
    const context = Object.fromEntries(Object.entries({ as_of: ctx.as_of, region: ctx.region, strategy_id: ctx.strategy, portfolio_id: ctx.portfolio }).filter(([, value]) => value));
    Object.assign(turn, await ctx.post("/api/kronos/chat", { question, context }));
  } catch (error) {
    turn.failed = error.message;
  }
  said.push(turn);
  said.splice(0, said.length - MOST_KEPT);
  keep();
  ctx.local.waiting = false;
  await ctx.refresh();
}

function keep() {
  try {
    sessionStorage.setItem(KEPT, JSON.stringify(said));
  } catch {
    // The tab's memory is full: the conversation goes on, and is not kept.
  }
}

function answerOf(turn, ctx) {
  if (turn.failed) return h("div", { role: "alert" }, h("p.bad", turn.failed));
  return h("div", h("p", turn.answer), turn.sources.map(sourceOf), turn.proposals.map((one) => proposalOf(one, ctx)));
}

function sourceOf(source) {
  const rows = source.rows.slice(0, MOST_ROWS);
  const names = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  return h("details", h("summary", `${source.tool.replaceAll("_", " ")}: ${source.rows.length} ${source.rows.length === 1 ? "row" : "rows"}`),
    h("p.mono", JSON.stringify(source.query)),
    rows.length ? table(names.map((name) => ({ name, title: name.replaceAll("_", " "), show: shown })), rows, { caption: `What ${source.tool} found` }) : null);
}

const shown = (value) => (value === null || value === undefined ? DASH : typeof value === "object" ? JSON.stringify(value)
  : typeof value === "number" && !Number.isInteger(value) ? String(Number(value.toPrecision(6))) : String(value));

const proposalOf = (one, ctx) => h("p", "Waits for a decision: ", link(ctx, "meta_experiments", one.description, { item: one.proposal_id }), ` (${JSON.stringify(one.parameters)}, risk ${one.risk_level.toLowerCase()})`);
