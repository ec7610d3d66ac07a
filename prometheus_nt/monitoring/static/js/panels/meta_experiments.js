/** What was tried and judged, and proposals from a first try to their reversal. */

import { h } from "../dom.js";
import { attempt, form, guarded } from "../forms.js";
import { DASH, moment, number, percent, signed, text, tone, whole } from "../format.js";
import { link, picker } from "../marks.js";
import { part, parts } from "../parts.js";
import { button, card, empty, figures, pill, progress, table } from "../widgets.js";

const STATES = ["PENDING", "APPROVED", "REJECTED", "APPLIED", "REVERTED"];
const MOST = 200;
/** What is chosen is a proposal or a campaign. */
const isProposal = (item) => item.startsWith("PROP-");

export default {
  id: "meta_experiments", title: "Experiments", group: "Research", key: "9", topics: ["job", "run"],
  about: "Everything that was tried, who goes on and why, and changes: proposed, decided on, applied and put back.",

  load(ctx) {
    const chosen = isProposal(ctx.item) && ctx.item;
    return parts({
      ledger: ctx.get("/api/meta/ledger", { limit: 50 }),
      campaigns: ctx.get("/api/campaigns", { limit: 100 }),
      judged: ctx.item && !chosen ? ctx.get(`/api/campaigns/${encodeURIComponent(ctx.item)}`) : ctx.get("/api/meta/ranking"),
      proposals: ctx.get("/api/intelligence/proposals", { status: ctx.local.status ?? "", limit: MOST }),
      ...(chosen && { proposal: ctx.get(`/api/intelligence/proposals/${encodeURIComponent(chosen)}`) }),
      changes: ctx.get("/api/intelligence/changes", { limit: MOST }),
      health: ctx.get("/api/intelligence/health"),
    });
  },

  draw(data, ctx) {
    return h("div.grid",
      part(data.health, (view) => unheard(view), ctx),
      part(data.proposals, (page) => proposalsCard(page, ctx), ctx),
      data.proposal && part(data.proposal, (view) => proposalCard(view, ctx), ctx),
      part(data.changes, (page) => changesCard(page, ctx), ctx),
      part(data.campaigns, (page) => campaignsCard(page, ctx), ctx),
      part(data.judged, (view) => (view.campaign ? campaignCards(view, ctx) : rankingCard(view, ctx)), ctx),
      part(data.ledger, ledgerCard, ctx), askCard(ctx));
  },
};

const unheard = (view) => (view.status === "OK" ? null
  : h("div.failed", { role: "alert", style: { gridColumn: "1 / -1" } }, `${whole(view.waiting_jobs)} jobs wait and no worker hears them: nothing can be proposed or evaluated. Start one by `, h("code", "prometheus worker"), "."));

/* ---------------------------------------------------------------- proposals */

const value = (given) => (given === null || given === undefined ? DASH : typeof given === "object" ? JSON.stringify(given) : String(given));
const by = (who, when) => (when ? `${who ?? "somebody"}, ${moment(when)}` : DASH);

function proposalsCard(page, ctx) {
  return card("Proposals", { note: "newest first; choose one to decide on it", tools: [
    picker("status", ctx.local.status ?? "", STATES, (word) => { ctx.local.status = word; ctx.refresh(); }, "any"),
    guarded(ctx, "OPERATE", button("Propose what the diagnosis finds", () => generate(ctx)))] },
  table([
    { name: "proposal_id", title: "Proposal", show: (id) => h("span.mono", id.slice(0, 12)) },
    { name: "status", title: "Status", show: pill },
    { name: "strategy_id", title: "Strategy", show: text },
    { name: "target_component", title: "Setting", show: (key) => h("code", key) },
    { name: "current_value", title: "From", show: value }, { name: "proposed_value", title: "To", show: value },
    { name: "expected_sharpe_improvement", title: "Sharpe", num: true, tone, show: (gain) => signed(gain) },
    { name: "confidence_score", title: "Confidence", num: true, show: (share) => percent(share, 0) },
    { name: "approved_by", title: "Decided by", show: (who, row) => by(who, row.approved_at) },
    { name: "created_at", title: "Made (UTC)", show: moment },
  ], page.rows, { caption: "Proposals", selected: (row) => row.proposal_id === ctx.item,
    onRow: (row) => ctx.open(row.proposal_id),
    empty: ctx.local.status ? "No proposal stands there." : "Nothing has been proposed. Let the diagnosis choose above, or propose a setting below; each is tried first." }));
}

async function generate(ctx) {
  if (!ctx.strategy) throw new Error("no strategy is recorded; run a backtest first");
  const sure = await ctx.confirm({ title: `Propose for ${ctx.strategy}?`, body: "A job tries the change that matched runs of the strategy find best, and writes it down as a proposal. Nothing is changed.", act: "Try and propose" });
  if (!sure) return;
  await attempt(() => ctx.post(`/api/intelligence/proposals/generate/${encodeURIComponent(ctx.strategy)}`, {}));
  ctx.refresh();
}

/** What may be done with a proposal that stands somewhere; each asks before it acts. */
const STEPS = {
  approve: { title: "Approve", from: ["PENDING"], says: "Nothing changes until it is applied." },
  reject: { title: "Reject", from: ["PENDING", "APPROVED"], says: "The same change may then be proposed again.", why: true, danger: true },
  apply: { title: "Apply", from: ["APPROVED"], says: "The next run of the strategy reads the new setting.", typed: true, danger: true },
  evaluate: { title: "Evaluate", from: ["APPLIED"], says: "A job compares it with what it replaced, on later sessions alone." },
};

function proposalCard({ proposal, screen, notes }, ctx) {
  const steps = Object.entries(STEPS).filter(([, step]) => step.from.includes(proposal.status));
  return card(`${proposal.target_component}: ${value(proposal.current_value)} to ${value(proposal.proposed_value)}`, { note: proposal.proposal_id, tools: [pill(proposal.status),
    steps.map(([name, step]) => guarded(ctx, "OPERATE", button(step.title, () => take(name, step, proposal, ctx), step.danger ? "danger" : "first"))),
    h("button.quiet", { type: "button", on: { click: () => ctx.open("") } }, "Close")] },
  h("p.said", proposal.rationale ?? "No reason was given."),
  figures([
    { label: "Sharpe ratio", value: signed(proposal.expected_sharpe_improvement), tone: tone(proposal.expected_sharpe_improvement), why: "the trial did not find it" },
    { label: "Return", value: percent(proposal.expected_return_improvement), tone: tone(proposal.expected_return_improvement), why: "the trial did not find it" },
    { label: "Less risk", value: percent(proposal.expected_risk_reduction), why: "the trial did not find it" },
    { label: "Confidence", value: percent(proposal.confidence_score, 0), why: "the trial did not find it" },
  ]),
  h("dl.facts", h("div", h("dt", "Trial"), h("dd", [screen.verdict?.replaceAll("_", " ").toLowerCase(), screen.why].filter(Boolean).join(": ") || DASH)),
    Object.entries(notes).map(([name, note]) => h("div", h("dt", name), h("dd", note.at ? `${by(note.by, note.at)}${note.why ? `: ${note.why}` : ""}` : value(note))))),
  proposal.run_id && h("p", "Tried in ", link(ctx, "backtests", proposal.run_id, { item: proposal.run_id })),
  h("details", h("summary", "What the trial found"), h("pre.lines", { tabindex: 0 }, JSON.stringify(screen, null, 2))));
}

async function take(name, step, proposal, ctx) {
  const answer = await ctx.confirm({ title: `${step.title} ${proposal.target_component}?`, body: `${value(proposal.current_value)} becomes ${value(proposal.proposed_value)} for ${proposal.strategy_id}. ${step.says}`,
    typed: step.typed ? proposal.strategy_id : undefined, ask: step.why ? "Why" : undefined, act: step.title, danger: step.danger });
  if (!answer) return;
  const path = `/api/intelligence/proposals/${encodeURIComponent(proposal.proposal_id)}/${name}`;
  await attempt(async () => {
    const told = await ctx.post(path, step.why ? { reason: answer } : {});
    if (told.success === false) throw new Error(told.error_message);
    return told.change_id ? { message: `applied as change ${told.change_id}` } : told;
  });
  ctx.refresh();
}

function changesCard(page, ctx) {
  return card("Changes", { note: "what was applied; before is the same sessions without it" }, table([
    { name: "target_component", title: "Setting", show: (key) => h("code", key) },
    { name: "strategy_id", title: "Strategy", show: text },
    { name: "previous_value", title: "From", show: value }, { name: "new_value", title: "To", show: value },
    { name: "sharpe_before", title: "Sharpe before", num: true, show: (found) => number(found) },
    { name: "sharpe_after", title: "After", num: true, show: (found) => number(found) },
    { name: "sharpe_improvement", title: "Gain", num: true, tone, show: (found) => signed(found) },
    { name: "evaluation_end_date", title: "Evaluated", show: (end, row) => (end ? `${row.evaluation_start_date} to ${end}` : "not yet") },
    { name: "applied_by", title: "Applied by", show: (who, row) => by(who, row.applied_at) },
    { name: "is_reverted", title: "Stands", show: (back, row) => (back ? h("span", `put back ${moment(row.reverted_at)}`, row.reversion_reason && h("small.muted", ` ${row.reversion_reason}`))
      : row.proposal_id ? guarded(ctx, "OPERATE", button("Put back", () => putBack(row, ctx), "danger")) : "applied by hand") },
  ], page.rows, { caption: "Applied changes", empty: "No change was ever applied. Approve and apply a proposal first." }));
}

async function putBack(row, ctx) {
  const reason = await ctx.confirm({ title: `Put back ${row.target_component}?`, body: `${value(row.new_value)} becomes ${value(row.previous_value)} again for ${row.strategy_id}; its next run reads it.`, ask: "Why", act: "Put back", danger: true });
  if (!reason) return;
  await attempt(() => ctx.post(`/api/intelligence/changes/${encodeURIComponent(row.change_id)}/revert`, { reason }));
  ctx.refresh();
}

function askCard(ctx) {
  return card("Propose a setting", { note: "a job tries it first; a person decides" }, form(ctx, "proposal", [
    { name: "strategy_id", label: "Strategy", required: true, choices: (ctx.options?.strategies ?? []).map((one) => one.strategy_id), any: "choose" },
    { name: "key", label: "Setting", required: true, placeholder: "engines.portfolio.max_names", hint: "below engines, execution or gate", mistakes: ["engines", "execution", "gate"] },
    { name: "value", label: "Is to be", required: true, placeholder: "8" },
    { name: "config", label: "Configuration file", hint: "by default the strategy's own" },
    { name: "start", label: "Tried from", type: "date", mistakes: ["sessions.start"] }, { name: "end", label: "to", type: "date", mistakes: ["sessions.end", "sessions"] },
    { name: "why", label: "Why", required: true, wide: true },
  ], { act: "Try and propose", submit: async (given) => {
    const made = await ctx.post(`/api/intelligence/proposals/generate/${encodeURIComponent(given.strategy_id)}`, {
      key: given.key.trim(), value: read(given.value), why: given.why, config: given.config ? [given.config.trim()] : [],
      ...(given.start && { start: given.start }), ...(given.end && { end: given.end }) });
    ctx.toast(made.message);
    ctx.refresh();
  } }));
}

function read(typed) {
  try {
    return JSON.parse(typed);
  } catch {
    return typed;
  }
}

/* ---------------------------------------------------------------- what was tried */

const campaignsCard = (page, ctx) => card("Campaigns", { note: "choose one to see its ranking" }, table([
  { name: "name", title: "Campaign" },
  { name: "status", title: "Status", show: pill },
  { name: "progress", title: "Progress", show: (share, row) => (row.status === "RUNNING" ? progress(share) : percent(share, 0)) },
  { name: "trials", title: "Variants", num: true, show: whole },
  { name: "failed", title: "Failed", num: true, tone: (count) => (count ? "bad" : ""), show: whole },
  { name: "start_date", title: "From" }, { name: "end_date", title: "To" },
  { name: "created_at", title: "Planned (UTC)", show: moment },
], page.rows, { caption: "Campaigns", onRow: (row) => ctx.open(row.campaign_id), selected: (row) => row.campaign_id === ctx.item,
  empty: "No campaign was run. `prometheus campaign run` runs one, or a job of kind campaign." }));

function campaignCards(view, ctx) {
  const { campaign: one, counts } = view;
  const failed = view.variants.filter((row) => row.status === "FAILED");
  return [
    card(one.name, { note: one.campaign_id, tools: [pill(one.status), h("button.quiet", { type: "button", on: { click: () => ctx.open("") } }, "Close")] }, figures([
      ...Object.entries(counts).map(([word, count]) => ({ label: word.toLowerCase(), value: whole(count), tone: word === "FAILED" && count ? "bad" : "" })),
      { label: "Seconds a variant", value: number(view.seconds_mean, 1), why: view.unknown?.seconds_mean },
      { label: "Seconds to go", value: whole(view.eta_seconds), why: view.unknown?.eta_seconds },
    ]), failed.length ? table([{ name: "sleeve_id", title: "Variant" }, { name: "error", title: "Failed with" }, { name: "message", title: "Because", show: text }], failed, { caption: "Failed variants" }) : null),
    rankingCard(view.ranking, ctx),
  ];
}

function rankingCard(view, ctx) {
  if (!view.decision_id) return card("Who goes on", {}, empty(`${view.unknown?.verdict ?? "Nobody has judged."}. Ask for it under Jobs.`));
  const figure = (name, show) => show(view.pool[name]);
  const why = (name) => view.not_computed[name] ?? "not computed for this decision";
  return card("Who goes on", { note: `${view.strategy_id ?? view.scope ?? ""} at ${view.as_of_date}` },
    h("p.said", view.selected.length ? `Selected: ${view.selected.join(", ")}.` : view.verdict ?? nobody(view)),
    figures([
      { label: "Were tried", value: figure("trials_ever", whole), why: why("trials_ever") },
      { label: "Sharpe that luck reaches", value: figure("hurdle", number), why: why("hurdle") },
      { label: "Overfitting (PBO)", value: figure("overfitting", (share) => percent(share, 0)), why: why("overfitting") },
    ]),
    table([
      { name: "rank", title: "Rank", num: true }, { name: "sleeve_id", title: "Candidate", show: (id, row) => (row.run_id ? link(ctx, "backtests", id, { item: row.run_id }) : id) },
      { name: "verdict", title: "Verdict", show: (word, row) => h("span.pill", { class: row.selected ? "good" : "warn" }, word.replaceAll("_", " ")) },
      { name: "sharpe", title: "Sharpe", num: true, show: (found) => number(found) },
      { name: "dsr", title: "DSR", num: true, show: (found) => percent(found, 1) }, { name: "pbo", title: "PBO", num: true, show: (found) => percent(found, 0) },
      { name: "why", title: "Why", tone: () => "long", show: (reasons) => (reasons.length ? reasons.join("; ") : DASH) },
    ], view.rows, { caption: "Candidates, the best first; DSR is the chance that the Sharpe ratio exceeds what luck shows", empty: "No candidate was judged." }));
}

function nobody(view) {
  const counts = new Map();
  for (const row of view.rows) for (const reason of row.why) counts.set(reason, (counts.get(reason) ?? 0) + 1);
  const most = [...counts].sort((a, b) => b[1] - a[1]).slice(0, 3).map(([reason, count]) => `${reason} (${count} of ${view.rows.length})`);
  return most.length ? `Nobody was selected: ${most.join("; ")}.` : "Nobody was selected.";
}

function ledgerCard(view) {
  return card("Ledger", { note: `${whole(view.entries)} sealed entries, head ${view.head.slice(0, 12)}` },
    figures(view.families.map((one) => ({ label: one.family, value: whole(one.trials), small: Object.entries(one.by_status).map(([word, count]) => `${count} ${word.toLowerCase()}`).join(", ") }))),
    table([
      { name: "sleeve_id", title: "Tried" }, { name: "status", title: "Status", show: pill }, { name: "start_date", title: "From" }, { name: "end_date", title: "To" },
      { name: "sharpe_per_session", title: "Sharpe a session", num: true, show: (found) => number(found, 4) }, { name: "observations", title: "Sessions", num: true, show: whole },
      { name: "reason", title: "Why", show: text }, { name: "recorded_at", title: "Recorded (UTC)", show: moment },
    ], view.rows, { caption: "The newest entries", empty: "Nothing was ever tried." }));
}
