/** The desk: what is around a panel, and the life of the panel that is shown. */

import { ApiError, get, listen, post, setToken } from "./api.js";
import { fill, h } from "./dom.js";
import { ago, number, signedPercent, tone } from "./format.js";
import { GROUPS, PANELS } from "./panels/index.js";
import { remember } from "./place.js";
import { choose, readAddress, state, watch } from "./state.js";
import { coded, confirm, empty, failed, toast, toneOf, waiting } from "./widgets.js";
import { edit, workspaces } from "./workspaces.js";

const REFRESH_MS = 10_000;
const MOST_ALERTS = 6;
const MOST_EVENTS = 60;
const at = (id) => document.getElementById(id);
const theme = () => localStorage.getItem("prometheus.theme") ?? "dark";

let shown = null;      // the panel on the page
let reading = null;    // aborts the reading under way
let last = null;       // what was drawn last, as text: equal data are not drawn again
let workspace = localStorage.getItem("prometheus.workspace") ?? "all";
const happened = [];

/* ---------------------------------------------------------------- around the panel */

function select(label, name, choices, any) {
  return h("label.field", label, h("select", { on: { change: (e) => choose({ [name]: e.target.value }) } },
    any && h("option", { value: "" }, any),
    choices.map((one) => h("option", { value: one, selected: state[name] === one }, one))));
}

function asOf() {
  const { first_session: first, last_session: newest } = state.options ?? {};
  return h("label.field", "as of",
    h("input", { type: "date", id: "as-of", value: state.as_of, min: first, max: newest,
      on: { change: (e) => choose({ as_of: e.target.value }) } }),
    state.as_of && h("button.quiet", { type: "button", title: "Back to the newest session",
      on: { click: () => choose({ as_of: "" }) } }, "now"));
}

function drawTop() {
  const { regions = [], strategies = [] } = state.options ?? {};
  if (at("top").contains(document.activeElement) && document.activeElement.id === "as-of") return;
  fill(at("top"),
    h("span.brand", h("img", { src: "/static/icon.svg", alt: "" }), "Prometheus NT"),
    h("span.line", { id: "line" }),
    h("span", { id: "switch" }),
    h("span.spring"),
    select("region", "region", regions),
    select("strategy", "strategy", strategies.map((one) => one.strategy_id), "newest"),
    asOf(),
    h("button", { type: "button", id: "theme", title: "Dark or light (t)", on: { click: turn } }, theme() === "dark" ? "☀" : "☾",
      h("span", { class: "muted", style: { position: "absolute", left: "-999px" } }, "Change theme")),
    h("button", { type: "button", title: "Alerts and events", on: { click: () => at("watch").classList.toggle("shown") } }, "Alerts"),
    h("span.pill", { class: { live: "good", offline: "bad" }[state.connection] ?? "warn", id: "connection" }, state.connection));
  drawLine();
}

/** What the switch says that every sleeve obeys; nothing where this server trades nothing. */
function drawSwitch() {
  const { kill_switch: kill, runs = [] } = state.desk ?? {};
  if (!at("switch")) return;
  const halted = kill && kill.state !== "ARMED";
  const held = runs.filter((run) => run.switch.state !== "ARMED").length;
  const words = halted ? `trading ${kill.state.toLowerCase()}` : held ? `${held} of ${runs.length} sleeves stopped` : "trading armed";
  fill(at("switch"), kill && h("a.pill", { class: halted || held ? "bad" : "good", href: "#/live_desk", title: kill.reason ?? "The kill switch; choose it to see the live desk" }, words));
}

function drawLine() {
  drawSwitch();
  const view = state.overview;
  const host = at("line");
  if (!host || !view) return;
  const item = (label, value, kind) => h("span", label, " ", h("b", { class: kind }, value));
  fill(host, item("P&L today", signedPercent(view.pnl_today), tone(view.pnl_today)),
    item("STAB", number(view.global_stability_index, 2)), item("LEV", number(view.leverage, 2)));
}

function drawSide() {
  const known = workspaces();
  const kept = known[workspace] ?? null;
  const groups = GROUPS.map((group) => [group, PANELS.filter((one) => one.group === group && (!kept || kept.includes(one.id)))]);
  fill(at("side"),
    h("label", h("h2", "Workspace"), h("select", { "aria-label": "Workspace", on: { change: (e) => keepTo(e.target.value) } }, ["all", ...Object.keys(known)].map((one) => h("option", { value: one, selected: one === workspace }, one)))),
    h("button.quiet", { type: "button", on: { click: async () => { const name = await edit(workspace); if (name) keepTo(name); } } }, "Make or change one"),
    groups.filter(([, panels]) => panels.length).map(([group, panels]) => [
      h("h2", group),
      panels.map((one) => h("a", {
        href: `#/${one.id}`, "aria-current": one.id === state.panel ? "page" : null,
        on: { click: (e) => { e.preventDefault(); choose({ panel: one.id, item: "" }); } },
      }, one.title, one.key && h("kbd", one.key)))]));
}

function keepTo(name) {
  workspace = name;
  localStorage.setItem("prometheus.workspace", name);
  drawSide();
}

function drawWatch() {
  const alerts = state.alerts;
  const rows = (alerts ?? []).slice(0, MOST_ALERTS);
  const none = alerts === null ? "Alerts cannot be read now." : "No open alert.";
  fill(at("watch"),
    h("h2", "Alerts"),
    alerts === undefined ? waiting() : rows.length ? rows.map(alertBox) : empty(none),
    h("h2", "Events"),
    h("div.log", happened.length ? happened.map((one) => h("p", one)) : "Nothing has happened since this page opened."));
}

function alertBox(alert) {
  return h("div.alert", { class: toneOf(alert.severity) },
    h("b", alert.severity), " ", alert.message, h("div.muted", `${alert.rule} · ${ago(alert.raised_at)}`),
    !alert.acknowledged_at && h("button.quiet", { type: "button", on: { click: () => acknowledge(alert) } }, "Acknowledge"));
}

async function acknowledge(alert) {
  try {
    await post(`/api/alerts/${encodeURIComponent(alert.alert_id)}/acknowledge`);
    await readAround();
  } catch (error) {
    toast(error.message, "bad");
  }
}

function turn() {
  const next = theme() === "dark" ? "light" : "dark";
  localStorage.setItem("prometheus.theme", next);
  document.documentElement.dataset.theme = next;
  last = null;
  drawTop();
  show();
}

/* ---------------------------------------------------------------- the panel */

/** What a panel is handed: reading with the desk's choices, and its own memory. */
function context(panel, signal) {
  const { as_of, region, strategy, portfolio, mode, item } = state;
  const { regions = [], strategies = [] } = state.options ?? {};
  const chosen = strategies.find((one) => one.strategy_id === strategy) ?? strategies[0];
  return {
    get: (path, params = {}) => get(path, { as_of, ...params }, { signal }),
    post, as_of, mode, item, options: state.options,
    region: region || regions[0] || "US",
    strategy: chosen?.strategy_id ?? "",
    portfolio: portfolio || chosen?.portfolios?.[0] || chosen?.strategy_id || "",
    local: (state.local[panel.id] ??= {}),
    go: (id, changes = {}) => choose({ panel: id, item: "", ...changes }),
    open: (value) => choose({ item: value }),
    refresh: () => { last = null; return show(); },
    confirm, toast,
  };
}

/** Read and draw the panel that the address names; what was drawn stays until the new is there. */
async function show() {
  const panel = PANELS.find((one) => one.id === state.panel) ?? PANELS[0];
  reading?.abort();
  reading = new AbortController();
  const { signal } = reading;
  const host = at("panel");
  if (shown !== panel) {
    shown = panel;
    last = null;
    document.title = `${panel.title} · Prometheus NT`;
    fill(host, heading(panel), waiting());
    host.scrollTop = 0;
    drawSide();
  }
  const ctx = context(panel, signal);
  try {
    const data = await panel.load(ctx);
    if (signal.aborted) return;
    const text = JSON.stringify([data, ctx.local, state.as_of, theme()]);
    if (text === last || (last !== null && isTyping(host))) return;
    const stay = remember(host);
    fill(host, heading(panel), panel.draw(data, ctx));
    stay();
    last = text;
  } catch (error) {
    if (signal.aborted) return;
    onFailure(error, host, panel);
  }
}

function onFailure(error, host, panel) {
  if (error.status === 401) return void askToken();
  if (!(error instanceof ApiError)) console.error(error);
  const again = () => { last = null; show(); };
  if (last === null) fill(host, heading(panel), failed(error, again));
  else if (!host.querySelector(".stale")) host.querySelector(".head")?.after(h("div.stale", { role: "alert" }, `Not refreshed: ${error.message}. What you see is older.`));
}

const isTyping = (host) => host.contains(document.activeElement) && document.activeElement.matches("input, textarea, select");
const heading = (panel) => h("div.head", h("h1", panel.title), h("p", coded(panel.about)), state.as_of && h("span.pill.warn", `as of ${state.as_of}`));

let asking = false;
async function askToken() {
  if (asking) return;
  asking = true;
  const value = await confirm({ title: "This server asks for a token", body: "It stays in this tab and is forgotten when the tab closes.", ask: "Token", act: "Go on" });
  asking = false;
  if (value) {
    setToken(value.trim());
    start();
  }
}

/* ---------------------------------------------------------------- life */

async function readAround() {
  const [overview, alerts, desk] = await Promise.all([
    get("/api/status/overview", { as_of: state.as_of }).catch(() => null),
    get("/api/alerts", { open: true }).then((page) => page.rows).catch(() => null),
    get("/api/desk").catch(() => null),
  ]);
  Object.assign(state, { overview, alerts, desk });
  drawLine();
  drawWatch();
}

let pending = null;
function onEvent(kind, row) {
  const what = row.message ?? [row.phase, row.status ?? row.instrument_id].filter(Boolean).join(" ");
  const told = `${kind} ${row.job_id ?? row.run_id ?? row.subject ?? ""} ${what}`;
  // An alert is told again while its cause lasts: one line of it says so.
  const before = happened.findIndex((one) => one.endsWith(` ${told}`));
  if (kind === "alert" && before >= 0) happened.splice(before, 1);
  happened.unshift(`${new Date().toISOString().slice(11, 19)} ${told}`);
  happened.length = Math.min(happened.length, MOST_EVENTS);
  dispatchEvent(new CustomEvent("desk-event", { detail: { kind, row } }));
  if (kind === "alert") readAround();
  else drawWatch();
  if (shown?.topics?.includes(kind)) pending ??= setTimeout(() => { pending = null; show(); }, 150);
}

const KEYS = {
  r: () => { last = null; show(); }, t: turn, "?": help, "[": () => step(-1), "]": () => step(1), "/": () => choose({ panel: "terminal" }),
};

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches?.("input, textarea, select") || document.querySelector("dialog[open]")) return;
  const panel = PANELS.find((one) => one.key === event.key);
  if (!panel && !KEYS[event.key]) return;
  event.preventDefault();
  if (panel) choose({ panel: panel.id, item: "" });
  else KEYS[event.key]();
}

/** Go a calendar day back or on; the server answers with the newest session not after it. */
function step(days) {
  const from = state.as_of || state.options?.last_session;
  if (!from) return;
  const day = new Date(`${from}T00:00:00Z`);
  day.setUTCDate(day.getUTCDate() + days);
  choose({ as_of: day.toISOString().slice(0, 10) });
}

function help() {
  confirm({ title: "Keys", act: "Close", body: h("div.stack",
    PANELS.filter((one) => one.key).map((one) => h("div", h("code", one.key), ` ${one.title}`)),
    h("div", h("code", "[ ]"), " a day back or on"), h("div", h("code", "r"), " read again"), h("div", h("code", "t"), " theme"), h("div", h("code", "/"), " terminal")) });
}

let ended = null;
async function start() {
  try {
    state.options = await get("/api/options");
  } catch (error) {
    if (error.status === 401) return askToken();
    toast(error.message, "bad");
  }
  drawTop();
  drawSide();
  drawWatch();
  readAround();
  show();
  ended?.();
  ended = listen(["jobs", "runs", "fills", "alerts", "steps"], onEvent, (connection) => {
    if (connection === state.connection) return;
    state.connection = connection;
    drawTop();
  });
}

document.documentElement.dataset.theme = theme();
readAddress();
addEventListener("hashchange", () => { readAddress(); last = null; drawTop(); drawSide(); readAround(); show(); });
addEventListener("keydown", onKey);
setInterval(() => { if (!document.hidden) { show(); readAround(); } }, REFRESH_MS);
watch(() => show());
start();
