/** What trades now, on paper or live: what it holds and wants, what waits in the market, and the switches that stop it. */

import { h } from "../dom.js";
import { attempt, guarded } from "../forms.js";
import { ago, DASH, moment, money, number, percent, shortMoney, signed, signedPercent, text, whole } from "../format.js";
import { link } from "../marks.js";
import { part, parts } from "../parts.js";
import { button, card, coded, empty, figures, pill, table } from "../widgets.js";

const ALL = "ALL";

export default {
  id: "live_desk", title: "Live desk", group: "Trade", topics: ["run", "fill", "step", "alert"],
  about: "Every sleeve that trades, on paper or live: its book against its target and its broker, its orders, and the switches that stop it.",

  load(ctx) {
    return parts({
      desk: ctx.get("/api/desk"),
      ...(ctx.item && { chosen: ctx.get(`/api/desk/${encodeURIComponent(ctx.item)}`) }),
    });
  },

  draw({ desk, chosen }, ctx) {
    return h("div.grid", part(desk, (view) => [switchCard(view.kill_switch, ctx), runsCard(view.runs, ctx)], ctx),
      chosen ? part(chosen, (view) => detail(view, ctx), ctx) : desk.data?.runs.length ? empty("Choose a sleeve to see its book, its orders and its switch.") : null);
  },
};

const TONE = { ARMED: "good", HALTED: "bad", FLATTENING: "warn", RUNNING: "good", STOPPED: "muted" };
const stated = (word) => h("span.pill", { class: TONE[word] ?? "info" }, word);

/* ---------------------------------------------------------------- switches */

/** How a switch stands, in words. */
function standing({ state, cause, reason, by, at }) {
  if (!at && state === "ARMED") return "Nobody has ever moved it: what is armed may trade.";
  const why = [cause && `cause ${cause.toLowerCase()}`, reason, by && `by ${by}`, at && `${moment(at)} UTC`].filter(Boolean).join(" · ");
  return { ARMED: `Orders may leave. ${why}`, HALTED: `Nothing leaves. ${why}`, FLATTENING: `Only what closes positions leaves. ${why}` }[state] ?? why;
}

function switchCard(kill, ctx) {
  const armed = kill.state === "ARMED";
  const card_ = card("Kill switch", { note: "all sleeves obey it", tools: [stated(kill.state),
    armed ? guarded(ctx, "TRADE", button("Halt everything", () => halt(ALL, ALL, ctx), "danger")) : guarded(ctx, "TRADE", button("Arm again", () => arm(ALL, ALL, ctx), "danger"))] },
  h("p.said", standing(kill)));
  card_.classList.add("switch", armed ? "good" : "bad");
  return card_;
}

/** Move a switch: its name is typed, then the reason. */
async function move(what, run, scope, body, ctx) {
  const confirm = await ctx.confirm({ title: `${what[0].toUpperCase()}${what.slice(1)} ${scope}?`, body, typed: scope, act: "Go on", danger: true });
  if (!confirm) return;
  const reason = await ctx.confirm({ title: `Why ${what} ${scope}?`, body: "It is recorded with your name.", ask: "Reason", act: `${what[0].toUpperCase()}${what.slice(1)} ${scope}`, danger: true });
  if (!reason) return;
  await attempt(async () => {
    const done = await ctx.post(`/api/desk/${encodeURIComponent(run)}/${what}`, what === "halt" ? { reason } : { reason, confirm });
    const holds = done.holds.scope === done.moved.scope ? "" : `; ${done.holds.scope} holds: ${done.holds.state}`;
    return { message: `${done.moved.scope} is ${done.moved.state}${holds}` };
  });
  ctx.refresh();
}

const halt = (run, scope, ctx) => move("halt", run, scope, scope === ALL ? "No order of any sleeve leaves until it is armed again. Positions stay as they are." : "No order of this sleeve leaves until it is armed again. Its positions stay as they are.", ctx);
const flatten = (run, scope, ctx) => move("flatten", run, scope, "The sleeve sells what it holds and buys back what it owes, and does nothing else.", ctx);
const arm = (run, scope, ctx) => move("arm", run, scope, scope === ALL ? "Every sleeve that is not halted itself may trade again." : "The sleeve may trade again.", ctx);

/* ---------------------------------------------------------------- what trades */

const runsCard = (rows, ctx) => card("What trades", { note: "the newest run of each sleeve" }, table([
  { name: "sleeve_id", title: "Sleeve" }, { name: "mode", title: "Mode", show: (mode) => h("b", { class: mode === "LIVE" ? "warn" : "" }, mode) },
  { name: "state", title: "State", show: stated }, { name: "session", title: "Session", show: text },
  { name: "equity", title: "Equity", num: true, show: shortMoney }, { name: "drawdown", title: "Drawdown", num: true, show: (share) => percent(share) },
  { name: "net_exposure", title: "Net", num: true, show: (share) => signedPercent(share, 1) }, { name: "positions", title: "Positions", num: true, show: whole },
  { name: "open_orders", title: "Orders", num: true, show: whole },
  { name: "broker_breaks", title: "Broker", tone: (breaks) => (breaks ? "bad" : ""), show: (breaks) => (breaks === null ? DASH : breaks ? `${whole(breaks)} differ` : "agrees") },
], rows, { caption: "Sleeves that trade", onRow: (row) => ctx.open(row.run_id), selected: (row) => row.run_id === ctx.item,
  empty: "Nothing trades on paper or live. `prometheus paper` starts a sleeve on paper." }));

function detail(view, ctx) {
  const { run } = view;
  const why = (name) => view.unknown?.[`run.${name}`];
  const act = (what, go, kind) => guarded(ctx, "TRADE", button(what, () => go(run.run_id, run.sleeve_id, ctx), kind));
  return [
    card(run.sleeve_id, { note: `${run.run_id} · ${run.mode.toLowerCase()} · ${run.market_id}`, tools: [stated(run.state),
      run.switch.state === "ARMED" ? act("Halt", halt, "danger") : act("Arm", arm, "danger"),
      run.switch.state !== "FLATTENING" && act("Flatten", flatten, "danger"),
      link(ctx, "backtests", "Run and divergence", { item: run.run_id }), h("button.quiet", { type: "button", on: { click: () => ctx.open("") } }, "Close")] },
    h("p.said", run.switch.scope === run.sleeve_id ? "" : `${run.switch.scope} holds for it. `, standing(run.switch)),
    figures([
      { label: "Equity", value: money(run.equity), why: why("equity"), small: run.session ? `at the close of ${run.session}` : undefined },
      { label: "Cash", value: shortMoney(run.cash), why: why("cash") }, { label: "Drawdown", value: percent(run.drawdown), why: why("drawdown") },
      { label: "Gross", value: percent(run.gross_exposure, 1), why: why("gross_exposure") }, { label: "Net", value: signedPercent(run.net_exposure, 1), why: why("net_exposure") },
      { label: "Traded by", value: run.owner ?? DASH, why: why("owner"), small: run.lease_until ? leased(run.lease_until) : undefined },
    ])),
    bookCard(view, run), ordersCard(view),
  ];
}

const leased = (until) => (Date.parse(until) > Date.now() ? `its lease holds until ${moment(until)}` : `its lease ended ${ago(until)}`);

function bookCard(view, run) {
  const weight = (row) => (run.equity > 0 ? row.market_value / run.equity : null);
  const session = [view.book_session && `held at ${view.book_session}`, view.target_session && `wanted at ${view.target_session}`].filter(Boolean).join(", ");
  const { broker } = view;
  return card("Book, target and broker", { note: session || view.unknown?.book_session }, table([
    { name: "instrument_id", title: "Instrument" },
    { name: "market_value", title: "Holds", num: true, show: (_, row) => percent(weight(row)) }, { name: "target_weight", title: "Wants", num: true, show: (share) => percent(share) },
    { name: "shares", title: "Shares", num: true, show: whole }, { name: "target_shares", title: "Target", num: true, show: whole },
    { name: "difference", title: "To trade", num: true, tone: (left) => (left && Math.abs(left) >= 1 ? "warn" : ""), show: (left) => signed(left, 0) },
    { name: "broker_shares", title: "Broker", num: true, show: whole },
    { name: "broker_difference", title: "Break", num: true, tone: (apart) => (apart ? "bad" : ""), show: (apart) => (apart ? signed(apart, 0) : apart === 0 ? "none" : DASH) },
    { name: "price", title: "Price, USD", num: true, show: (price) => number(price) },
  ], view.positions, { caption: "To trade: target less shares, at the last close. Break: what the broker held beyond the books when they were compared.", empty: "It holds nothing and wants nothing." }),
  h("p.muted.heard", broker ? heard(broker) : coded(`Broker: ${view.unknown?.broker ?? "not known"}.`)));
}

/** What the broker said, of what, and when. */
const heard = ({ account_id: account, at, session, runs, cash, breaks }) => [
  `${account === "sandbox" ? "The simulated exchange" : account} was compared ${moment(at)} UTC (${ago(at)})${session ? `, with the books of the close of ${session}` : ""}`,
  runs.length > 1 && `its shares are those of ${runs.length} sleeves together`,
  `cash ${money(cash)}`, breaks ? h("b.bad", `${whole(breaks)} instruments differ`) : "every position agrees",
].filter(Boolean).flatMap((one, i) => (i ? ["; ", one] : [one]));

const ordersCard = (view) => card("Open orders", {}, table([
  { name: "timestamp", title: "Time (UTC)", show: moment }, { name: "instrument_id", title: "Instrument" },
  { name: "side", title: "Side", show: (side) => h("span", { class: side === "BUY" ? "good" : "bad" }, side) },
  { name: "quantity", title: "Shares", num: true, show: (shares, row) => `${whole(row.filled_quantity)} of ${whole(shares)}` }, { name: "status", title: "Status", show: pill },
], view.open_orders, { caption: "Orders that may still fill", empty: "No order waits in the market." }));
