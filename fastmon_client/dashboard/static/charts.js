// Rate and lag of the last 15 minutes, drawn by uPlot, with a summary in words.

import uPlot from "./uplot/uPlot.esm.js";
import { setText } from "./table.js";
import { lag } from "./formatting.js";

const HEIGHT = 170;
const MIN_SPAN_S = 120;
const utc = (seconds, end) => new Date(seconds * 1000).toISOString().slice(11, end);
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

class Chart {
  constructor(place, series) {
    this.place = place;
    this.series = series;
    this.data = [[], ...series().map(() => [])];
    this.from = Infinity;
    new ResizeObserver(() => this.plot?.setSize({ width: place.clientWidth, height: HEIGHT })).observe(place);
    document.addEventListener("themechange", () => this.draw());
    this.draw();
  }

  draw() {
    this.plot?.destroy();
    const axis = { stroke: colour("--muted"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui" };
    const options = {
      width: this.place.clientWidth,
      height: HEIGHT,
      padding: [8, 28, 0, 0],
      cursor: { show: false },
      legend: { show: false },
      scales: { x: { range: (_plot, _first, last) => [Math.min(this.from, last - MIN_SPAN_S), last] }, y: { range: (_plot, _low, high) => [0, Math.max(1, high * 1.1)] } },
      axes: [{ ...axis, size: 28, space: 72, values: (_plot, ticks, _axis, _space, step) => ticks.map((at) => utc(at, step < 60 ? 19 : 16)) }, { ...axis, size: 44 }],
      series: [{}, ...this.series()],
    };
    this.plot = new uPlot(options, this.data, this.place);
  }

  // Start at the first value, but show at least two minutes.
  show(data, lead = 0) {
    this.data = data;
    this.from = (data[0].find((_, place) => data.slice(1).some((values) => values[place])) ?? Infinity) - lead;
    this.plot.setData(data);
  }
}

export class Charts {
  constructor() {
    this.rate = new Chart(document.getElementById("rate"), () => [
      { stroke: colour("--accent"), fill: colour("--accent-soft"), width: 1.5, points: { show: false }, paths: uPlot.paths.stepped({ align: -1 }) },
    ]);
    this.lag = new Chart(document.getElementById("lag"), () => [
      { stroke: colour("--accent"), width: 1.5, points: { show: false } },
      { stroke: colour("--warn"), width: 1.5, dash: [5, 3], points: { show: false } },
    ]);
  }

  show(snapshot) {
    const { bin_s: bin, ends_at: ends, tf_files: counts } = snapshot.rates;
    const end = Date.parse(ends) / 1000;
    const rates = counts.slice(0, -1).map((count) => count / bin); // without the incomplete last bin
    this.rate.show([rates.map((_, place) => end - (rates.length - place) * bin), rates], bin);
    const top = Math.max(0, ...rates);
    setText(document.getElementById("rate-text"), `Current ${(rates.at(-1) ?? 0).toFixed(1)}, maximum ${top.toFixed(1)}; bins of ${bin} s.`);
    const lags = snapshot.lags;
    this.lag.show([lags.map((at) => at[0]), lags.map((at) => at[1]), lags.map((at) => at[2])]);
    const newest = lags.at(-1) ?? [0, null, null];
    setText(document.getElementById("lag-text"), `Median ${lag(newest[1])} (solid), 95th percentile ${lag(newest[2])} (dashed).`);
  }
}
