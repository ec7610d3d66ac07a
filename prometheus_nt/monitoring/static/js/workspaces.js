/** Workspaces: which panels the side bar keeps; those of the desk, and those that somebody made here. */

import { h } from "./dom.js";
import { PANELS, WORKSPACES } from "./panels/index.js";

const KEPT = "prometheus.workspaces";
const own = () => JSON.parse(localStorage.getItem(KEPT) ?? "{}");
const keep = (all) => localStorage.setItem(KEPT, JSON.stringify(all));

/** Every workspace by its name. */
export const workspaces = () => ({ ...WORKSPACES, ...own() });

/**
 * Make, change or remove a workspace of one's own.
 * @param {string} name  the workspace to begin with; one of the desk's is copied, never changed
 * @returns {Promise<string | null>} the workspace to show then; null if nothing was done
 */
export function edit(name) {
  const mine = name in own();
  const begun = workspaces()[name] ?? [];
  const input = h("input", { "aria-label": "Name", required: true, maxlength: 30, value: mine ? name : "", autocomplete: "off" });
  const boxes = PANELS.map((one) => h("input", { type: "checkbox", checked: begun.includes(one.id), value: one.id }));
  const save = h("button.first", { value: "save", disabled: !mine }, "Save");
  const check = () => {
    const given = input.value.trim();
    save.disabled = !given || given === "all" || given in WORKSPACES || !boxes.some((box) => box.checked);
  };
  return new Promise((done) => {
    const dialog = h("dialog", { "aria-label": "Workspace", on: { input: check, close: () => {
      done(settled(dialog.returnValue, name, input.value.trim(), boxes));
      dialog.remove();
    } } }, h("form.stack", { method: "dialog" }, h("h2", mine ? `Workspace ${name}` : "A workspace of your own"),
      h("label.stack", "Name", input), h("fieldset.stack", h("legend", "Panels"), boxes.map((box, i) => h("label.row", box, PANELS[i].title))),
      h("div.row", save, mine && h("button.danger", { value: "remove", formnovalidate: true }, "Remove"), h("button", { value: "no", formnovalidate: true }, "Cancel")),
      h("p.muted", "Kept in this browser.")));
    document.body.append(dialog);
    dialog.showModal();
  });
}

function settled(answer, before, name, boxes) {
  const { [before]: _, ...others } = own();
  if (answer === "remove") keep(others);
  if (answer === "save") keep({ ...others, [name]: boxes.filter((box) => box.checked).map((box) => box.value) });
  return { save: name, remove: "all" }[answer] ?? null;
}
