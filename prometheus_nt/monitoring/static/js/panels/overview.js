/** The day at a glance: money, exposure, regime, and what wants attention. */

import { h } from "../dom.js";
import { number, percent, signedPercent, tone } from "../format.js";
import { card, figures, pill, table } from "../widgets.js";

export default {
  id: "overview", title: "Overview", group: "Watch", key: "1", topics: ["run", "alert"],
  about: "Profit, exposure and regime of everything that is traded or was run last.",

  async load(ctx) {
    return ctx.get("/api/status/overview");
  },

  draw(view, ctx) {
    const why = (name) => view.unknown?.[name];
    const change = (label, name) => ({ label, value: signedPercent(view[name]), tone: tone(view[name]), why: why(name) });
    return h("div.grid",
      card("Profit and loss", { width: 6 }, figures([
        change("Today", "pnl_today"), change("Month", "pnl_mtd"), change("Year", "pnl_ytd"),
        { label: "Deepest drawdown", value: percent(view.max_drawdown), why: why("max_drawdown") },
      ])),
      card("Exposure", { width: 6 }, figures([
        { label: "Net", value: percent(view.net_exposure, 1), why: why("net_exposure") },
        { label: "Gross", value: percent(view.gross_exposure, 1), why: why("gross_exposure") },
        { label: "Leverage", value: number(view.leverage), why: why("leverage") },
        { label: "Stability index", value: number(view.global_stability_index), why: why("global_stability_index") },
      ])),
      card("Regime by region", { width: 6 }, table([
        { name: "region", title: "Region" },
        { name: "regime_label", title: "Regime", show: pill },
        { name: "confidence", title: "Confidence", num: true, show: (value) => percent(value, 0) },
      ], view.regimes ?? [], { empty: "No regime has been recorded up to this day.", onRow: (row) => ctx.go("regime_stab", { region: row.region }) })),
      card("Alerts", { width: 6 }, table([
        { name: "severity", title: "Severity", show: pill },
        { name: "message", title: "What" },
      ], view.alerts ?? [], { empty: "No open alert." })));
  },
};
