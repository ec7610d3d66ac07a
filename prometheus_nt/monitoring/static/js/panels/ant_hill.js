/** The pipeline as a map: what there is, what works now, and what happened, played again. Nothing here changes anything. */

import { colony, light } from "../colony.js";
import { h } from "../dom.js";
import { moment } from "../format.js";
import { picker } from "../marks.js";
import { part, parts } from "../parts.js";
import { card, empty, pill, table } from "../widgets.js";

const LIT_MS = 2_500;
const STEP_MS = 450; // a day may pass several phases between two messages: each is seen
const LONGEST_WAIT_MS = 2_000;
const SHORTEST_WAIT_MS = 60;
const MOST_TOLD = 300;
const SPEEDS = [1, 10, 100, 1000];

let map = null;     // the map on the page
let view = null;    // the scene that it shows
let says = null;    // where it says what moved last
let playing = null; // the timer of the replay
let at = 0;         // its next event
let speed = 10;

export default {
  id: "ant_hill", title: "Ant hill", group: "Operate", topics: ["step"],
  about: "The system as a map. Stages light up while they work; a trace plays what happened again. It shows and never acts.",

  async load(ctx) {
    const view = ctx.item || "root";
    return parts({
      scenes: ctx.get("/api/scenes"), scene: ctx.get(`/api/scene/${encodeURIComponent(view)}`), traces: ctx.get("/api/traces", { limit: 100 }),
      ...(ctx.local.trace && { trace: ctx.get(`/api/traces/${encodeURIComponent(ctx.local.trace)}`) }),
    });
  },

  draw({ scenes, scene, traces, trace }, ctx) {
    stop();
    return h("div.grid", part(scenes, (found) => choiceOf(found.rows, ctx), ctx), part(scene, (found) => sceneCard(found, nameOf(found, scenes), ctx), ctx),
      trace && part(trace, replayCard, ctx), part(traces, (found) => tracesCard(found.rows, ctx), ctx));
  },
};

const choiceOf = (rows, ctx) => h("div.row", { style: { gridColumn: "1 / -1" }, role: "group", "aria-label": "Scenes" }, rows.map((one) =>
  h("button", { type: "button", title: one.description, "aria-pressed": String((ctx.item || "root") === one.view_id), on: { click: () => ctx.open(one.view_id) } }, one.display_name)));

const nameOf = (view, scenes) => scenes.data?.rows.find((one) => one.view_id === view.view_id)?.display_name ?? view.view_id;

function sceneCard(found, name, ctx) {
  const ids = Object.keys(found.nodes);
  if (!ids.length) return card(name, {}, empty(found.unknown?.nodes ?? "This scene has no content on this server."));
  const chosen = ctx.local.node;
  map = colony(found, (id) => { ctx.local.node = id; ctx.refresh(); });
  view = found;
  says = h("p.muted", { role: "status" }, last);
  relight();
  return card(name, { note: `${ids.length} nodes, ${found.connections.length} connections; choose one to see what it is connected with` },
    map, says, found.nodes[chosen] && about(chosen, found));
}

function about(id, view) {
  const { label, type } = view.nodes[id];
  const ends = (mine, other, word) => view.connections.filter((one) => one[mine] === id).map((one) => h("li", `${word} ${view.nodes[one[other]]?.label ?? one[other]}: ${one.data_type}${one.next_session ? ", for the next session" : ""}`));
  const found = [...ends("to", "from", "from"), ...ends("from", "to", "to")];
  return h("div", { role: "status" }, h("h2", label, h("span.muted", ` ${type}`)), found.length ? h("ul", found) : h("p.muted", "Connected with nothing."));
}

/* ---------------------------------------------------------------- what works now */

const waits = [];           // what moved and has not been shown yet
const working = new Map();  // an attempt that runs -> its nodes
let flash = { nodes: [], kind: "lit" };
let timer = null;
let last = "Nothing has moved since this page opened.";

addEventListener("desk-event", ({ detail: { kind, row } }) => {
  if (!["step", "fill"].includes(kind) || !map?.isConnected) return;
  waits.push({ kind, row });
  timer ??= setTimeout(nextStep, 0);
});

function nextStep() {
  const step = waits.shift();
  flash = step ? moved(step) : { nodes: [], kind: "lit" };
  relight();
  if (says) says.textContent = last;
  timer = step ? setTimeout(nextStep, waits.length ? STEP_MS : LIT_MS) : null;
}

/** The nodes that something is about; an attempt that runs keeps its own lit until it ends. */
function moved({ kind, row }) {
  const phased = row.phase && row.status;
  const nodes = phased ? view?.works_in[row.phase] ?? [] : kind === "fill" ? ["sleeve", "runtime_db"] : named(row);
  if (phased) {
    const key = `${row.run_id} ${row.phase} ${row.attempt}`;
    if (row.status === "RUNNING") working.set(key, row.phase);
    else working.delete(key);
  }
  if (nodes.length) last = `${new Date().toISOString().slice(11, 19)} ${kind} ${[row.phase ?? row.job_type, row.status, row.instrument_id, row.run_id].filter(Boolean).join(" · ")}`;
  return { nodes, kind: row.status === "FAILED" ? "failed-node" : "lit" };
}

/** Nodes that a row names in one of its words. */
const named = (row) => {
  const words = Object.values(row).filter((value) => typeof value === "string").map((word) => word.toLowerCase());
  return Object.keys(view?.nodes ?? {}).filter((id) => words.includes(id.toLowerCase()));
};

/** Light what works, on a map that may have been drawn anew; a replay has the map to itself. */
function relight() {
  if (!map || playing) return;
  const busy = [...working.values()].flatMap((phase) => view.works_in[phase] ?? []);
  light(map, flash.kind === "lit" ? [...busy, ...flash.nodes] : busy);
  light(map, flash.kind === "lit" ? [] : flash.nodes, "failed-node");
}

/* ---------------------------------------------------------------- what happened */

const tracesCard = (rows, ctx) => card("Traces", { note: "choose one to play it again" }, table([
  { name: "trace_id", title: "Trace", show: (id) => h("span.mono", id) }, { name: "as_of_date", title: "Session" }, { name: "market_id", title: "Market" }, { name: "mode", title: "Mode" }, { name: "phase", title: "Phase", show: pill },
  { name: "start_time", title: "From (UTC)", show: moment }, { name: "end_time", title: "To (UTC)", show: moment },
], rows, { caption: "What was recorded", onRow: (row) => { ctx.local.trace = row.trace_id; at = 0; ctx.refresh(); }, selected: (row) => row.trace_id === ctx.local.trace,
  empty: "No trace is recorded. `prometheus day run` records one." }));

function replayCard(trace) {
  const { events } = trace; // in the order of time; decisions have none and follow
  if (!events.length) return card("Replay", {}, empty(trace.unknown?.events ?? "Nothing of this trace was recorded."));
  at = Math.min(at, events.length - 1);
  const slider = h("input", { type: "range", min: 0, max: events.length - 1, value: at, "aria-label": "Event of the trace", style: { flex: "1" } });
  const says = h("p.said", { role: "status" });
  const go = h("button.first", { type: "button" }, "Play");
  const show = () => {
    slider.value = at;
    says.textContent = told(events[at], at, events.length);
    if (map?.isConnected) light(map, [events[at].node]);
  };
  const next = () => {
    show();
    if (at >= events.length - 1) return halt();
    playing = setTimeout(() => { at += 1; next(); }, pause(events[at], events[at + 1]));
  };
  const halt = () => { stop(); go.textContent = "Play"; };
  go.addEventListener("click", () => {
    if (playing) return halt();
    if (at >= events.length - 1) at = 0;
    go.textContent = "Pause";
    next();
  });
  slider.addEventListener("input", () => { halt(); at = Number(slider.value); show(); });
  requestAnimationFrame(show);
  return card("Replay", { note: trace.trace_id }, h("div.row", go, picker("speed", String(speed), SPEEDS.map(String), (value) => { speed = Number(value); }), slider), says);
}

function stop() {
  clearTimeout(playing);
  playing = null;
}

/** Milliseconds until the next event, at the chosen speed. */
function pause(event, next) {
  const apart = event.timestamp && next.timestamp ? Date.parse(next.timestamp) - Date.parse(event.timestamp) : LONGEST_WAIT_MS;
  return Math.min(Math.max(apart / speed, SHORTEST_WAIT_MS), LONGEST_WAIT_MS);
}

function told(event, index, count) {
  const there = map?.querySelector(`[data-node="${CSS.escape(event.node)}"]`);
  const facts = Object.entries(event.data).filter(([, value]) => value !== null).map(([name, value]) => `${name} ${typeof value === "object" ? JSON.stringify(value) : value}`).join(", ");
  return [`${index + 1} of ${count}`, event.timestamp ? `${event.timestamp.replace("T", " ").slice(0, 23)} UTC` : "no time of its own", event.event_type.replaceAll("_", " "),
    event.node, event.sleeve, !there && "not on this map", facts.slice(0, MOST_TOLD)].filter(Boolean).join(" · ");
}
