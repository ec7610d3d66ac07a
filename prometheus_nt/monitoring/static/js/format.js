/** Numbers and moments as people read them; what is not known is a dash, never a zero. */

export const DASH = "–";
const known = (value) => value !== null && value !== undefined && !Number.isNaN(value);
const decimals = (digits) =>
  new Intl.NumberFormat("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
const formats = new Map();

export function number(value, digits = 2) {
  if (!known(value)) return DASH;
  if (!formats.has(digits)) formats.set(digits, decimals(digits));
  return formats.get(digits).format(value);
}

/** A fraction as percent: 0.0123 -> 1.23 %. */
export const percent = (value, digits = 2) =>
  known(value) ? `${number(value * 100, digits)} %` : DASH;
export const signed = (value, digits = 2) =>
  known(value) ? `${value > 0 ? "+" : ""}${number(value, digits)}` : DASH;
export const signedPercent = (value, digits = 2) =>
  known(value) ? `${value > 0 ? "+" : ""}${percent(value, digits)}` : DASH;
export const money = (value, digits = 0) => (known(value) ? `${value < 0 ? "-" : ""}$${number(Math.abs(value), digits)}` : DASH);
const short = new Intl.NumberFormat("en-US", { notation: "compact", maximumSignificantDigits: 4 });
/** Money to four digits: $33.48M. */
export const shortMoney = (value) => (known(value) ? `${value < 0 ? "-" : ""}$${short.format(Math.abs(value))}` : DASH);
export const whole = (value) => number(value, 0);
export const text = (value) => (known(value) && value !== "" ? String(value) : DASH);

/** The class of a number that is good when positive. */
export const tone = (value) => (!known(value) || value === 0 ? "" : value > 0 ? "good" : "bad");

/** A moment in UTC, to the minute. */
export const moment = (value) =>
  known(value) ? String(value).replace("T", " ").slice(0, 16) : DASH;

/** How long ago a moment was. */
export function ago(value, now = Date.now()) {
  if (!known(value)) return DASH;
  const seconds = Math.max(0, (now - Date.parse(value)) / 1000);
  if (seconds < 90) return `${Math.round(seconds)} s ago`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min ago`;
  if (seconds < 129600) return `${Math.round(seconds / 3600)} h ago`;
  return `${Math.round(seconds / 86400)} d ago`;
}
