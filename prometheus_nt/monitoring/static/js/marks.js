/** Small marks inside tables and cards: bars, swatches, links and choices. */

import { h } from "./dom.js";
import { DASH, number } from "./format.js";
import { empty } from "./widgets.js";

const known = (value) => value !== null && value !== undefined && !Number.isNaN(value);

/** The largest size in a list; 0 where nothing is known. */
export const most = (values) => Math.max(0, ...values.filter(known).map(Math.abs));

const width = (value, full) => `${full ? Math.min(100, (Math.abs(value) / full) * 100) : 0}%`;

/** A value with its bar, which says no more than the value. */
export function barred(value, shown, full, tone = "") {
  if (!known(value)) return DASH;
  return h("span.barred", h("span.bar", { "aria-hidden": "true" }, h("i", { class: tone, style: { width: width(value, full) } })), shown);
}

/**
 * Bars with their names; signed ones grow from the middle.
 * @param {Array<{label, value, shown?, tone?, colour?, why?}>} items
 * @param {{signed?: boolean, full?: number, show?: Function, label: string, empty?: string}} options
 */
export function bars(items, { signed = false, full, show = (value) => number(value), label, empty: none }) {
  if (!items.length) return empty(none ?? "Nothing to show.");
  const whole = full ?? most(items.map((one) => one.value));
  return h("dl.bars", { "aria-label": label, class: signed ? "signed" : "" }, items.map((one) => {
    const known_ = known(one.value);
    const fill = known_ && h("i", { class: [one.tone ?? "", signed && one.value < 0 ? "below" : ""].join(" "),
      style: { width: width(one.value, signed ? 2 * whole : whole), ...(one.colour ? { background: one.colour } : {}) } });
    return h("div", h("dt", one.label), h("dd.track", { "aria-hidden": "true" }, fill),
      h("dd", { title: known_ ? null : one.why ?? "not known" }, known_ ? one.shown ?? show(one.value) : DASH),
      !known_ && one.why && h("dd.why", one.why));
  }));
}

/** A key of colours. */
export const swatches = (items) => h("ul.swatches", items.map(({ label, colour, note }) =>
  h("li", h("i", { style: { background: colour }, "aria-hidden": "true" }), label, note && h("span.muted", ` ${note}`))));

/** A link to another panel that keeps the desk's choices. */
export function link(ctx, panel, text, changes = {}) {
  const query = changes.item ? `?item=${encodeURIComponent(changes.item)}` : "";
  return h("a", { href: `#/${panel}${query}`, on: { click: (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    event.stopPropagation();
    ctx.go(panel, changes);
  } } }, text);
}

/** A choice of one of some names; `any` is the text of none. */
export function picker(label, value, names, onPick, any) {
  return h("label.field", label, h("select", { on: { change: (event) => { event.target.blur(); onPick(event.target.value); } } },
    any && h("option", { value: "" }, any),
    names.map((name) => h("option", { value: name, selected: name === value }, name))));
}

/** The book that portfolio panels show. */
export function bookPicker(ctx, panel) {
  const books = ctx.options?.strategies?.find((one) => one.strategy_id === ctx.strategy)?.portfolios ?? [];
  return picker("book", ctx.portfolio, books, (portfolio) => ctx.go(panel, { portfolio }));
}

export const NO_STRATEGY = "No strategy has been recorded yet. Run `prometheus backtest` or `prometheus day run`; it appears here then.";

/** What an answer says about its session and run. */
export const standsAt = (view) => (view.as_of_date
  ? `at ${view.as_of_date}${view.run_id ? `, by ${view.run_id}` : ""}` : view.unknown?.as_of_date ?? "");

/** A pill whose tone its panel knows. */
export const pillAs = (word, tone = "muted") => (word ? h("span.pill", { class: tone }, word.replaceAll("_", " ")) : DASH);
