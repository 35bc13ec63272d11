// Curves by uPlot. A figure's data lie in the page as JSON: {x, y: [{label, values, low?, high?}], xLabel, yLabel}.
"use strict";

const drawn = new Map(); // element id -> {plot, host, data}
const COLOURS = ["#0e7c86", "#d9652b", "#7a5ea8", "#3d8a4e", "#b5475d", "#8a6d1d", "#2f6fc4", "#a04a9c", "#5b7282", "#c0392b"];

function ink(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function options(chart, width) {
  const axis = { stroke: ink("--muted"), grid: { stroke: ink("--line"), width: 1 }, ticks: { stroke: ink("--line") }, font: "12px system-ui" };
  return {
    width,
    height: 220,
    scales: { x: { time: false } },
    axes: [
      { ...axis, label: chart.xLabel, labelFont: "12px system-ui", incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000] },
      { ...axis, label: chart.yLabel, labelFont: "12px system-ui", size: 58 },
    ],
    series: [{ label: chart.xLabel }, ...chart.y.map((line, i) => ({
      label: line.label,
      stroke: COLOURS[i % COLOURS.length],
      width: 2,
      dash: i >= COLOURS.length ? [6, 4] : undefined,
      points: { show: chart.x.length < 30 },
      spanGaps: true,
      value: (_, v) => (v == null ? "–" : v.toPrecision(4)),
    }))],
    cursor: { focus: { prox: 24 } },
    focus: { alpha: 0.25 },
  };
}

function drawCharts(where, anew = false) {
  for (const element of where.querySelectorAll("[data-chart]")) {
    const chart = JSON.parse(element.dataset.chart);
    const data = [chart.x, ...chart.y.map((line) => line.values)];
    const known = drawn.get(element.id);
    if (known && known.host === element && !anew) continue;
    if (known) known.plot.destroy();
    const plot = new uPlot(options(chart, element.clientWidth || 320), data, element);
    drawn.set(element.id, { plot, host: element, labels: chart.y.map((line) => line.label).join("\n") });
  }
}

// A chart that only has new points keeps its canvas, so that nothing flickers under the reader's eyes.
function keepCharts(before, after) {
  for (const element of after.querySelectorAll("[data-chart]")) {
    const known = drawn.get(element.id);
    if (!known || !before.contains(known.host)) continue;
    const chart = JSON.parse(element.dataset.chart);
    if (chart.y.map((line) => line.label).join("\n") !== known.labels) continue;
    known.host.dataset.chart = element.dataset.chart;
    known.plot.setData([chart.x, ...chart.y.map((line) => line.values)]);
    element.replaceWith(known.host);
  }
}

let resizing = 0;
addEventListener("resize", () => {
  clearTimeout(resizing);
  resizing = setTimeout(() => {
    for (const { plot, host } of drawn.values()) plot.setSize({ width: host.clientWidth || 320, height: 220 });
  }, 150);
});
