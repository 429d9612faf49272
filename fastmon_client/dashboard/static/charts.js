// Rate and lag over the last quarter of an hour, drawn by uPlot; each is said in words as well.

import uPlot from "./uplot/uPlot.esm.js";
import { setText } from "./table.js";
import { lag } from "./words.js";

const HEIGHT = 170;
const SHOWN_S = 900;
const utc = (seconds) => new Date(seconds * 1000).toISOString().slice(11, 16);
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

class Chart {
  constructor(place, series) {
    this.place = place;
    this.series = series;
    this.data = [[], ...series().map(() => [])];
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
      cursor: { show: false },
      legend: { show: false },
      scales: { x: { range: (_plot, _first, last) => [last - SHOWN_S, last] }, y: { range: (_plot, _low, high) => [0, Math.max(1, high * 1.1)] } },
      axes: [{ ...axis, size: 28, values: (_plot, ticks) => ticks.map(utc) }, { ...axis, size: 44 }],
      series: [{}, ...this.series()],
    };
    this.plot = new uPlot(options, this.data, this.place);
  }

  show(data) {
    this.data = data;
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
    const rates = counts.map((count) => count / bin);
    this.rate.show([counts.map((_, place) => end - (counts.length - 1 - place) * bin), rates]);
    const top = Math.max(0, ...rates);
    setText(document.getElementById("rate-said"), `Now ${(rates.at(-2) ?? 0).toFixed(1)}, highest ${top.toFixed(1)}; in steps of ${bin} s.`);
    const lags = snapshot.lags;
    this.lag.show([lags.map((at) => at[0]), lags.map((at) => at[1]), lags.map((at) => at[2])]);
    const newest = lags.at(-1) ?? [0, null, null];
    setText(document.getElementById("lag-said"), `Half of the TF files within ${lag(newest[1])} (line), 95 % within ${lag(newest[2])} (dashed).`);
  }
}
