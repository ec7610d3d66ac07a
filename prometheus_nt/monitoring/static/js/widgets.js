/** The pieces that panels are made of. */

import { h, fill } from "./dom.js";
import { DASH } from "./format.js";

/** A card. @param {{note?: string, width?: number, tools?: Node[]}} [options] */
export function card(title, options, ...children) {
  const { note, width, tools } = options ?? {};
  return h(`section.card${width ? `.w${width}` : ""}`, { "aria-label": title },
    h("header", h("h2", title), note && h("span.note", coded(note)), tools && h("div.tools", tools)),
    children);
}

/** Figures with their names. @param {Array<{label, value, tone?, why?, small?}>} items */
export function figures(items) {
  return h("dl.figures", items.map(({ label, value, tone, why, small }) =>
    h("div", h("dt", label),
      h("dd", { class: tone, title: value === DASH ? why ?? "not known" : null }, value,
        (small || (value === DASH && why)) && h("small", small ?? why)))));
}

/**
 * A table that sorts.
 * @param {Array<{name, title, show?, num?, tone?}>} columns  show(value, row) gives text or a node
 * @param {object} [options] {caption, onRow(row), selected(row), sort: [name, 1 | -1], empty}
 */
export function table(columns, rows, options = {}) {
  if (!rows.length) return empty(options.empty ?? "Nothing to show.");
  let [by, way] = options.sort ?? [null, 1];
  const body = h("tbody");
  const heads = columns.map((column) => h(column.num ? "th.num" : "th", { scope: "col" },
    h("button", { type: "button", on: { click: () => sort(column.name) } }, column.title)));
  const draw = () => fill(body, sorted(rows, by, way).map((row) => line(columns, row, options)));
  function sort(name) {
    [by, way] = [name, by === name ? -way : 1];
    heads.forEach((head, i) => {
      if (columns[i].name === by) head.setAttribute("aria-sort", way > 0 ? "ascending" : "descending");
      else head.removeAttribute("aria-sort");
    });
    draw();
  }
  draw();
  return h("div.scroll", { tabindex: 0, role: "region", "aria-label": options.caption ?? "table" },
    h("table", { class: breadth(columns.length) }, options.caption && h("caption", options.caption), h("thead", h("tr", heads)), body));
}

/** How a table of so many columns is set: many need room of their own on a phone, most are set close everywhere. */
const breadth = (count) => (count >= 8 ? "many dense" : count >= 5 ? "many" : null);

const DAY = /^\d{4}-\d\d-\d\d/;

function line(columns, row, { onRow, selected }) {
  const open = () => onRow(row);
  const props = onRow && {
    tabindex: 0, data: { key: row[columns[0].name] }, "aria-selected": selected ? String(Boolean(selected(row))) : null,
    on: { click: open, keydown: (e) => e.key === "Enter" && e.target === e.currentTarget && open() },
  };
  return h("tr", props || {}, columns.map((column) => {
    const value = row[column.name];
    const shown = column.show ? column.show(value, row) : value ?? DASH;
    const kept = typeof shown === "string" && DAY.test(shown) ? "nowrap" : "";
    const why = value === null ? row.unknown?.[column.name] : null;
    return h(column.num ? "td.num" : "td", { class: `${column.tone?.(value, row) ?? ""} ${kept}`, title: why ?? null }, shown);
  }));
}

function sorted(rows, by, way) {
  if (by === null) return rows;
  const order = (a, b) => {
    const [x, y] = [a[by], b[by]];
    if (x === null || x === undefined) return 1;
    if (y === null || y === undefined) return -1;
    return (x > y ? 1 : x < y ? -1 : 0) * way;
  };
  return [...rows].sort(order);
}

/** Words between backticks, as commands. */
export const coded = (words) => (typeof words === "string" ? words.split("`").map((one, i) => (i % 2 ? h("code", one) : one)) : words);

export const empty = (why, ...more) => h("div.empty", coded(why), more);
export const waiting = (what = "Reading…") => h("div.waiting", { role: "status" }, what);
export const failed = (error, retry) => h("div.failed", { role: "alert" },
  h("p", h("b", error.type ?? "Error"), " ", coded(String(error.message))),
  retry && h("button", { type: "button", on: { click: retry } }, "Try again"));

const TONES = {
  bad: "CRITICAL ERROR FAILED CRISIS BREAKER HALTED REJECTED VETO BROKEN STALE MISSING TARGETABLE",
  warn: "WARN WARNING RISK_OFF PENDING WATCH FRAGILE DEGRADED CANCELLED CAPPED RETRYING",
  good: "OK COMPLETED RUNNING CARRY STABLE APPROVED APPLIED SUCCESS FILLED ready READY",
};

/** The tone of a status word. */
export const toneOf = (word) =>
  Object.keys(TONES).find((tone) => TONES[tone].split(" ").includes(word)) ?? "info";

export const pill = (word) => (word ? h("span.pill", { class: toneOf(word) }, word) : DASH);

/** Progress; null is not known. */
export function progress(fraction) {
  if (fraction === null || fraction === undefined) return h("span.muted", "running");
  const percent = Math.round(fraction * 100);
  return h("span.row", h("span.bar", { role: "progressbar", "aria-valuenow": percent, "aria-valuemin": 0,
    "aria-valuemax": 100, "aria-label": "progress" }, h("i", { style: { width: `${percent}%` } })), `${percent} %`);
}

/** A button that cannot be pressed twice while it works; failures are shown. */
export function button(label, act, kind = "") {
  const node = h("button", { type: "button", class: kind, on: { click: async () => {
    node.disabled = true;
    try {
      await act();
    } catch (error) {
      toast(error.message, "bad");
    } finally {
      node.disabled = false;
    }
  } } }, label);
  return node;
}

export function toast(message, tone = "info") {
  const note = h("p", { class: tone }, message);
  document.getElementById("toasts").append(note);
  setTimeout(() => note.remove(), tone === "bad" ? 9000 : 4500);
}

/**
 * Ask before doing; resolves to the text that was typed, or null.
 * @param {{title, body, typed?: string, ask?: string, act?: string, danger?: boolean}} question
 *   typed: a word that must be typed exactly; ask: label of a free text that is needed
 */
export function confirm({ title, body, typed, ask, act = "Do it", danger = false }) {
  return new Promise((done) => {
    const input = (typed || ask) && h("input", { "aria-label": ask ?? `Type ${typed}`, autocomplete: "off", required: true });
    const go = h(`button${danger ? ".danger" : ".first"}`, { value: "go", disabled: Boolean(input) }, act);
    input?.addEventListener("input", () => {
      go.disabled = typed ? input.value !== typed : !input.value.trim();
    });
    const dialog = h("dialog", { "aria-label": title, on: { close: () => {
      done(dialog.returnValue === "go" ? input?.value ?? "yes" : null);
      dialog.remove();
    } } }, h("form.stack", { method: "dialog" }, h("h2", title), h("p", body),
      input && h("label.stack", typed ? h("span", "Type ", h("code", typed)) : ask, input),
      h("div.row", go, h("button", { value: "no", formnovalidate: true }, "Cancel"))));
    document.body.append(dialog);
    dialog.showModal();
  });
}
