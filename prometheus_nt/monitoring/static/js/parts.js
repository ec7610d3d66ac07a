/** Parts of a panel that are read side by side: one that cannot be read does not take the others away. */

import { ApiError } from "./api.js";
import { failed } from "./widgets.js";

const NOT_BUILT = "this server does not give this answer; it is older than the desk, so update it and start it again";

/**
 * Read several things at once.
 * @param {Object<string, Promise>} readings
 * @returns {Promise<Object<string, {data} | {error}>>}  throws where nothing at all could be read
 */
export async function parts(readings) {
  const names = Object.keys(readings);
  const results = await Promise.allSettled(Object.values(readings));
  const errors = results.filter((one) => one.status === "rejected").map((one) => one.reason);
  const grave = errors.find((one) => one.name === "AbortError" || one.status === 401 || one.status === undefined);
  if (grave) throw grave;
  if (errors.length && errors.length === names.length) {
    const { status, type, message } = told(errors[0]);
    throw new ApiError(status, type, message);
  }
  return Object.fromEntries(names.map((name, i) => [name, results[i].status === "fulfilled"
    ? { data: results[i].value } : { error: told(results[i].reason) }]));
}

function told({ status, type, message }) {
  const missing = status === 404 && message === "Not Found";
  return { status, type: missing ? "Not there" : type, message: missing ? NOT_BUILT : message };
}

/** Draw what was read of a part, or why it was not. */
export const part = (of, draw, ctx) => (of.error ? failed(of.error, () => ctx.refresh()) : draw(of.data));
