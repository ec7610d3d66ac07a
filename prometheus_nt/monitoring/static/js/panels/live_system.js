/** The machinery: the market now, the jobs of its day against what they may take, and who listens. */

import { h } from "../dom.js";
import { ago, DASH, moment, number, whole } from "../format.js";
import { picker } from "../marks.js";
import { part, parts } from "../parts.js";
import { card, empty, figures, pill, table } from "../widgets.js";

export default {
  id: "live_system", title: "Live system", group: "Watch", topics: ["job", "run", "step"],
  about: "What the market does now, how far its day has come, how long that took, and whether work is heard.",

  load(ctx) {
    const market = marketOf(ctx);
    return parts({
      pipeline: ctx.get("/api/status/pipeline", { market_id: market }),
      running: ctx.get("/api/jobs", { status: "RUNNING", limit: 20 }),
      waiting: ctx.get("/api/jobs", { status: "PENDING", limit: 20 }),
      steps: ctx.get("/api/db/runtime/engine_runs", { limit: 100 }),
      health: ctx.get("/api/intelligence/health"),
    });
  },

  draw(data, ctx) {
    const markets = ctx.options?.markets ?? [];
    return h("div.stack",
      h("div.row", picker("market", marketOf(ctx), markets.length ? markets : [marketOf(ctx)], (market) => { ctx.local.market = market; ctx.refresh(); })),
      h("div.grid", part(data.pipeline, pipelineCards, ctx),
        part(data.running, (running) => workCard(running, data.waiting.data, data.health.data, ctx), ctx),
        part(data.steps, enginesCard, ctx)));
  },
};

const marketOf = (ctx) => ctx.local.market ?? ctx.options?.markets?.[0] ?? "US_EQ";
const seconds = (ms) => (ms === null ? DASH : ms < 10_000 ? `${number(ms / 1e3, 1)} s` : ms < 600_000 ? `${whole(ms / 1e3)} s` : `${number(ms / 60_000, 1)} min`);
const late = (row) => row.latency_ms !== null && row.slo_ms !== null && row.latency_ms > row.slo_ms;

function pipelineCards(view) {
  const slow = view.jobs.filter(late).length;
  return [
    card(view.market_id, {}, figures([
      { label: "Market", value: view.market_state.replaceAll("_", " ") },
      { label: "Next", value: view.next_state.replaceAll("_", " "), small: `${moment(view.next_state_at)} UTC` },
      { label: "Newest day", value: view.as_of_date ?? DASH, why: view.unknown?.as_of_date },
      { label: "Later than allowed", value: view.jobs.length ? whole(slow) : DASH, tone: slow ? "bad" : "", why: "no job of a day is recorded" },
    ])),
    card("The day's jobs", { note: "the newest day of this market" }, table([
      { name: "job_name", title: "Job", show: (name) => h("span.mono", name) }, { name: "as_of_date", title: "Day" },
      { name: "last_run_status", title: "Status", show: pill }, { name: "last_run_time", title: "Begun (UTC)", show: moment },
      { name: "latency_ms", title: "Took", num: true, tone: (_, row) => (late(row) ? "bad" : ""), show: (ms, row) => `${seconds(ms)}${late(row) ? " late" : ""}` },
      { name: "slo_ms", title: "May take", num: true, show: (ms) => (ms === null ? "no limit" : seconds(ms)) },
      { name: "next_run", title: "Next (UTC)", show: moment },
    ], view.jobs, { caption: "Jobs of the day, and the phases of its runs", empty: "No day of this market was run. `prometheus day run` runs one; `prometheus daemon` every one." })),
  ];
}

function workCard(running, waiting, health, ctx) {
  const rows = [...running.rows, ...(waiting?.rows ?? [])];
  const unheard = health?.status === "NO_WORKER";
  return card("Work", { width: 6, note: `${running.rows.length} at work, ${waiting?.rows.length ?? "?"} waiting` },
    unheard && h("div.failed", { role: "alert" }, "Jobs wait and no worker hears them. Start one by ", h("code", "prometheus worker"), "."),
    table([
      { name: "job_id", title: "Job", show: (id) => h("span.mono", id) }, { name: "status", title: "Status", show: pill },
      { name: "message", title: "Says", show: (words) => words ?? DASH }, { name: "heartbeat_at", title: "Sign of life", show: (at) => (at ? ago(at) : DASH) },
    ], rows, { caption: "Jobs at work and waiting", empty: "Nothing is at work and nothing waits.", onRow: (row) => ctx.go("jobs", { item: row.job_id }) }));
}

/** A page of a table as records. */
const records = (page) => page.rows.map((row) => Object.fromEntries(page.columns.map((column, i) => [column.name, row[i]])));

function enginesCard(page) {
  const rows = records(page).sort((a, b) => String(b.updated_at ?? "").localeCompare(String(a.updated_at ?? "")));
  if (!rows.length) return card("Engine runs", { width: 6 }, empty("No run of the engines is recorded. `prometheus day run` writes them."));
  return card("Engine runs", { width: 6, note: page.next_after ? "some of them; Data has all" : "" }, table([
    { name: "run_id", title: "Run", show: (id) => h("span.mono", id) }, { name: "as_of_date", title: "Day" }, { name: "phase", title: "Phase", show: pill },
    { name: "updated_at", title: "Moved (UTC)", show: moment },
  ], rows, { caption: "Runs of the engines" }));
}
