// A run beside a run that was good: rate, lag, missing STFs and size, minute by minute since the start.

import { age, lag, rate, size, visible } from "./formatting.js";
import { make, setAttribute, setText } from "./table.js";
import { getJson } from "./requests.js";

const HEIGHT = 130;
const READING_MS = 2000;
const REFRESH_MS = 60000;
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const percent = (part) => `${(100 * part).toFixed(1)} %`;

const CHARTS = [
  { name: "rate_hz", title: "TF files per second", show: rate, tick: rate },
  { name: "lag_s", title: "Lag: STF registered to its last TF file", show: lag, tick: (seconds) => `${seconds} s` },
  { name: "missing", title: "Missing STFs", show: percent, tick: (part) => `${Math.round(100 * part)} %` },
  { name: "size_bytes", title: "Size of the TF files of an STF", show: size, tick: size },
];

let uPlot = null; // the largest file: loaded when there is something to draw

class Chart {
  constructor(kind, place) {
    this.kind = kind;
    this.figure = make("div", { class: "plot", role: "img", "aria-label": `${kind.title}: not known yet` });
    this.words = make("span", { class: "now" });
    place.append(make("div", { class: "chart" }, make("div", { class: "head" }, make("h3", {}, kind.title), this.words), this.figure));
    new ResizeObserver(() => this.figure.clientWidth && this.plot?.setSize({ width: this.figure.clientWidth, height: HEIGHT })).observe(this.figure);
    document.addEventListener("themechange", () => this.draw());
  }

  show(now, good) {
    const column = (profile, count) => Array.from({ length: count }, (_, place) => profile?.points[place]?.[this.kind.name] ?? null);
    const count = Math.max(now.points.length, good?.points.length ?? 0);
    const minutes = Array.from({ length: count }, (_, place) => place);
    this.data = [minutes, column(now, count), column(good, count)];
    const place = now.points.length - 1;
    const shown = (profile) => (profile?.points[place]?.[this.kind.name] ?? null) === null ? "unknown" : this.kind.show(profile.points[place][this.kind.name]);
    const words = place < 0 ? "-" : `${shown(now)}${good ? ` (${shown(good)})` : ""}`;
    setText(this.words, words);
    setAttribute(this.figure, "aria-label", `${this.kind.title}: ${place < 0 ? "not known yet" : `after ${age((place + 1) * now.step_s)} ${words}`}`);
    this.draw();
  }

  draw() {
    this.plot?.destroy();
    this.plot = null;
    if (!this.data?.[0].length || !this.figure.isConnected) return;
    const axis = { stroke: colour("--muted"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui" };
    const options = {
      width: this.figure.clientWidth,
      height: HEIGHT,
      padding: [8, 24, 0, 0],
      cursor: { show: false },
      legend: { show: false },
      scales: { x: { time: false }, y: { range: (_plot, _low, high) => [0, (high ?? 0) * 1.1 || 1] } },
      axes: [{ ...axis, size: 24, space: 56, values: (_plot, ticks) => ticks.map((minute) => `${minute} min`) }, { ...axis, size: 60, space: 32, values: (_plot, ticks) => ticks.map(this.kind.tick) }],
      series: [
        {},
        { stroke: colour("--accent"), width: 1.5, points: { show: this.data[0].length < 3 } },
        { stroke: colour("--second"), width: 1.5, dash: [5, 3], points: { show: this.data[0].length < 3 } },
      ],
    };
    this.plot = new uPlot(options, this.data, this.figure);
  }
}

export class Reference {
  constructor(address) {
    this.address = address;
    this.input = make("input", { id: "reference-run", type: "text", inputmode: "numeric", maxlength: "9", autocomplete: "off", placeholder: "Run", "aria-label": "Reference run" });
    this.none = make("button", { type: "button", class: "quiet" }, "No reference");
    this.note = make("p", { class: "muted breakable", role: "status" });
    this.charts = make("div", { id: "reference-charts" });
    const form = make("form", { class: "filters" }, this.input, make("button", { type: "submit" }, "Compare"), this.none);
    this.element = make("section", { class: "reference" }, make("div", { class: "head" }, make("h2", {}, "Compared with a reference run"), form), this.note, this.charts);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      address.set({ ref: this.input.value.trim() });
    });
    this.none.addEventListener("click", () => address.set({ ref: "" }));
    this.kinds = null;
  }

  // While somebody types, the page around it is not drawn again.
  get isInUse() {
    return document.activeElement === this.input;
  }

  // Called often; the tables are asked when the runs are others, or after a while.
  show({ run, ref }) {
    if (!this.isInUse) this.input.value = ref;
    this.none.hidden = !ref;
    this.charts.hidden = !ref;
    if (!ref) {
      this.asked = null;
      setText(this.note, "Choose a run that was good: nothing is judged without one.");
      return;
    }
    const key = JSON.stringify([run, ref]);
    if (this.asked === key && performance.now() < this.due) return;
    if (this.asked !== key) {
      setText(this.note, `Reading run ${visible(ref)}.`);
      this.kinds = null;
      this.charts.replaceChildren();
    }
    this.asked = key;
    this.due = performance.now() + REFRESH_MS;
    this.fetch(run, ref, key);
  }

  async fetch(run, ref, key) {
    let now = null;
    let good = null;
    try {
      good = await getJson(`api/runs/${encodeURIComponent(ref)}/profile`);
    } catch (error) {
      if (key === this.asked) setText(this.note, `Reference run ${visible(ref)} is not to be had: ${visible(error.message)}`);
    }
    try {
      if (good) now = await getJson(`api/runs/${encodeURIComponent(run)}/profile`);
    } catch (error) {
      if (key === this.asked) setText(this.note, `This run is not to be had: ${visible(error.message)}`);
    }
    if (key !== this.asked || !now) return;
    const left = now.to_read + good.to_read;
    if (left) setTimeout(() => this.element.isConnected && key === this.asked && this.fetch(run, ref, key), READING_MS);
    setText(this.note, inWords(now, good, left));
    if (!good.points.length) return;
    try {
      uPlot ??= (await import("./uplot/uPlot.esm.js")).default;
    } catch {
      this.due = performance.now() + READING_MS;
      return;
    }
    this.kinds ??= CHARTS.map((kind) => new Chart(kind, this.charts));
    for (const chart of this.kinds) chart.show(now, good);
  }
}

function inWords(now, good, left) {
  if (left) return `Reading: ${now.read + good.read} of ${now.read + good.read + left} STFs.`;
  if (!good.points.length) return `Reference run ${visible(good.run)} is not to be had: the monitor has no STFs of it.`;
  const parts = [now, good].filter((each) => each.one_of > 1).map((each) => `of run ${visible(each.run)} one of ${each.one_of} STFs is read`);
  const shorter = now.points.length > good.points.length ? [`run ${visible(good.run)} lasted ${age(good.points.length * good.step_s)} only`] : [];
  return [`Solid: run ${visible(now.run)}; dashed, and in brackets at the same minute: run ${visible(good.run)}`, ...parts, ...shorter].join("; ");
}
