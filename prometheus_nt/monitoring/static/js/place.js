/** Where a reader is on a panel, so that drawing it again does not take them away from there. */

const rowsWithin = (host) => [...host.querySelectorAll("tr[data-key]")];

/** @returns {() => void} puts everything that scrolls, and the row that has the focus, back */
export function remember(host) {
  const tops = [...host.querySelectorAll(".scroll")].map((one) => one.scrollTop);
  const [top, key] = [host.scrollTop, document.activeElement?.dataset?.key];
  const within = key !== undefined && host.contains(document.activeElement);
  return () => {
    host.scrollTop = top;
    [...host.querySelectorAll(".scroll")].forEach((one, i) => { one.scrollTop = tops[i] ?? 0; });
    if (within) rowsWithin(host).find((row) => row.dataset.key === key)?.focus({ preventScroll: true });
  };
}
