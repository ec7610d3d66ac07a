/** What the whole desk is looking at. The address holds it, so that a view can be sent to somebody. */

const CHOICES = ["as_of", "region", "strategy", "portfolio", "mode"];
const watchers = new Set();

export const state = { panel: "overview", options: null, connection: "waiting", local: {} };

export function readAddress() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const params = new URLSearchParams(query);
  state.panel = decodeURIComponent(path || "overview");
  for (const name of CHOICES) state[name] = params.get(name) ?? "";
  state.item = params.get("item") ?? "";
}

/** Choose something; the address follows. */
export function choose(changes) {
  const next = { ...state, ...changes };
  const params = new URLSearchParams();
  for (const name of [...CHOICES, "item"]) if (next[name]) params.set(name, next[name]);
  const query = params.toString();
  const hash = `#/${encodeURIComponent(next.panel)}${query ? `?${query}` : ""}`;
  if (hash === location.hash) tell();
  else location.hash = hash;
}

/** Change what no address holds. */
export function update(changes) {
  Object.assign(state, changes);
  tell();
}

export const watch = (watcher) => (watchers.add(watcher), () => watchers.delete(watcher));
export const tell = () => watchers.forEach((watcher) => watcher(state));
