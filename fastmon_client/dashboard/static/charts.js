// Rate, lag and missing STFs over time, drawn by uPlot, with outages, the boundaries of runs, and a summary in words.

import uPlot from "./uplot/uPlot.esm.js";
import { clock, lag, rate, visible } from "./formatting.js";
import { make, setAttribute, setText } from "./table.js";
import { getJson } from "./requests.js";

const HEIGHT = 150;
const MIN_SPAN_S = 120;
const RANGES = { "15m": "15 min", "1h": "1 h", "8h": "8 h", "24h": "24 h" };
const REFRESH_MS = { "15m": 5000, "1h": 15000, "8h": 60000, "24h": 60000 };
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const top = (values) => values.reduce((most, value) => Math.max(most, value ?? 0), 0);
const last = (values) => values.findLast((value) => value !== null);

const CHARTS = [
  {
    name: "rate", title: "TF files per second", columns: ["rate_hz"],
    series: () => [{ stroke: colour("--accent"), fill: colour("--accent-soft"), width: 1.5, points: { show: false }, paths: uPlot.paths.stepped({ align: 1 }) }],
    values: ([hz]) => (hz === null ? "-" : `${rate(hz)} / s`),
    words: ({ rate_hz: hz }) => `now ${rate(last(hz) ?? 0)}, maximum ${rate(top(hz))} TF files per second`,
  },
  {
    name: "lag", title: "Lag of the newest run", columns: ["lag_p50_s", "lag_p95_s"],
    series: () => [
      { stroke: colour("--accent"), width: 1.5, points: { show: false } },
      { stroke: colour("--second"), width: 1.5, dash: [5, 3], points: { show: false } },
    ],
    values: ([half, most]) => (half === null || half === undefined ? "-" : `${lag(half)} · 95 % ${lag(most)}`),
    words: ({ lag_p50_s: half, lag_p95_s: most }) => `median ${lag(last(half) ?? null)} (solid), 95 % within ${lag(last(most) ?? null)} (dashed)`,
  },
  {
    name: "missing", title: "Missing STFs", columns: ["missing"],
    series: () => [{ stroke: colour("--bad"), fill: colour("--bad-soft"), width: 1.5, points: { show: false }, paths: uPlot.paths.stepped({ align: 1 }) }],
    values: ([count]) => (count === null || count === undefined ? "-" : `${count}`),
    words: ({ missing }) => `now ${last(missing) ?? "unknown"}, maximum ${top(missing)}`,
  },
];

const axisTime = (_plot, ticks, _axis, _space, step) => ticks.map((at) => new Date(at * 1000).toISOString().slice(11, step < 60 ? 19 : 16));

class Chart {
  constructor(kind, place) {
    this.kind = kind;
    this.figure = make("div", { class: "plot", id: kind.name, role: "img", "aria-label": `${kind.title}: not known yet` });
    this.value = make("span", { class: "now" });
    this.words = make("p", { class: "unseen" });
    this.element = make("div", { class: "chart" }, make("div", { class: "head" }, make("h3", {}, kind.title), this.value), this.figure, this.words);
    place.append(this.element);
    this.data = null;
    new ResizeObserver(() => this.plot?.setSize({ width: this.figure.clientWidth, height: HEIGHT })).observe(this.figure);
    document.addEventListener("themechange", () => this.draw());
  }

  show(history) {
    const isNew = !this.data || this.data.range !== history.range;
    this.data = history;
    if (isNew) this.draw();
    else this.plot.setData(this.columns());
    const words = this.kind.words(history);
    setText(this.words, words);
    setAttribute(this.figure, "aria-label", `${this.kind.title}: ${words}`);
    this.read(null);
  }

  columns() {
    return [this.data.at, ...this.kind.columns.map((name) => this.data[name])];
  }

  // The values under the pointer, else the newest.
  read(place) {
    if (!this.data) return;
    const at = place ?? this.data.at.length - 1;
    const values = this.kind.columns.map((name) => (place === null ? last(this.data[name]) ?? null : this.data[name][at]));
    setText(this.value, place === null ? this.kind.values(values) : `${clock(new Date(this.data.at[at] * 1000))} · ${this.kind.values(values)}`);
  }

  // The last 15 minutes begin with the first value, but are two minutes at least.
  begin(first, end) {
    if (this.data.range !== "15m") return first;
    const place = this.data.at.findIndex((_, number) => this.kind.columns.some((name) => this.data[name][number] !== null));
    return place < 0 ? first : Math.min(this.data.at[place], end - MIN_SPAN_S);
  }

  draw() {
    if (!this.data) return;
    this.plot?.destroy();
    const axis = { stroke: colour("--muted"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui" };
    const options = {
      width: this.figure.clientWidth,
      height: HEIGHT,
      padding: [8, 28, 0, 0],
      cursor: { sync: { key: "time" }, points: { show: false }, y: false, drag: { x: false, y: false } },
      legend: { show: false },
      scales: { x: { range: (_plot, first, end) => [this.begin(first, end), end] }, y: { range: (_plot, _low, high) => [0, Math.max(1, (high ?? 0) * 1.1)] } },
      axes: [{ ...axis, size: 24, space: 64, values: axisTime }, { ...axis, size: 40, space: 32 }],
      series: [{}, ...this.kind.series()],
      hooks: { drawClear: [(plot) => this.marks(plot)], setCursor: [(plot) => this.read(plot.cursor.idx ?? null)] },
    };
    this.plot = new uPlot(options, this.columns(), this.figure);
  }

  // Outages are shaded, runs begin and end at lines.
  marks(plot) {
    const { ctx, bbox } = plot;
    const x = (at) => Math.min(bbox.left + bbox.width, Math.max(bbox.left, plot.valToPos(at, "x", true)));
    ctx.save();
    for (const [from, to, word] of this.data.outages) {
      ctx.fillStyle = colour(word === "UNKNOWN" ? "--shade" : "--bad-soft");
      const begin = x(from);
      ctx.fillRect(begin, bbox.top, Math.max(1, x(to ?? Infinity) - begin), bbox.height);
    }
    ctx.strokeStyle = colour("--muted");
    ctx.fillStyle = colour("--muted");
    ctx.lineWidth = devicePixelRatio;
    ctx.font = `${10 * devicePixelRatio}px system-ui`;
    let free = -Infinity;
    for (const [at, run, what] of [...this.data.boundaries].sort((a, b) => a[0] - b[0])) {
      const place = Math.round(plot.valToPos(at, "x", true)) + 0.5;
      if (place < bbox.left || place > bbox.left + bbox.width) continue;
      ctx.setLineDash(what === "start" ? [] : [3 * devicePixelRatio, 3 * devicePixelRatio]);
      ctx.beginPath();
      ctx.moveTo(place, bbox.top);
      ctx.lineTo(place, bbox.top + bbox.height);
      ctx.stroke();
      const label = visible(run).slice(0, 12);
      const width = ctx.measureText(label).width + 8 * devicePixelRatio;
      if (what === "start" && place > free && place + width < bbox.left + bbox.width) {
        ctx.fillText(label, place + 4 * devicePixelRatio, bbox.top + 10 * devicePixelRatio);
        free = place + width;
      }
    }
    ctx.restore();
  }
}

export class Charts {
  constructor(address) {
    const place = document.getElementById("charts");
    this.charts = CHARTS.map((kind) => new Chart(kind, place));
    this.note = place.appendChild(make("p", { class: "muted outages" }));
    this.fetchedAt = -Infinity;
    this.buttons = Object.entries(RANGES).map(([name, title]) => {
      const button = make("button", { type: "button", "data-range": name }, title);
      button.addEventListener("click", () => address.set({ range: name === "15m" ? "" : name }));
      return button;
    });
    document.getElementById("ranges").append(...this.buttons);
  }

  show(_snapshot, asked) {
    const range = asked in RANGES ? asked : "15m";
    for (const button of this.buttons) setAttribute(button, "aria-pressed", String(button.dataset.range === range));
    const isDue = performance.now() - this.fetchedAt >= REFRESH_MS[range];
    if (range !== this.range || isDue) this.fetch(range);
  }

  async fetch(range) {
    this.range = range;
    this.fetchedAt = performance.now();
    try {
      const history = await getJson(`api/history?range=${range}`);
      if (history.range !== this.range) return;
      for (const chart of this.charts) chart.show(history);
      setText(this.note, inWords(history));
    } catch {
      // the next snapshot asks again
    }
  }
}

function inWords({ outages, boundaries }) {
  const spans = outages.slice(-3).map(([from, to, word]) => `${word} ${clock(new Date(from * 1000))} to ${to === null ? "now" : clock(new Date(to * 1000))}`);
  const starts = boundaries.filter((each) => each[2] === "start").length;
  return [spans.length ? `${outages.length > 3 ? "Last outages" : "Outages"}: ${spans.join("; ")}` : "No outage", starts ? `${starts} run ${starts === 1 ? "start" : "starts"}` : ""].filter(Boolean).join(" · ");
}
