/** Charts by Plotly, from this server, in the colours of the theme; loaded when first needed. */

import { h } from "./dom.js";

let loading = null;
let drawn = [];

function plotly() {
  loading ??= new Promise((done, fail) => {
    const script = h("script", { src: "/static/vendor/plotly.min.js" });
    script.onload = () => done(window.Plotly);
    script.onerror = () => fail(new Error("the chart library cannot be read"));
    document.head.append(script);
  });
  return loading;
}

export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
export const hue = (index) => colour(`hue-${index % 8}`);

const plain = () => ({ gridcolor: colour("rule"), zerolinecolor: colour("rule"), linecolor: colour("rule"), automargin: true });

/**
 * A chart.
 * @param {string} label  what it shows, for those who do not see it
 * @param {object[]} traces  Plotly traces
 * @param {{layout?: object, size?: "low" | "high"}} [options]
 */
export function chart(label, traces, { layout = {}, size = "" } = {}) {
  const host = h(`div.plot${size ? `.${size}` : ""}`, { role: "img", "aria-label": label });
  const full = {
    margin: { l: 52, r: 14, t: 8, b: 34 }, paper_bgcolor: "transparent", plot_bgcolor: "transparent",
    font: { family: "system-ui, sans-serif", size: 12, color: colour("muted") }, hovermode: "x unified",
    hoverlabel: { bgcolor: colour("raised"), bordercolor: colour("rule"), font: { color: colour("ink") } },
    legend: { orientation: "h", y: 1.08 }, colorway: [0, 1, 2, 3, 4, 5, 6, 7].map(hue), showlegend: traces.length > 1,
    ...layout, xaxis: { ...plain(), ...layout.xaxis }, yaxis: { ...plain(), ...layout.yaxis },
  };
  const options = { displaylogo: false, responsive: true, displayModeBar: false, doubleClick: "reset" };
  plotly().then((library) => host.isConnected !== false && draw(library, host, traces, full, options))
    .catch((error) => host.replaceChildren(h("div.failed", error.message)));
  return host;
}

/** Draw, and let go of the charts that are on the page no longer: each listens to the window's size. */
function draw(library, host, ...how) {
  drawn.filter((one) => !one.isConnected).forEach((one) => library.purge(one));
  drawn = [...drawn.filter((one) => one.isConnected), host];
  return library.newPlot(host, ...how);
}

/** A line over dates. */
export const line = (name, x, y, more = {}) => ({ type: "scatter", mode: "lines", name, x, y, line: { width: 1.6 }, ...more });
