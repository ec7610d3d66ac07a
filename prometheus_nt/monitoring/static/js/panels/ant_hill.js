/** The pipeline as a map: what there is, what works now, and what happened, played again. Nothing here changes anything. */

import { colony, light } from "../colony.js";
import { h } from "../dom.js";
import { moment } from "../format.js";
import { picker } from "../marks.js";
import { part, parts } from "../parts.js";
import { card, empty, pill, table } from "../widgets.js";

const LIT_MS = 2_500;
const LONGEST_WAIT_MS = 2_000;
const SHORTEST_WAIT_MS = 60;
const MOST_TOLD = 300;
const SPEEDS = [1, 10, 100, 1000];

let map = null;     // the map on the page
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
    return h("div.grid", part(scenes, (found) => choiceOf(found.rows, ctx), ctx), part(scene, (view) => sceneCard(view, nameOf(view, scenes), ctx), ctx),
      trace && part(trace, replayCard, ctx), part(traces, (found) => tracesCard(found.rows, ctx), ctx));
  },
};

const choiceOf = (rows, ctx) => h("div.row", { style: { gridColumn: "1 / -1" }, role: "group", "aria-label": "Scenes" }, rows.map((one) =>
  h("button", { type: "button", title: one.description, "aria-pressed": String((ctx.item || "root") === one.view_id), on: { click: () => ctx.open(one.view_id) } }, one.display_name)));

const nameOf = (view, scenes) => scenes.data?.rows.find((one) => one.view_id === view.view_id)?.display_name ?? view.view_id;

function sceneCard(view, name, ctx) {
  const ids = Object.keys(view.nodes);
  if (!ids.length) return card(name, {}, empty(view.unknown?.nodes ?? "This scene has no content on this server."));
  const chosen = ctx.local.node;
  map = colony(view, (id) => { ctx.local.node = id; ctx.refresh(); });
  return card(name, { note: `${ids.length} nodes, ${view.connections.length} connections; choose one to see what it is connected with` },
    map, view.nodes[chosen] && about(chosen, view));
}

function about(id, view) {
  const { label, type } = view.nodes[id];
  const ends = (mine, other, word) => view.connections.filter((one) => one[mine] === id).map((one) => h("li", `${word} ${view.nodes[one[other]]?.label ?? one[other]}: ${one.data_type}${one.next_session ? ", for the next session" : ""}`));
  const found = [...ends("target", "source", "from"), ...ends("source", "target", "to")];
  return h("div", { role: "status" }, h("h2", label, h("span.muted", ` ${type}`)), found.length ? h("ul", found) : h("p.muted", "Connected with nothing."));
}

/* ---------------------------------------------------------------- what works now */

addEventListener("desk-event", ({ detail: { kind, row } }) => {
  if (kind !== "step" || !map?.isConnected || playing) return;
  const words = Object.values(row).filter((value) => typeof value === "string");
  const found = [...map.querySelectorAll("[data-node]")].map((node) => node.dataset.node).filter((id) => words.some((word) => word.toLowerCase() === id.toLowerCase()));
  if (!found.length) return;
  light(map, found);
  setTimeout(() => map && !playing && light(map, []), LIT_MS);
});

/* ---------------------------------------------------------------- what happened */

const tracesCard = (rows, ctx) => card("Traces", { note: "choose one to play it again" }, table([
  { name: "trace_id", title: "Trace", show: (id) => h("span.mono", id) }, { name: "as_of_date", title: "Session" }, { name: "strategy_id", title: "Strategy" }, { name: "market_id", title: "Market" }, { name: "mode", title: "Mode" }, { name: "phase", title: "Phase", show: pill },
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
