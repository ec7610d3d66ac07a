/**
 * The panels of the desk, in the order of the side bar.
 *
 * A panel is `{id, title, about, group, key?, topics?, load(ctx), draw(data, ctx)}`: `load` reads the
 * interface and returns plain data, `draw` returns nodes; the frame calls both again when the desk's
 * choices change, when an event of `topics` arrives, and every ten seconds. What a panel remembers
 * between drawings it keeps in `ctx.local`.
 */

import antHill from "./ant_hill.js";
import assessmentUniverse from "./assessment_universe.js";
import backtests from "./backtests.js";
import dataHealth from "./data_health.js";
import embeddingSpace from "./embedding_space.js";
import execution from "./execution.js";
import fragility from "./fragility.js";
import geo from "./geo.js";
import jobs from "./jobs.js";
import kronosChat from "./kronos_chat.js";
import lineage from "./lineage.js";
import liveDesk from "./live_desk.js";
import liveSystem from "./live_system.js";
import metaExperiments from "./meta_experiments.js";
import overview from "./overview.js";
import portfolioRisk from "./portfolio_risk.js";
import regimeStab from "./regime_stab.js";
import terminal from "./terminal.js";

export const GROUPS = ["Watch", "Research", "Trade", "Operate"];

export const PANELS = [
  overview, liveSystem, regimeStab, fragility, geo,
  assessmentUniverse, backtests, metaExperiments, embeddingSpace, kronosChat,
  liveDesk, portfolioRisk, execution, lineage,
  jobs, antHill, dataHealth, terminal,
];

/** Which panels a workspace keeps in the side bar. */
export const WORKSPACES = {
  overview: ["overview", "regime_stab", "live_system"],
  trading: ["portfolio_risk", "execution", "lineage", "live_desk", "fragility", "terminal"],
  research: ["assessment_universe", "backtests", "meta_experiments", "embedding_space", "jobs", "ant_hill"],
  monitoring: ["live_system", "jobs", "data_health", "regime_stab", "portfolio_risk", "execution", "geo"],
  global: ["geo", "regime_stab", "fragility"],
};
