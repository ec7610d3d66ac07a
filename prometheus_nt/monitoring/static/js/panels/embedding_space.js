/** The instruments of a session in the space of their stored vectors, along the axes of largest variance. */

import { chart } from "../chart.js";
import { h } from "../dom.js";
import { number, percent } from "../format.js";
import { picker, standsAt } from "../marks.js";
import { card, empty, table } from "../widgets.js";

const SPACES = ["profiles", "stability", "fragility"];

export default {
  id: "embedding_space", title: "Embedding space", group: "Research", topics: ["run"],
  about: "Instruments near each other have vectors that are alike. The axes are those along which they differ most.",

  load(ctx) {
    return ctx.get(`/api/embedding_space/${encodeURIComponent(ctx.item || SPACES[0])}`, { strategy_id: ctx.strategy, limit: 1_000 });
  },

  draw(view, ctx) {
    return h("div.stack", h("div.row", picker("space", view.space_id, SPACES, (space) => ctx.open(space))),
      h("div.grid", view.vectors.length ? [spaceCard(view), axesCard(view)]
        : card(view.space_id, {}, empty(view.unknown?.explained ?? view.unknown?.as_of_date ?? "No vector stands at this session."))));
  },
};

function spaceCard(view) {
  const [across, up] = view.axes;
  const clusters = [...new Set(view.vectors.map((point) => point.cluster))];
  const traces = clusters.map((cluster) => {
    const points = view.vectors.filter((point) => point.cluster === cluster);
    return { type: "scatter", mode: "markers", name: cluster ?? "no class", text: points.map((point) => `${point.id}, ${percent(point.known, 0)} known`), hovertemplate: "%{text}<extra></extra>",
      x: points.map((point) => point.vector[0]), y: points.map((point) => point.vector[1] ?? 0), marker: { size: 9, color: points[0].color } };
  });
  return card(view.space_id, { note: `${view.vectors.length} instruments ${standsAt(view)}` },
    chart(`${view.vectors.length} instruments along two axes`, traces, { size: "high", layout: { hovermode: "closest", xaxis: { title: { text: across.label } }, yaxis: { title: { text: up?.label ?? "" } } } }));
}

const axesCard = (view) => card("Axes", { note: `together ${percent(view.explained, 0)} of how instruments differ` }, table([
  { name: "label", title: "Axis" }, { name: "explained", title: "Explains", num: true, show: (share) => percent(share, 1) },
  { name: "loadings", title: "Made of", tone: () => "long", show: (loadings) => Object.entries(loadings).map(([name, weight]) => `${name} ${number(weight)}`).join(", ") },
], view.axes, { caption: "The first two are drawn" }));
