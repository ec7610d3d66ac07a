/**
 * What the terminal understands. A verb is `{words, takes, does, run(arguments, shell)}`; the longest words that
 * begin a line are its verb. Every verb asks the interface and says what it answered.
 */

import { get, post } from "./api.js";
import { DASH, moment } from "./format.js";

const FOLLOW_MS = 1_000;
const ENDED = ["COMPLETED", "FAILED", "CANCELLED"];
const DATE = /^\d{4}-\d\d-\d\d$/;
const id = encodeURIComponent;

/** What `show` can read: its path, and the columns of its rows. */
const LISTINGS = {
  overview: ["/api/status/overview"], options: ["/api/options"], pipeline: ["/api/status/pipeline", { market_id: "market" }],
  regime: ["/api/status/regime", { region: "region" }], stability: ["/api/status/stability", { region: "region" }],
  portfolio: ["/api/status/portfolio", { portfolio_id: "portfolio" }], execution: ["/api/status/execution", { portfolio_id: "portfolio" }],
  runs: ["/api/runs"], jobs: ["/api/jobs"], campaigns: ["/api/campaigns"], proposals: ["/api/intelligence/proposals"],
  changes: ["/api/intelligence/changes"], ranking: ["/api/meta/ranking"], ledger: ["/api/meta/ledger"], configs: ["/api/meta/configs"],
  alerts: ["/api/alerts"], desk: ["/api/desk"], datasets: ["/api/data/datasets"], kinds: ["/api/jobs/kinds"], health: ["/api/intelligence/health"],
};
const COLUMNS = {
  runs: ["run_id", "mode", "status", "start_date", "end_date"], jobs: ["job_id", "kind", "status", "progress", "message"],
  campaigns: ["campaign_id", "name", "status", "done", "trials", "failed"], proposals: ["proposal_id", "status", "target_component", "current_value", "proposed_value"],
  changes: ["change_id", "proposal_id", "target_component", "is_reverted", "applied_at"], alerts: ["alert_id", "severity", "subject", "message"],
};

export const VERBS = [
  { words: "help", takes: "", does: "what can be asked", run: (_, shell) => shell.rows(VERBS.map(({ words, takes, does }) => [`${words} ${takes}`.trim(), does])) },
  { words: "backtest run", takes: "[STRATEGY] [START] [END] [MARKETS,]", does: "run a strategy over recorded history", run: backtest },
  { words: "synthetic create", takes: "NAME [TYPE] [PATHS] [DATASET]", does: "make a set of joint futures", run: synthetic },
  { words: "dag run", takes: "MARKET STRATEGY [AS_OF] [--force]", does: "take a session of a strategy through all its phases", run: dag },
  { words: "config apply", takes: "STRATEGY ENGINE KEY VALUE WHY...", does: "try a setting and propose it", run: configApply },
  { words: "jobs list", takes: "[STATUS]", does: "jobs, the newest first", run: ([status], shell) => listing("jobs", { status: status?.toUpperCase() }, shell) },
  { words: "jobs watch", takes: "JOB", does: "follow a job until it ends; Ctrl-C leaves it", run: watch },
  { words: "jobs cancel", takes: "JOB", does: "cancel a job", run: ([job], shell) => send(`/api/jobs/${id(needed(job, "JOB"))}/cancel`, {}, shell) },
  { words: "jobs retry", takes: "JOB", does: "let a job wait for a worker again", run: ([job], shell) => send(`/api/jobs/${id(needed(job, "JOB"))}/retry`, {}, shell) },
  { words: "propose", takes: "STRATEGY [KEY VALUE WHY...]", does: "try a change and propose it; the diagnosis chooses where no key is given", run: propose },
  { words: "approve", takes: "PROPOSAL", does: "approve a proposal; nothing changes yet", run: ([one], shell) => decide(one, "approve", {}, shell) },
  { words: "reject", takes: "PROPOSAL WHY...", does: "reject a proposal", run: ([one, ...why], shell) => decide(one, "reject", { reason: needed(why.join(" "), "WHY") }, shell) },
  { words: "apply", takes: "PROPOSAL", does: "apply an approved proposal", run: apply },
  { words: "revert", takes: "PROPOSAL_OR_CHANGE WHY...", does: "put back what a change replaced", run: revert },
  { words: "show", takes: Object.keys(LISTINGS).join("|"), does: "what the server answers", run: ([what], shell) => listing(needed(what, "what"), {}, shell) },
  { words: "clear", takes: "", does: "empty the screen", run: (_, shell) => shell.clear() },
];

/** Run a line. */
export async function run(text, shell) {
  const words = split(text);
  const verb = verbOf(words);
  if (!verb) throw new Error(`${words[0]}: not understood; \`help\` lists what is`);
  await verb.run(words.slice(verb.words.split(" ").length), shell);
}

/** What a line may go on as: whole lines, in order. */
export async function completions(text) {
  const words = split(text);
  const last = text.endsWith(" ") || !words.length ? "" : words.at(-1);
  const before = last ? words.slice(0, -1) : words;
  const head = before.length ? `${before.join(" ")} ` : "";
  const next = nextWords(before);
  const known = next.length ? next : await namesFor(before);
  return known.filter((one) => one.startsWith(last)).map((one) => `${head}${one} `);
}

function nextWords(before) {
  if (before.length === 1 && before[0] === "show") return Object.keys(LISTINGS);
  const found = VERBS.map(({ words }) => words.split(" ")).filter((words) => words.length > before.length && before.every((one, i) => one === words[i]));
  return [...new Set(found.map((words) => words[before.length]))];
}

async function namesFor(before) {
  const verb = verbOf(before);
  if (!verb || before.length !== verb.words.split(" ").length) return [];
  const wants = verb.takes.split(" ")[0].replace(/[[\]]/g, "");
  if (wants === "JOB") return (await get("/api/jobs", { limit: 50 })).rows.map((row) => row.job_id);
  if (wants.startsWith("PROPOSAL")) return (await get("/api/intelligence/proposals", { limit: 50 })).rows.map((row) => row.proposal_id);
  if (wants === "STRATEGY") return (await get("/api/options")).strategies.map((one) => one.strategy_id);
  return wants === "MARKET" ? (await get("/api/options")).markets : [];
}

function verbOf(words) {
  return VERBS.filter((verb) => verb.words.split(" ").every((word, i) => words[i] === word))
    .sort((a, b) => b.words.length - a.words.length)[0];
}

/** Words of a line; quotes hold words together. */
const split = (text) => [...text.matchAll(/"([^"]*)"|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain);

function needed(value, name) {
  if (value === undefined || value === "") throw new Error(`${name}: this is needed; \`help\` says how`);
  return value;
}

function dated(value, name) {
  if (value !== undefined && !DATE.test(value)) throw new Error(`${name}: ${value}: expected YYYY-MM-DD`);
  return value;
}

/* ---------------------------------------------------------------- verbs */

async function send(path, body, shell) {
  const answer = await post(path, body);
  shell.say(answer.message ?? JSON.stringify(answer), "good");
  if (answer.job_id) shell.say(`job ${answer.job_id} ${answer.status}`);
  return answer;
}

function backtest([strategy, start, end, markets], shell) {
  return send("/api/control/run_backtest", {
    strategy_id: needed(strategy ?? shell.strategy, "STRATEGY"), ...(dated(start, "START") && { start_date: start }),
    ...(dated(end, "END") && { end_date: end }), ...(markets && { market_ids: markets.split(",") }),
  }, shell);
}

function synthetic([name, type = "BOOTSTRAP", paths = "1000", dataset], shell) {
  const samples = Number(paths);
  if (!Number.isInteger(samples)) throw new Error(`PATHS: ${paths}: expected a whole number`);
  return send("/api/control/create_synthetic_dataset", { dataset_name: needed(name, "NAME"), scenario_type: type, num_samples: samples, parameters: dataset ? { dataset } : {} }, shell);
}

function dag(words, shell) {
  const [market, name, asOf] = words.filter((word) => word !== "--force");
  return send("/api/control/schedule_dag", { market_id: needed(market, "MARKET"), dag_name: needed(name, "STRATEGY"), force: words.includes("--force"), parameters: dated(asOf, "AS_OF") ? { as_of: asOf } : {} }, shell);
}

function configApply([strategy, engine, key, value, ...why], shell) {
  return send("/api/control/apply_config_change", { strategy_id: needed(strategy, "STRATEGY"), engine_name: needed(engine, "ENGINE"), config_key: needed(key, "KEY"), config_value: valueOf(needed(value, "VALUE")), reason: needed(why.join(" "), "WHY") }, shell);
}

function propose([strategy, key, value, ...why], shell) {
  const change = key ? { key, value: valueOf(needed(value, "VALUE")), why: needed(why.join(" "), "WHY") } : {};
  return send(`/api/intelligence/proposals/generate/${id(needed(strategy, "STRATEGY"))}`, change, shell);
}

/** A number, a truth value or null where it reads as one. */
function valueOf(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

const decide = (one, what, body, shell) => send(`/api/intelligence/proposals/${id(needed(one, "PROPOSAL"))}/${what}`, body, shell);

async function apply([one], shell) {
  const answer = await post(`/api/intelligence/proposals/${id(needed(one, "PROPOSAL"))}/apply`, {});
  if (!answer.success) throw new Error(answer.error_message);
  shell.say(`applied: change ${answer.change_id}; the next run of the strategy reads it`, "good");
}

async function revert([one, ...why], shell) {
  const reason = needed(why.join(" "), "WHY");
  const { rows } = await get("/api/intelligence/changes", { limit: 1000 });
  const change = rows.find((row) => row.change_id === needed(one, "PROPOSAL_OR_CHANGE") || (row.proposal_id?.startsWith(one) && !row.is_reverted));
  if (!change) throw new Error(`${one}: no applied change has this id, nor one of this proposal; \`show changes\` lists them`);
  await send(`/api/intelligence/changes/${id(change.change_id)}/revert`, { reason }, shell);
}

async function watch([job], shell) {
  const path = `/api/jobs/${id(needed(job, "JOB"))}`;
  for (let after = 0, said = "", ended = false; !shell.left() && !ended;) {
    const now = await get(path);
    const found = await get(`${path}/logs`, { after });
    after = found.after;
    for (const one of found.lines) shell.say(`${one.at.slice(11, 19)} ${one.message}`, one.level === "ERROR" ? "bad" : "");
    const state = `${now.status}${now.progress === null ? "" : ` ${Math.round(now.progress * 100)} %`}${now.message ? ` ${now.message}` : ""}`;
    if (state !== said) shell.say(state, now.status === "FAILED" ? "bad" : "info");
    said = state;
    ended = ENDED.includes(now.status);
    if (ended && now.error) shell.say(now.error.message ?? JSON.stringify(now.error), "bad");
    if (!ended) await new Promise((done) => setTimeout(done, FOLLOW_MS));
  }
  if (shell.left()) shell.say("left; the job goes on", "muted");
}

/* ---------------------------------------------------------------- listings */

async function listing(what, more, shell) {
  if (!LISTINGS[what]) throw new Error(`${what}: not known; known: ${Object.keys(LISTINGS).join(", ")}`);
  const [path, wanted = {}] = LISTINGS[what];
  const params = Object.fromEntries(Object.entries(wanted).map(([name, from]) => [name, shell[from]]));
  const answer = await get(path, { as_of: shell.as_of, limit: 50, ...params, ...more });
  const rows = answer.rows ?? (Array.isArray(answer) ? answer : null);
  if (!rows) return shell.say(JSON.stringify(answer, null, 2));
  if (!rows.length) return shell.say(`no ${what}`, "muted");
  const columns = COLUMNS[what] ?? Object.keys(rows[0]).filter((name) => typeof rows[0][name] !== "object").slice(0, 6);
  shell.rows([columns, ...rows.map((row) => columns.map((name) => shown(name, row[name])))]);
}

const shown = (name, value) => (value === null || value === undefined ? DASH
  : name.endsWith("_at") ? moment(value) : name === "progress" ? `${Math.round(value * 100)} %` : typeof value === "object" ? JSON.stringify(value) : String(value));
