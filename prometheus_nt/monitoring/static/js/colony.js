/**
 * A scene as a picture with depth: nodes are tiles with a front and a side, further back is higher.
 *
 * 1. Project each position in the same way: right by x and half of z, up by y and half of z.
 * 2. Stretch until no two tiles overlap.
 * 3. Draw the connections, then the tiles from back to front.
 */

import { h, svg } from "./dom.js";

const HIGH = 48, DEEP = 9;
const GAP = 16;
const MOST_LETTERS = 18, A_LETTER = 7.3;
const FAR = 12;
const LEAST = 0.72; // of its own size; below, words cannot be read, so it scrolls

/** @param {{nodes: Object, connections: Array}} scene  @param {(id: string) => void} onNode */
export function colony(scene, onNode) {
  const wide = widest(scene.nodes);
  const places = placed(scene.nodes, wide);
  const ids = Object.keys(places);
  const xs = ids.map((id) => places[id].x), ys = ids.map((id) => places[id].y);
  const box = [Math.min(...xs) - wide / 2 - GAP, Math.min(...ys) - HIGH / 2 - GAP - DEEP];
  const size = [Math.max(...xs) - box[0] + wide / 2 + GAP + DEEP, Math.max(...ys) - box[1] + HIGH / 2 + GAP];
  const order = [...ids].sort((a, b) => places[b].back - places[a].back || places[a].y - places[b].y);
  return h("div.colony.scroll", { tabindex: 0, role: "region", "aria-label": "Map of the scene" },
    svg("svg", { viewBox: [...box, ...size].join(" "), style: `min-width:${Math.round(size[0] * LEAST)}px;max-height:760px`, role: "group", "aria-label": `${ids.length} nodes` },
      svg("defs", {}, svg("marker", { id: "tip", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto-start-reverse" }, svg("path", { d: "M0 0 8 4 0 8z", fill: "context-stroke" }))),
      scene.connections.map((one) => edge(one, places, wide)),
      order.map((id) => tile(id, scene.nodes[id], places[id], wide, onNode))));
}

/** How wide every tile is: as its longest label needs. */
const widest = (nodes) => 26 + A_LETTER * Math.max(...Object.values(nodes).map(({ label }) => Math.min(label.length, MOST_LETTERS)));

function placed(nodes, tile) {
  const flat = Object.entries(nodes).map(([id, { pos: [x, y, z] }]) => ({ id, x: x + z / 2, y: -(y + z / 2), back: z }));
  const [wide, high] = [stretch(flat, "x", tile + GAP), stretch(flat, "y", HIGH + GAP)];
  return Object.fromEntries(flat.map((one) => [one.id, { ...one, x: one.x * wide, y: one.y * high }]));
}

/** What makes neighbours along one way at least so far from each other; those in line need the other way. */
function stretch(flat, axis, least) {
  const values = [...new Set(flat.map((one) => Math.round(one[axis] * 1e6) / 1e6))].sort((a, b) => a - b);
  const steps = values.slice(1).map((value, i) => value - values[i]).filter((step) => step > 0);
  if (!steps.length) return 1;
  const smallest = Math.min(...steps);
  const span = values.at(-1) - values[0];
  return Math.min(least / smallest, Math.max(least / (span / steps.length), (least * FAR) / span));
}

function tile(id, node, { x, y }, wide, onNode) {
  const [left, top] = [x - wide / 2, y - HIGH / 2];
  const open = () => onNode(id);
  return svg("g", { class: "node", "data-node": id, tabindex: 0, role: "button", "aria-label": `${node.label}, ${node.type}`,
    on: { click: open, keydown: (e) => { if (e.key === "Enter" || e.key === " ") { e.preventDefault(); open(); } } } },
  svg("title", {}, `${node.label} (${node.type})`),
  svg("path", { class: "side-face", d: `M${left} ${top}l${DEEP} ${-DEEP}h${wide}v${HIGH}l${-DEEP} ${DEEP}v${-HIGH}z` }),
  svg("rect", { class: "tile", x: left, y: top, width: wide, height: HIGH, rx: 5 }),
  svg("rect", { x: left, y: top, width: 4, height: HIGH, fill: node.color ?? "currentColor" }),
  svg("text", { x: left + 12, y: top + 21 }, short(node.label)),
  svg("text", { class: "below", x: left + 12, y: top + 38 }, short(node.type)));
}

const short = (words) => (words.length > MOST_LETTERS ? `${words.slice(0, MOST_LETTERS - 1)}…` : words);

function edge(one, places, wide) {
  const [from, to] = [places[one.from], places[one.to]];
  if (!from || !to || from === to) return null;
  const ends = [rim(from, to, wide), rim(to, from, wide)];
  return svg("path", { class: "edge", "stroke-dasharray": one.next_session ? "5 4" : null, "marker-end": "url(#tip)", 
    d: `M${ends[0].join(" ")}L${ends[1].join(" ")}` }, svg("title", {}, `${one.from} to ${one.to}: ${one.data_type}${one.next_session ? ", for the next session" : ""}`));
}

/** Where the line between two tiles leaves the first. */
function rim(from, to, wide) {
  const [dx, dy] = [to.x - from.x, to.y - from.y];
  const share = Math.min((wide / 2 + 3) / Math.abs(dx || 1e-9), (HIGH / 2 + 3) / Math.abs(dy || 1e-9), 1);
  return [from.x + dx * share, from.y + dy * share];
}

/** Light the nodes that are named, and no other. */
export function light(host, ids, kind = "lit") {
  for (const node of host.querySelectorAll("[data-node]")) node.classList.toggle(kind, ids.includes(node.dataset.node));
}
