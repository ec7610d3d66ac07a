/**
 * The panels of the desk, in the order of the side bar.
 *
 * A panel is `{id, title, about, group, key?, topics?, load(ctx), draw(data, ctx)}`: `load` reads the
 * interface and returns plain data, `draw` returns nodes; the frame calls both again when the desk's
 * choices change, when an event of `topics` arrives, and every ten seconds. What a panel remembers
 * between drawings it keeps in `ctx.local`.
 */

import overview from "./overview.js";

export const GROUPS = ["Watch", "Research", "Trade", "Operate"];

export const PANELS = [overview];

/** Which panels a workspace keeps in the side bar. */
export const WORKSPACES = {
  overview: ["overview", "regime_stab", "live_system"],
  trading: ["portfolio_risk", "execution", "live_desk", "fragility", "terminal"],
  research: ["assessment_universe", "backtests", "meta_experiments", "ant_hill"],
  monitoring: ["live_system", "data_health", "regime_stab", "portfolio_risk", "execution", "geo"],
  global: ["geo", "regime_stab", "fragility"],
};
