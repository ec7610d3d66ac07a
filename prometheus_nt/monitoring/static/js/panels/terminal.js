/** A terminal: verbs that ask the interface, and what it answered. */

import { completions, run } from "../commands.js";
import { h } from "../dom.js";
import { card } from "../widgets.js";

const HISTORY = "prometheus.terminal";
const MOST_KEPT = 200;
const MOST_LINES = 3_000;

const past = JSON.parse(localStorage.getItem(HISTORY) ?? "[]");
let screen = null; // made once, so that nothing is lost while the panel is drawn again
let place = {};

export default {
  id: "terminal", title: "Terminal", group: "Operate", key: "/",
  about: "Verbs for everything that can be asked of the server. `help` lists them; Tab completes, arrows go through what was typed.",

  async load(ctx) {
    return { as_of: ctx.as_of, region: ctx.region, strategy: ctx.strategy, portfolio: ctx.portfolio, market: ctx.options?.markets?.[0] ?? "US_EQ" };
  },

  draw(choices) {
    place = choices;
    screen ??= build();
    requestAnimationFrame(() => screen.querySelector("input").focus());
    return card("Terminal", { note: place.as_of ? `as of ${place.as_of}` : "as of now" }, screen);
  },
};

function build() {
  const lines = h("div.lines", { role: "log", tabindex: 0, "aria-label": "What was answered" });
  const input = h("input", { "aria-label": "Command", autocomplete: "off", autocapitalize: "off", spellcheck: "false" });
  const shell = shellOn(lines);
  let at = past.length;
  input.addEventListener("keydown", async (event) => {
    if (event.key === "ArrowUp" || event.key === "ArrowDown") {
      event.preventDefault();
      at = Math.min(past.length, Math.max(0, at + (event.key === "ArrowUp" ? -1 : 1)));
      input.value = past[at] ?? "";
    } else if (event.key === "Tab" && !event.shiftKey && input.value.trim()) {
      event.preventDefault();
      await complete(input, shell);
    } else if (event.key === "c" && event.ctrlKey && shell.busy) {
      event.preventDefault();
      shell.leave();
    }
  });
  shell.say("`help` lists what can be asked.", "muted");
  return h("div.terminal", lines, h("form", { on: { submit: async (event) => {
    event.preventDefault();
    const text = input.value.trim();
    if (!text || shell.busy) return;
    input.value = "";
    remember(text);
    at = past.length;
    await execute(text, shell);
  } } }, h("span", { "aria-hidden": "true" }, "›"), input));
}

async function execute(text, shell) {
  shell.say(`› ${text}`, "said-by");
  shell.begin();
  try {
    await run(text, shell);
  } catch (error) {
    shell.say(error.message, "bad");
  } finally {
    shell.end();
  }
}

function shellOn(lines) {
  let left = false;
  const shell = {
    busy: false,
    begin: () => { left = false; shell.busy = true; },
    end: () => { shell.busy = false; },
    leave: () => { left = true; },
    left: () => left,
    clear: () => lines.replaceChildren(),
    say: (text, kind) => {
      lines.append(h("p", { class: kind || null }, text));
      while (lines.childElementCount > MOST_LINES) lines.firstChild.remove();
      lines.scrollTop = lines.scrollHeight;
    },
    rows: (rows) => {
      const widths = rows[0].map((_, i) => Math.min(44, Math.max(...rows.map((row) => row[i].length))));
      rows.forEach((row) => shell.say(row.map((cell, i) => cell.padEnd(widths[i])).join("  ").trimEnd()));
    },
    get as_of() { return place.as_of; }, get region() { return place.region; }, get market() { return place.market; },
    get strategy() { return place.strategy || undefined; }, get portfolio() { return place.portfolio; },
  };
  return shell;
}

async function complete(input, shell) {
  const found = await completions(input.value).catch(() => []);
  if (found.length === 1) input.value = found[0];
  if (found.length < 2) return;
  shell.say(found.map((one) => one.trim().split(" ").at(-1)).join("  "), "muted");
  const same = found.reduce((a, b) => { while (!b.startsWith(a)) a = a.slice(0, -1); return a; });
  if (same.length > input.value.length) input.value = same;
}

function remember(text) {
  if (past.at(-1) !== text) past.push(text);
  past.splice(0, past.length - MOST_KEPT);
  localStorage.setItem(HISTORY, JSON.stringify(past));
}
