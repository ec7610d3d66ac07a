/** The interface, as functions: readings are cached by ETag, failures are errors with a message. */

const TOKEN = "prometheus.token";
const cache = new Map();
const MOST_CACHED = 200;

export class ApiError extends Error {
  constructor(status, type, message) {
    super(message);
    this.status = status;
    this.type = type;
  }
}

export const token = () => sessionStorage.getItem(TOKEN);
export function setToken(value) {
  cache.clear();
  if (value) sessionStorage.setItem(TOKEN, value);
  else sessionStorage.removeItem(TOKEN);
}

const headers = (more = {}) =>
  token() ? { ...more, Authorization: `Bearer ${token()}` } : more;

/** The address of a path with its parameters; null and "" are left out, arrays repeat. */
export function address(path, params = {}) {
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(params)) {
    for (const one of [value].flat()) {
      if (one !== null && one !== undefined && one !== "") query.append(key, one);
    }
  }
  const tail = query.toString();
  return tail ? `${path}?${tail}` : path;
}

/** Read a path. */
export async function get(path, params = {}, { signal } = {}) {
  const url = address(path, params);
  const held = cache.get(url);
  const answer = await call(url, {
    headers: headers(held ? { "If-None-Match": held.tag } : {}), signal, cache: "no-store",
  });
  if (answer.status === 304) return held.body;
  const body = await bodyOf(answer);
  const tag = answer.headers.get("etag");
  if (tag) {
    if (cache.size >= MOST_CACHED) cache.delete(cache.keys().next().value);
    cache.set(url, { tag, body });
  }
  return body;
}

/** Ask for something to be done. */
export async function post(path, body = {}, params = {}) {
  const answer = await call(address(path, params), {
    method: "POST",
    headers: headers({ "Content-Type": "application/json" }),
    body: JSON.stringify(body),
  });
  return bodyOf(answer);
}

async function call(url, options) {
  try {
    return await fetch(url, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "Offline", "the server does not answer");
  }
}

async function bodyOf(answer) {
  const body = await answer.json().catch((error) => cutShort(error, answer));
  if (answer.ok) return body;
  const error = body?.error ?? {};
  throw new ApiError(answer.status, error.type ?? "Error", error.message ?? answer.statusText);
}

/** An answer that was given up, or that ends before its end, is no answer; an error needs no JSON. */
function cutShort(error, answer) {
  if (error.name === "AbortError") throw error;
  if (answer.ok) throw new ApiError(0, "Offline", "the answer of the server ended too early");
  return null;
}

/**
 * Listen to what happens. EventSource cannot send a token, so the stream is read by fetch.
 * @returns {() => void} ends it
 */
export function listen(topics, onEvent, onState) {
  const end = new AbortController();
  let last = null;
  (async () => {
    for (let wait = 500; !end.signal.aborted; wait = Math.min(wait * 2, 15000)) {
      try {
        const answer = await fetch(address("/api/stream", { topics: topics.join(",") }), {
          headers: headers(last ? { "Last-Event-ID": last } : {}), signal: end.signal,
        });
        if (!answer.ok) throw new ApiError(answer.status, "Stream", answer.statusText);
        onState("live");
        wait = 500;
        last = await readEvents(answer.body, onEvent, last);
      } catch (error) {
        if (end.signal.aborted) return;
      }
      onState("offline");
      await new Promise((done) => setTimeout(done, wait));
    }
  })();
  return () => end.abort();
}

async function readEvents(stream, onEvent, last) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read().catch(() => ({ done: true }));
    if (done) return last;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const event = parse(block);
      if (event.id) last = event.id;
      if (event.data) onEvent(event.event ?? "message", JSON.parse(event.data));
    }
  }
}

function parse(block) {
  const event = {};
  for (const line of block.split("\n")) {
    const at = line.indexOf(":");
    if (at > 0) event[line.slice(0, at)] = (event[line.slice(0, at)] ?? "") + line.slice(at + 1).trim();
  }
  return event;
}
