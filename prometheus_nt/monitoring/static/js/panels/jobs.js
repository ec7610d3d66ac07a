/** Jobs: what was asked for, how far it is, what it says, and what became of it. */

import { h } from "../dom.js";
import { attempt, form, guarded, pager, parsed } from "../forms.js";
import { ago, DASH, moment } from "../format.js";
import { picker } from "../marks.js";
import { part, parts } from "../parts.js";
import { button, card, empty, pill, progress, table } from "../widgets.js";

const A_PAGE = 100;
const MOST_LINES = 2_000;
const ENDED = ["COMPLETED", "FAILED", "CANCELLED"];
const AGAIN = ["FAILED", "CANCELLED"];
const STATES = ["PENDING", "RUNNING", "COMPLETED", "FAILED", "CANCELLED"];
const logs = new Map(); // job -> {after, lines}: only what is new is read

export default {
  id: "jobs", title: "Jobs", group: "Operate", topics: ["job"],
  about: "Work that was asked for: how far it is, what it says while it runs, and what became of it.",

  load(ctx) {
    const wanted = (ctx.local.wanted ??= {});
    return parts({
      jobs: ctx.get("/api/jobs", { ...wanted, limit: A_PAGE, offset: ctx.local.offset ?? 0 }),
      kinds: ctx.get("/api/jobs/kinds"),
      ...(ctx.item && { chosen: ctx.get(`/api/jobs/${encodeURIComponent(ctx.item)}`), lines: following(ctx) }),
    });
  },

  draw({ jobs, kinds, chosen, lines }, ctx) {
    return h("div.grid",
      chosen && part(chosen, (job) => jobCard(job, ctx), ctx), lines && part(lines, (found) => logCard(found), ctx),
      part(jobs, (page) => listCard(page, kinds.data?.kinds ?? [], ctx), ctx), part(kinds, (view) => askCard(view.kinds, ctx), ctx));
  },
};

/** Read what a job has said since it was last asked. */
async function following(ctx) {
  const held = logs.get(ctx.item) ?? { after: 0, lines: [] };
  const found = await ctx.get(`/api/jobs/${encodeURIComponent(ctx.item)}/logs`, { after: held.after });
  const next = { after: found.after, lines: [...held.lines, ...found.lines].slice(-MOST_LINES) };
  logs.set(ctx.item, next);
  return next;
}

function listCard(page, kinds, ctx) {
  const { local } = ctx;
  const want = (name) => (value) => { local.wanted[name] = value; local.offset = 0; ctx.refresh(); };
  const filtered = Object.values(local.wanted).some(Boolean);
  return card("Jobs", { note: "newest first; choose one to follow it", tools: [
    picker("kind", local.wanted.kind ?? "", kinds.map((one) => one.kind), want("kind"), "any"),
    picker("status", local.wanted.status ?? "", STATES, want("status"), "any")] },
  table([
    { name: "job_id", title: "Job", show: (id) => h("span.mono", id) },
    { name: "kind", title: "Kind" },
    { name: "status", title: "Status", show: pill },
    { name: "progress", title: "Progress", show: (value, row) => (row.status === "RUNNING" ? progress(value) : value === null ? DASH : `${Math.round(value * 100)} %`) },
    { name: "message", title: "Says", show: (value) => value ?? DASH },
    { name: "attempt", title: "Attempt", num: true, show: (value, row) => `${value} of ${row.max_attempts}` },
    { name: "submitted_by", title: "For" },
    { name: "created_at", title: "Asked (UTC)", show: moment },
  ], page.rows, { caption: "Jobs", onRow: (row) => ctx.open(row.job_id), selected: (row) => row.job_id === ctx.item,
    empty: filtered ? "No job is like this. Loosen the filters." : "Nothing has been asked for yet. Ask for work below, in the terminal, or by `prometheus jobs submit`." }),
  pager(page, A_PAGE, (offset) => { local.offset = offset; ctx.refresh(); }));
}

function jobCard(job, ctx) {
  const path = `/api/jobs/${encodeURIComponent(job.job_id)}`;
  const act = (what) => async () => { await attempt(() => ctx.post(`${path}/${what}`)); ctx.refresh(); };
  const stop = async () => {
    const sure = await ctx.confirm({ title: `Cancel ${job.kind}?`, body: "What it has done stays recorded; a job that runs is stopped within seconds.", act: "Cancel the job", danger: true });
    if (sure) await act("cancel")();
  };
  const fact = (label, value) => h("div", h("dt", label), h("dd", value));
  return card(`${job.kind} ${job.job_id}`, { width: 6, tools: [pill(job.status),
    !ENDED.includes(job.status) && guarded(ctx, "OPERATE", button(job.cancel_requested ? "Being cancelled" : "Cancel", stop, "danger")),
    AGAIN.includes(job.status) && guarded(ctx, "OPERATE", button("Try again", act("retry"))),
    h("button.quiet", { type: "button", on: { click: () => ctx.open("") } }, "Close")] },
  h("dl.facts",
    fact("Progress", job.status === "RUNNING" ? progress(job.progress) : job.progress === null ? job.unknown?.progress ?? DASH : `${Math.round(job.progress * 100)} %`),
    fact("Says", job.message ?? DASH), fact("Attempt", `${job.attempt} of ${job.max_attempts}`), fact("Asked for by", job.submitted_by),
    fact("Begun", job.started_at ? moment(job.started_at) : job.unknown?.started_at ?? DASH), fact("Ended", job.completed_at ? moment(job.completed_at) : job.unknown?.completed_at ?? DASH),
    fact("Last sign of life", job.heartbeat_at ? ago(job.heartbeat_at) : job.unknown?.heartbeat_at ?? DASH)),
  runsOf(job, ctx), job.error && h("div.failed", { role: "alert" }, told(job.error)),
  h("details", h("summary", "What was asked for"), h("pre.lines", { tabindex: 0 }, JSON.stringify(job.spec, null, 2))),
  job.result && h("details", h("summary", "What came of it"), h("pre.lines", { tabindex: 0 }, JSON.stringify(job.result, null, 2))));
}

const told = (error) => (error.message ? [h("b", error.type ?? "Error"), ` ${error.message}`] : JSON.stringify(error));

function runsOf(job, ctx) {
  const runs = Array.isArray(job.result?.runs) ? job.result.runs.map((run) => run.run_id).filter(Boolean) : [];
  return runs.length ? h("p", "Runs: ", runs.map((id) => [h("a", { href: `#/backtests?item=${encodeURIComponent(id)}`,
    on: { click: (e) => { e.preventDefault(); ctx.go("backtests", { item: id }); } } }, id), " "])) : null;
}

function logCard({ lines }) {
  const host = h("div.lines", { role: "log", tabindex: 0, "aria-label": "Log of the job" }, lines.map((one) =>
    h("p", { class: { ERROR: "bad", CRITICAL: "bad", WARNING: "warn" }[one.level] }, h("time", `${one.at.slice(11, 19)} `), one.message)));
  requestAnimationFrame(() => { host.scrollTop = host.scrollHeight; });
  return card("Log", { width: 6, note: "follows the job; times in UTC" }, lines.length ? host : empty("It has said nothing yet."));
}

function askCard(kinds, ctx) {
  const chosen = ctx.local.forms?.job?.kind;
  const about = kinds.find((one) => one.kind === chosen);
  return card("Ask for work", { note: about?.does ?? "a worker does it" }, form(ctx, "job", [
    { name: "kind", label: "Kind", required: true, choices: kinds.map((one) => one.kind), any: "choose" },
    { name: "priority", label: "Priority", choices: ["CRITICAL", "OPTIONAL"], any: "STANDARD" },
    { name: "spec", label: "What it needs to know, as JSON", type: "textarea", wide: true, placeholder: '{"config": ["us_core_long_eq"]}',
      hint: about ? `takes: ${Object.keys(about.spec.properties ?? {}).join(", ")}` : "choose a kind, then read it again (r) to see what it takes",
      mistakes: [...new Set(kinds.flatMap((one) => Object.keys(one.spec.properties ?? {})))] },
  ], { act: "Ask for it", submit: async (values) => {
    const made = await ctx.post("/api/jobs", { kind: values.kind, spec: parsed(values.spec, "spec"), ...(values.priority && { priority: values.priority }) });
    ctx.toast(made.message);
    ctx.open(made.job_id);
  } }));
}
