/** Forms that keep what was typed while the panel is drawn again, and show mistakes at their fields. */

import { fill, h } from "./dom.js";
import { toast } from "./widgets.js";

const ROLES = ["READ", "OPERATE", "TRADE"];

/** Whether the caller may do what a role may. */
export const may = (ctx, role) => ROLES.indexOf(ctx.options?.role) >= ROLES.indexOf(role);

/** The reason why the caller may not, or null. */
export const mayNot = (ctx, role) => (may(ctx, role) ? null
  : `This needs the role ${role}; you have ${ctx.options?.role ?? "none that is known"}. Ask whoever runs the server for a token.`);

/** Disable a control, with its reason, where the caller may not use it. */
export function guarded(ctx, role, node) {
  const why = mayNot(ctx, role);
  if (why) Object.assign(node, { disabled: true, title: why });
  return node;
}

/**
 * A form.
 * @param {object} ctx  the panel's; what is typed is kept in `ctx.local.forms[id]`
 * @param {string} id
 * @param {Array<{name, label, type?, choices?, hint?, required?, any?, mistakes?: string[]}>} fields
 *   mistakes: what the server calls this field, where it uses another name
 * @param {{act: string, role?: string, submit: (values) => Promise}} options
 */
export function form(ctx, id, fields, { act, role = "OPERATE", submit }) {
  const kept = ((ctx.local.forms ??= {})[id] ??= {});
  const controls = fields.map((field) => control(id, field, kept));
  const whole = h("p.bad.mistake", { role: "alert", hidden: true });
  const go = guarded(ctx, role, h("button.first", { type: "submit" }, act));
  const show = (message) => showMistakes(message, fields, controls, whole);
  return h("form.fields", { novalidate: true, "aria-label": act, on: { submit: async (event) => {
    event.preventDefault();
    if (missing(fields, kept, controls, whole)) return;
    go.disabled = true;
    try {
      show("");
      await submit({ ...kept });
    } catch (error) {
      show(error.message);
    } finally {
      go.disabled = false;
    }
  } } }, controls.map((one) => one.node), whole, h("div.row", go, go.title && h("span.muted", go.title)));
}

function control(id, field, kept) {
  const name = `${id}-${field.name}`;
  const keep = (event) => { kept[field.name] = field.type === "checkbox" ? event.target.checked : event.target.value; };
  const props = { id: name, name: field.name, "aria-describedby": `${name}-why`, required: field.required, on: { input: keep, change: keep } };
  const input = inputOf(field, props, kept[field.name] ?? "");
  const why = h("small", { id: `${name}-why` }, field.hint);
  return { field, input, why, node: h("div.entry", { class: field.wide ? "wide" : "" }, h("label", { for: name }, field.label, field.required && h("span.muted", " (needed)")), input, why) };
}

function inputOf({ type = "text", choices, any, placeholder }, props, value) {
  if (choices) {
    return h("select", props, any && h("option", { value: "" }, any),
      choices.map((one) => h("option", { value: one, selected: one === value }, one)));
  }
  if (type === "textarea") return h("textarea", { ...props, rows: 3, spellcheck: "false", placeholder, value });
  if (type === "checkbox") return h("input", { ...props, type, checked: value === true });
  return h("input", { ...props, type, placeholder, autocomplete: "off", value });
}

function missing(fields, kept, controls, whole) {
  const empty = controls.filter(({ field }) => field.required && !String(kept[field.name] ?? "").trim());
  controls.forEach((one) => mark(one, empty.includes(one) ? `${one.field.label}: this is needed` : null));
  whole.hidden = true;
  empty[0]?.input.focus();
  return empty.length > 0;
}

function mark({ field, input, why }, mistake) {
  input.setAttribute("aria-invalid", String(Boolean(mistake)));
  why.className = mistake ? "bad" : "";
  fill(why, mistake ?? field.hint ?? "");
}

/** Put each line of a failure at the field that it names; what names none stands below the form. */
function showMistakes(message, fields, controls, whole) {
  const lines = message.split(/\n|; (?=body\.)/).filter(Boolean);
  const rest = [];
  const at = new Map();
  for (const line of lines) {
    const found = controls.find(({ field }) => [field.name, ...(field.mistakes ?? [])].some((name) => names(line, name)));
    if (found) at.set(found, [at.get(found), tidy(line)].filter(Boolean).join(" "));
    else rest.push(tidy(line));
  }
  controls.forEach((one) => mark(one, at.get(one) ?? null));
  whole.hidden = !rest.length;
  fill(whole, rest.join(" "));
  [...at.keys()][0]?.input.focus();
}

const escaped = (name) => name.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
const names = (line, name) => new RegExp(`(^|[\\s:])(body\\.)?${escaped(name)}(\\.[\\w.]+)?: `).test(line);
/** A mistake without the files and settings that it was read from. */
const tidy = (line) => line.replace(/^\S+\.yaml.*?: (?=[\w.]+: )/, "").replace(/^body\./, "");

/** Do something and say how it went. */
export async function attempt(act) {
  try {
    const answer = await act();
    toast(answer?.message ?? "done");
    return answer;
  } catch (error) {
    toast(error.message, "bad");
    return null;
  }
}

/** JSON that somebody typed; the error names the field. */
export function parsed(text, name) {
  if (!text?.trim()) return {};
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(`${name}: not JSON: ${error.message}`);
  }
}

/** Buttons that go through a long list. */
export function pager(page, at, onGo) {
  if (!page.offset && page.next_offset === null) return null;
  return h("div.row",
    h("button", { type: "button", disabled: !page.offset, on: { click: () => onGo(Math.max(0, page.offset - at)) } }, "Newer"),
    h("span.muted", `${page.offset + 1} to ${page.offset + page.rows.length}`),
    h("button", { type: "button", disabled: page.next_offset === null, on: { click: () => onGo(page.next_offset) } }, "Older"));
}
