/** The world as SVG, in the Equal Earth projection, from outlines that share their borders. */

import { h, svg } from "./dom.js";

const [A1, A2, A3, A4] = [1.340264, -0.081106, 0.000893, 0.003796];
const ROOT = Math.sqrt(3) / 2;
const [WIDTH, HEIGHT] = [960, 430];
const SCALE = WIDTH / 5.5;
const LIGHTEST = 0.35;

/** Equal Earth: areas keep their sizes, so that shading does not flatter the north. */
function project(longitude, latitude) {
  const [x, y] = [(longitude * Math.PI) / 180, (latitude * Math.PI) / 180];
  const t = Math.asin(ROOT * Math.sin(y));
  const [t2, t6] = [t * t, t ** 6];
  const east = (x * Math.cos(t)) / (ROOT * (A1 + 3 * A2 * t2 + t6 * (7 * A3 + 9 * A4 * t2)));
  const north = t * (A1 + A2 * t2 + t6 * (A3 + A4 * t2));
  return [WIDTH / 2 + SCALE * east, HEIGHT * 0.56 - SCALE * north].map((value) => Math.round(value * 10) / 10);
}

/** Borders as longitudes and latitudes; the file holds them as whole steps from point to point. */
function borders({ arcs, transform: { scale, translate } }) {
  return arcs.map((arc) => {
    let [x, y] = [0, 0];
    return arc.map(([dx, dy]) => [(x += dx) * scale[0] + translate[0], (y += dy) * scale[1] + translate[1]]);
  });
}

const ring = (lines, arcs) => arcs.flatMap((index) => (index < 0 ? [...lines[~index]].reverse() : lines[index]));
const pathOf = (lines, shapes) => shapes.flat().map((arcs) =>
  `M${unwrapped(ring(lines, arcs)).map(([x, y]) => project(x, y)).join("L")}Z`).join("");

/** What crosses the date line goes on beyond it, in place of a jump across the page. */
function unwrapped(points) {
  let [turn, before] = [0, points[0][0]];
  return points.map(([x, y]) => {
    if (Math.abs(x - before) > 180) turn += x < before ? 360 : -360;
    before = x;
    return [x + turn, y];
  });
}

let kept = null;
function shapesOf(world) {
  if (kept?.world !== world) {
    const lines = borders(world);
    kept = { world, shapes: world.countries.map(({ code, name, shapes }) => ({ code, name, path: pathOf(lines, shapes) })) };
  }
  return kept.shapes;
}

/**
 * The map.
 * @param {object} world  outlines
 * @param {Map<string, object>} rows  country code -> a row with `value`, which shades it; null is hatched
 * @param {{label: string, describe: Function, onPick: Function, selected?: string}} options
 */
export function worldMap(world, rows, { label, describe, onPick, selected }) {
  const largest = Math.max(0, ...[...rows.values()].map((row) => Math.abs(row.value ?? 0)));
  const mark = (code, name, tag, shape) => {
    const row = rows.get(code);
    if (!row) return svg(tag, { ...shape, class: "land" }, svg("title", {}, name));
    const pick = () => onPick(code);
    const shade = row.value === null || row.value === undefined ? "fill: url(#hatch)"
      : `fill-opacity: ${LIGHTEST + (1 - LIGHTEST) * (largest ? Math.abs(row.value) / largest : 0)}`;
    return svg(tag, { ...shape, class: `land known${selected === code ? " chosen" : ""}`, style: shade, tabindex: 0, role: "button", "aria-label": describe(row),
      on: { click: pick, keydown: (event) => (event.key === "Enter" || event.key === " ") && (event.preventDefault(), pick()) } }, svg("title", {}, describe(row)));
  };
  const lands = shapesOf(world).map(({ code, name, path }) => mark(code, name, "path", { d: path }));
  const small = Object.entries(world.points).filter(([code]) => rows.has(code)).map(([code, [name, x, y]]) => {
    const [cx, cy] = project(x, y);
    return mark(code, name, "circle", { cx, cy, r: 5 });
  });
  const hatch = svg("pattern", { id: "hatch", width: 6, height: 6, patternUnits: "userSpaceOnUse" }, svg("path", { d: "M0 6L6 0", class: "hatch" }));
  return h("div.map", svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "group", "aria-label": label }, svg("defs", {}, hatch), lands, small));
}
