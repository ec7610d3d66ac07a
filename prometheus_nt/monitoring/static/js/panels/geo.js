/** Where in the world the book is, drawn from outlines that the server holds. */

import { h } from "../dom.js";
import { money, number, percent } from "../format.js";
import { bars, picker } from "../marks.js";
import { worldMap } from "../map.js";
import { part, parts } from "../parts.js";
import { card, empty, figures, pill, table } from "../widgets.js";

const UNKNOWN_COUNTRY = "No stored dataset names the country of an instrument, so nothing can be placed on the map. The outlines are shown without data.";
const RISK = { LOW: "good", MODERATE: "warn", HIGH: "bad" };
let outlines = null;

export default {
  id: "geo", title: "World", group: "Watch", topics: ["run"],
  about: "Exposure, stability and fragility by the country of the instruments.",

  async load(ctx) {
    const one = ctx.item && { one: ctx.get(`/api/geo/country/${encodeURIComponent(ctx.item)}`) };
    outlines ??= await readOutlines();
    return parts({ countries: ctx.get("/api/geo/countries").then(rowsOf), ...one });
  },

  draw({ countries, one }, ctx) {
    return h("div.grid", part(countries, (rows) => worldCards(rows, ctx), ctx), one && part(one, (view) => countryCard(view, ctx), ctx));
  },
};

const rowsOf = (answer) => ({ rows: Array.isArray(answer) ? answer : answer.rows ?? answer.countries ?? [], unknown: answer.unknown ?? {} });

async function readOutlines() {
  const answer = await fetch("/static/data/world.json");
  return answer.ok ? answer.json() : { arcs: [], countries: [], points: {}, transform: { scale: [1, 1], translate: [0, 0] } };
}

const measure = { exposure: (row) => row.exposure, positions: (row) => row.num_positions, instability: (row) => (row.stability_index === null ? null : 1 - row.stability_index) };

function worldCards({ rows, unknown }, ctx) {
  const found = rows.filter((row) => row.country_code);
  const why = Object.values(unknown)[0];
  const by = ctx.local.by ?? "exposure";
  const drawn = worldMap(outlines, new Map(found.map((row) => [row.country_code, { ...row, value: measure[by](row) }])), {
    selected: ctx.item, onPick: (code) => ctx.open(code === ctx.item ? "" : code),
    label: found.length ? `World map shaded by ${by}; the table beside it says the same` : "World map without data",
    describe: (row) => `${row.country_name}: exposure ${percent(row.exposure, 1)}, ${number(row.num_positions, 0)} positions`,
  });
  const shade = picker("shade by", by, Object.keys(measure), (name) => { ctx.local.by = name; ctx.refresh(); });
  return [
    card("Map", { width: 7, tools: found.length > 0 && [shade], note: note(found) }, drawn, !found.length && empty(why ? `${why}.` : UNKNOWN_COUNTRY)),
    card("Countries", { width: 5 }, countryTable(found, ctx)),
  ];
}

function note(found) {
  const absent = found.filter((row) => !outlines.points[row.country_code] && !outlines.countries.some((one) => one.code === row.country_code));
  return absent.length ? `not on the map: ${absent.map((row) => row.country_name ?? row.country_code).join(", ")}` : undefined;
}

const countryTable = (rows, ctx) => table([
  { name: "country_code", title: "Country", show: (code, row) => row.country_name ?? code },
  { name: "exposure", title: "Exposure", num: true, show: (value) => percent(value, 1) },
  { name: "num_positions", title: "Names", num: true },
  { name: "stability_index", title: "Stability", num: true, show: (value) => number(value) },
  { name: "fragility_risk", title: "Fragility", show: riskPill },
], rows, { caption: "Choose one for its detail", empty: "No country to list.", sort: ["exposure", -1], onRow: (row) => ctx.open(row.country_code), selected: (row) => row.country_code === ctx.item });

const riskPill = (word) => (RISK[word] ? h("span.pill", { class: RISK[word] }, word) : pill(word));

function countryCard(view, ctx) {
  const exposures = Object.entries(view.exposures ?? {});
  const why = (name) => view.unknown?.[name];
  return card(view.country_name ?? view.country_code, { tools: [h("button", { type: "button", on: { click: () => ctx.open("") } }, "Close")] },
    figures([
      { label: "Exposure", value: percent(view.exposure, 1), why: why("exposure") },
      { label: "Positions", value: number(view.num_positions, 0), why: why("num_positions") },
      { label: "Stability", value: number(view.stability_index), why: why("stability_index") },
      { label: "Fragility", value: riskPill(view.fragility_risk), why: why("fragility_risk") },
      { label: "Regime", value: pill(view.regime), why: why("regime") },
    ]),
    exposures.length > 0 && bars(exposures.map(([label, value]) => ({ label: label.replaceAll("_", " "), value })), { show: (value) => percent(value, 1), label: "Exposures" }),
    table([
      { name: "instrument_id", title: "Instrument" },
      { name: "weight", title: "Weight", num: true, show: (value) => percent(value) },
      { name: "market_value", title: "Value", num: true, show: (value) => money(value) },
    ], view.top_positions ?? [], { caption: "Largest positions", empty: "No position of this country." }));
}
