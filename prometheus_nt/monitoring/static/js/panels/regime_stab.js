/** The regime of a region and how it came there, and how stable its instruments are. */

import { chart, colour, line } from "../chart.js";
import { h } from "../dom.js";
import { DASH, number, percent, text } from "../format.js";
import { bars, picker, standsAt, swatches } from "../marks.js";
import { part, parts } from "../parts.js";
import { state } from "../state.js";
import { card, empty, figures, pill, table, toneOf } from "../widgets.js";

const REGIMES = { CARRY: "good", NEUTRAL: "info", RISK_OFF: "warn", CRISIS: "bad" };
const CLASSES = ["STABLE", "WATCH", "FRAGILE", "TARGETABLE", "BREAKER", "UNKNOWN"];
const CHANGES = { p_change_any: "Any change", p_to_carry: "To carry", p_to_crisis_or_risk_off: "To crisis or risk-off" };
const PARTS = { volatility: "Volatility", contagion: "Contagion", liquidity: "Liquidity" };
const colourOf = (label) => colour(REGIMES[label] ?? "muted");

export default {
  id: "regime_stab", title: "Regime and stability", group: "Watch", key: "2", topics: ["run", "step"],
  about: "Which regime the market is in, how sure that is, what may follow, and how stable its instruments are.",

  load(ctx) {
    const choice = { region: ctx.region, strategy_id: state.strategy };
    return parts({ regime: ctx.get("/api/status/regime", choice), stability: ctx.get("/api/status/stability", choice) });
  },

  draw({ regime, stability }, ctx) {
    return h("div.grid", part(regime, (view) => regimeCards(view, ctx), ctx), part(stability, stabilityCards, ctx));
  },
};

/* ---------------------------------------------------------------- regime */

function regimeCards(view, ctx) {
  const why = (name) => view.unknown?.[name];
  const tools = [picker("region", ctx.region, ctx.options?.regions?.length ? ctx.options.regions : [ctx.region], (region) => ctx.go("regime_stab", { region }))];
  const now = card("Regime", { width: 4, note: standsAt(view), tools }, figures([
    { label: "Now", value: view.current_regime ? pill(view.current_regime) : DASH, why: why("current_regime") },
    { label: "Confidence", value: percent(view.confidence, 1), why: why("confidence") },
  ]));
  if (!view.history.length) return [now, card("Timeline", { width: 8 }, empty(noRegime(view)))];
  return [
    now,
    card("Probabilities", { width: 4 }, bars(Object.entries(view.probabilities).map(([label, value]) =>
      ({ label, value, colour: colourOf(label) })), { full: 1, show: (value) => percent(value, 1), label: "Probability of each regime", empty: "The model gave no probabilities." })),
    card("Change risk", { width: 4, note: "probability at the next step" }, bars(Object.entries(view.change_risk).map(([name, value]) =>
      ({ label: CHANGES[name] ?? name, value, why: "too few transitions were seen" })), { full: 1, show: (value) => percent(value, 1), label: "Risk of change", empty: "No change risk was recorded." })),
    timeline(view),
  ];
}

const noRegime = (view) => `No regime of ${view.region ?? "this region"} has been recorded up to this session. ` +
  "Run `prometheus day run` or a backtest with the regime engine on, or choose another region or day.";

/** Consecutive sessions of one regime, newest first. */
function spells(history) {
  const found = [];
  for (const { date, regime, confidence } of history) {
    const last = found.at(-1);
    if (last?.regime === regime) {
      last.since = date;
      last.sessions += 1;
      last.sum += confidence;
    } else found.push({ regime, since: date, until: date, sessions: 1, sum: confidence, next: found.at(-1)?.since });
  }
  return found.map((one) => ({ ...one, confidence: one.sum / one.sessions }));
}

function timeline(view) {
  const found = spells(view.history);
  const days = [...view.history].reverse();
  const shapes = found.map((one) => ({
    type: "rect", xref: "x", yref: "paper", x0: one.since, x1: one.next ?? one.until, y0: 0, y1: 1,
    fillcolor: colourOf(one.regime), opacity: 0.28, line: { width: 0 }, layer: "below",
  }));
  const trace = line("confidence", days.map((one) => one.date), days.map((one) => one.confidence),
    { text: days.map((one) => one.regime), hovertemplate: "%{text} %{y:.0%}<extra></extra>", line: { width: 1.8, color: colour("ink") } });
  const labels = [...new Set(found.map((one) => one.regime))];
  const count = (label) => found.filter((one) => one.regime === label).reduce((sum, one) => sum + one.sessions, 0);
  return card("Timeline", { note: `${days.length} sessions; the line is the confidence, the colour the regime` },
    swatches(labels.map((label) => ({ label, colour: colourOf(label), note: `${count(label)} sessions` }))),
    chart(`Regime of ${days.length} sessions, now ${view.current_regime}`, [trace],
      { size: "low", layout: { shapes, yaxis: { range: [0, 1.02], tickformat: ".0%" } } }),
    table([
      { name: "regime", title: "Regime", show: pill },
      { name: "since", title: "From" }, { name: "until", title: "To" },
      { name: "sessions", title: "Sessions", num: true },
      { name: "confidence", title: "Mean confidence", num: true, show: (value) => percent(value, 0) },
    ], found, { caption: "Spells, newest first" }));
}

/* ---------------------------------------------------------------- stability */

function stabilityCards(view) {
  const why = (name) => view.unknown?.[name];
  const index = card("Stability index", { width: 4, note: standsAt(view) },
    figures([{ label: "Index", value: number(view.current_index), why: why("current_index"), small: view.current_index === null ? undefined : "1 is calm, 0 is not" }]));
  if (!view.history.length) return [index, card("Course", { width: 8 }, empty("No stability has been recorded up to this session. Run a day or a backtest with the stability engine on."))];
  const drawn = Object.keys(PARTS).filter((name) => view.history.some((one) => one[name] !== null));
  return [
    index,
    card("Parts", { width: 4, note: "1 is calm" }, bars(Object.entries(PARTS).map(([name, label]) =>
      ({ label, value: view[`${name}_component`], why: why(`${name}_component`) })), { full: 1, label: "Parts of the stability index" })),
    card("Classes", { width: 4, note: "instruments" }, bars(classesOf(view.classes), { show: (value) => number(value, 0), label: "Instruments of each class", empty: "No class was recorded." })),
    course(view, drawn),
  ];
}

const classesOf = (classes) => [...new Set([...CLASSES, ...Object.keys(classes)])].filter((name) => classes[name])
  .map((name) => ({ label: name, value: classes[name], tone: toneOf(name) }));

function course(view, drawn) {
  const days = [...view.history].reverse();
  const x = days.map((one) => one.date);
  const traces = [line("index", x, days.map((one) => one.index), { line: { width: 2.2, color: colour("ink") } }),
    ...drawn.map((name) => line(PARTS[name].toLowerCase(), x, days.map((one) => one[name])))];
  const left = Object.keys(PARTS).filter((name) => !drawn.includes(name)).map((name) => PARTS[name].toLowerCase());
  return card("Course of the index", { note: `${days.length} sessions${left.length ? `; not measured: ${left.map(text).join(", ")}` : ""}` },
    chart(`Stability index of ${days.length} sessions`, traces, { layout: { yaxis: { range: [0, 1.02] } } }));
}
