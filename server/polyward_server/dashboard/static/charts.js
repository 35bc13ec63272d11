// Curves by uPlot. A figure's data lie in the page as JSON: {x, y: [{label, values, place?}], xLabel, yLabel,
// zero?}; `place` is the same for the same site in every chart, and so is its colour.
// A value that is absent is a gap. Lines differ in colour and in dashes, and few of them bear their names themselves.
"use strict";

const drawn = new Map(); // element id -> {plot, host, labels}
const HEIGHT = 224;
const NAMED = 8; // lines that are named at their ends; more would hide each other
const DASHES = [[], [8, 3], [2, 3], [10, 3, 2, 3]];
const COLOURS = { // of nearly equal weight, told apart by people who do not see red or green (after Okabe and Ito)
  light: ["#0072b2", "#c25400", "#00795c", "#a8477f", "#7a6400", "#4b57b8", "#8a3b12", "#3f6b7a"],
  dark: ["#5ab4ee", "#ff9d4d", "#3ecfa6", "#f08fc4", "#e2c94e", "#a3acff", "#e59a74", "#9cc7d6"],
};

function isDark() {
  return (document.documentElement.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
}

function ink(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function alone(plot, series, show) { // places that stand between two gaps, where no line can be seen
  if (show) return null;
  const values = plot.data[series];
  return values.flatMap((v, i) => (v != null && values[i - 1] == null && values[i + 1] == null ? [i] : []));
}

// The names of lines beside their last points, moved apart where they would touch.
function names(plot) {
  const context = plot.ctx, scale = devicePixelRatio, size = 11 * scale;
  const ends = plot.series.slice(1).flatMap((series, i) => {
    if (!series.show) return [];
    const values = plot.data[i + 1];
    let last = values.length - 1;
    while (last >= 0 && values[last] == null) last -= 1;
    if (last < 0) return [];
    return [{ text: series.label.replace(/ \(n \d+\)$/, ""), colour: series.stroke(), y: plot.valToPos(values[last], "y", true) }];
  }).sort((a, b) => a.y - b.y);
  ends.forEach((end, i) => { if (i) end.y = Math.max(end.y, ends[i - 1].y + size * 1.15); });
  const over = ends.length ? ends.at(-1).y - (plot.bbox.top + plot.bbox.height) : 0;
  context.save();
  context.font = `${size}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  context.textAlign = "left";
  for (const end of ends) {
    context.fillStyle = end.colour;
    context.fillText(end.text, plot.bbox.left + plot.bbox.width + 6 * scale, end.y - Math.max(0, over), 88 * scale);
  }
  context.restore();
}

function options(chart, width) {
  const colours = COLOURS[isDark() ? "dark" : "light"];
  const axis = { stroke: ink("--muted"), grid: { stroke: ink("--line"), width: 1 }, ticks: { stroke: ink("--line"), width: 1 }, font: "12px system-ui", labelFont: "12px system-ui", labelSize: 18 };
  const named = chart.y.length > 1 && chart.y.length <= NAMED && width > 380;
  return {
    width,
    height: HEIGHT,
    padding: [10, named ? 92 : 12, 0, 0],
    scales: {
      x: { time: false, range: (_, low, high) => (low === high ? [low - 1, high + 1] : [low, high]) },
      y: { range: (_, low, high) => (low == null ? [0, 1] : uPlot.rangeNum(chart.zero ? Math.min(0, low) : low, chart.zero ? Math.max(0, high) : high, 0.08, chart.zero)) },
    },
    axes: [
      { ...axis, label: chart.xLabel, size: 32, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000] },
      { ...axis, label: chart.yLabel, size: 48 },
    ],
    series: [{ label: chart.xLabel, value: (_, v) => (v == null ? "" : v) }, ...chart.y.map(({ label, place }, i) => {
      const at = place ?? i, colour = colours[at % colours.length];
      return {
        label,
        stroke: colour,
        width: 2,
        dash: DASHES[(at + Math.floor(at / colours.length)) % DASHES.length],
        points: { show: chart.x.length < 2, size: 6, filter: alone, fill: colour },
        spanGaps: false,
        value: (_, v) => (v == null ? "" : v.toPrecision(4)), // nothing, until somebody points at a round
      };
    })],
    legend: { show: true, live: chart.y.length <= NAMED },
    cursor: { focus: { prox: 24 }, y: false },
    focus: { alpha: 0.25 },
    hooks: named ? { draw: [names] } : {},
  };
}

function place(chart, element) {
  const data = [chart.x, ...chart.y.map((line) => line.values)];
  const plot = new uPlot(options(chart, element.clientWidth || 320), data, element);
  if (chart.y.length > NAMED) plot.root.querySelector(".u-legend").tabIndex = 0; // a long one is scrolled, by keys too
  drawn.set(element.id, { plot, host: element, labels: labels(chart) });
}

function labels(chart) { // what a plot is made for
  return JSON.stringify([chart.yLabel, ...chart.y.map((line) => [line.label, line.place])]);
}

function drawCharts(where, anew = false) {
  for (const element of where.querySelectorAll("[data-chart]")) {
    const known = drawn.get(element.id);
    if (known && known.host === element && !anew) continue;
    if (known) known.plot.destroy();
    place(JSON.parse(element.dataset.chart), element);
  }
}

// A chart that only has new points keeps its canvas, so that nothing flickers under the reader's eyes.
function keepCharts(before, after) {
  for (const element of after.querySelectorAll("[data-chart]")) {
    const known = drawn.get(element.id);
    if (!known || !before.contains(known.host)) continue;
    const chart = JSON.parse(element.dataset.chart);
    if (labels(chart) !== known.labels) continue;
    if (known.host.dataset.chart !== element.dataset.chart) {
      known.host.dataset.chart = element.dataset.chart;
      known.plot.setData([chart.x, ...chart.y.map((line) => line.values)]);
    }
    element.replaceWith(known.host);
  }
}

let resizing = 0;
addEventListener("resize", () => {
  clearTimeout(resizing);
  resizing = setTimeout(() => drawCharts(document, true), 150);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawCharts(document, true));
