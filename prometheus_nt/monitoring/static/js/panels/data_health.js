/** The datasets: which instruments are well, which are not, and what was found in them. */

import { fill, h } from "../dom.js";
import { number, text, whole } from "../format.js";
import { picker, pillAs } from "../marks.js";
import { part, parts } from "../parts.js";
import { card, empty, figures, table } from "../widgets.js";

const NO_DATA = "No dataset is stored yet. `prometheus demo` brings two small ones; `prometheus data ingest` reads your own.";
const TONES = { OK: "good", STALE: "bad", MISSING: "bad", DROPPED: "bad", ERROR: "bad", DEGRADED: "warn", WARNING: "warn", INFO: "info" };
const toned = (word) => pillAs(word, TONES[word]);

export default {
  id: "data_health", title: "Data health", group: "Operate", key: "8", topics: ["job"],
  about: "What is stored of each dataset, which instruments are missing, stale or degraded, and the evidence.",

  load(ctx) {
    return parts({
      datasets: ctx.get("/api/data/datasets"),
      health: ctx.get("/api/data/health", { dataset: ctx.item }),
    });
  },

  draw({ datasets, health }, ctx) {
    const chosen = health.data?.dataset_id ?? ctx.item;
    return h("div.grid", part(datasets, (page) => datasetsCard(page.rows, chosen, ctx), ctx),
      part(health, (view) => (view.dataset_id ? healthCards(view, datasets.data?.rows, ctx) : empty(view.unknown?.dataset_id ?? NO_DATA)), ctx));
  },
};

const datasetsCard = (rows, chosen, ctx) => card("Datasets", {}, table([
  { name: "dataset_id", title: "Dataset" },
  { name: "market_id", title: "Market" },
  { name: "source", title: "Source", show: text },
  { name: "adjustment", title: "Prices", show: (word, row) => `${(word ?? "").toLowerCase().replaceAll("_", " ")}${row.synthetic_bars ? ", bars from closes" : ""}` },
  { name: "instruments", title: "Names", num: true, show: whole },
  { name: "bars", title: "Bars", num: true, show: whole },
  { name: "first_date", title: "From", show: text }, { name: "last_date", title: "To", show: text },
], rows, { caption: "Choose one to see its health", empty: NO_DATA, onRow: (row) => ctx.open(row.dataset_id), selected: (row) => row.dataset_id === chosen }));

/* ---------------------------------------------------------------- one dataset */

function healthCards(view, rows, ctx) {
  const why = (name) => view.unknown?.[name];
  const share = view.expected ? view.received / view.expected : null;
  return [
    card(view.dataset_id, { note: view.as_of ? `at ${view.as_of}` : why("as_of") }, figures([
      { label: "Coverage", value: share === null ? "–" : `${number(share * 100, 0)} %`, tone: share < 0.95 ? "bad" : "good", why: why("expected") ?? "no bar was expected", small: share === null ? undefined : `${view.received} of ${view.expected} have the session's bar` },
      ...Object.entries(view.summary).map(([status, count]) => ({ label: status, value: whole(count), tone: count && status !== "OK" ? TONES[status] : "" })),
      { label: "Findings", value: `${whole(view.findings.length)}${view.more_findings ? "+" : ""}` },
    ]), verdict(view), aboutOf(rows?.find((row) => row.dataset_id === view.dataset_id))),
    instrumentsCard(view, ctx),
    findingsCard(view, ctx),
  ];
}

const verdict = (view) => (view.failures.length
  ? h("p.bad", `The audit fails: ${view.failures.join("; ")}. \`prometheus data repair\` reads again what a source still has.`)
  : lenient(view));

function lenient({ summary }) {
  const weak = ["STALE", "DEGRADED"].filter((status) => summary[status]).map((status) => `${summary[status]} ${status}`);
  return weak.length ? h("p.warn", `Nothing is missing, dropped or refused, but a strict audit fails: ${weak.join(", ")}.`)
    : h("p.good", "The audit passes: nothing is missing, stale, degraded or refused.");
}

const aboutOf = (row) => row && h("p.muted", [row.description, row.survivorship].filter(Boolean).join(". "));

/** A table whose rows can be narrowed to one word of a column, without reading again. */
function narrowed(ctx, memory, rows, column, draw) {
  const host = h("div");
  const words = [...new Set(rows.map((row) => row[column]))].sort();
  const show = (word) => {
    ctx.local[memory] = word;
    fill(host, draw(word ? rows.filter((row) => row[column] === word) : rows));
  };
  const held = words.includes(ctx.local[memory]) ? ctx.local[memory] : "";
  show(held);
  return { host, tool: picker(column, held, words, show, "all") };
}

function instrumentsCard(view, ctx) {
  const { host, tool } = narrowed(ctx, "status", view.instruments, "status", (rows) => table([
    { name: "instrument_id", title: "Instrument" },
    { name: "status", title: "Status", show: toned },
    { name: "last", title: "Newest bar", show: text },
    { name: "age", title: "Behind", num: true, show: whole },
    { name: "bars", title: "Bars", num: true, show: whole },
    { name: "gaps", title: "Missing", num: true, show: whole },
    { name: "quarantined", title: "Refused", num: true, show: whole },
    { name: "warnings", title: "Warnings", num: true, show: whole },
    { name: "reason", title: "Why", show: text, tone: () => "long" },
  ], rows, { caption: "Behind and missing are counted in sessions of the market", empty: "This dataset has no instrument." }));
  return card("Instruments", { tools: [tool] }, host);
}

function findingsCard(view, ctx) {
  const { host, tool } = narrowed(ctx, "rule", view.findings, "rule", (rows) => table([
    { name: "severity", title: "Severity", show: toned },
    { name: "rule", title: "Rule", show: (word) => word.replaceAll("_", " ") },
    { name: "instrument_id", title: "Instrument", show: text },
    { name: "trade_date", title: "Session", show: text },
    { name: "value", title: "Found", show: text },
    { name: "message", title: "Evidence", show: evidence, tone: () => "long" },
  ], rows, { caption: view.more_findings ? `The first ${view.findings.length} open findings, errors first` : "Open findings, errors first", empty: "Nothing is open: no finding about this dataset." }));
  return card("Findings", { tools: [tool] }, host);
}

const evidence = (message, row) => [message, row.source_file && h("div.muted", `${row.source_file}${row.source_row ? `, row ${row.source_row}` : ""}${row.source_column ? `, column ${row.source_column}` : ""} · by ${row.found_by ?? "?"}`)];
