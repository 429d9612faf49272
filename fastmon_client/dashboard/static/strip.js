// The STFs of a run, one cell each. Each kind has its own shape, and a caption repeats the strip in words.

import { spans, visible } from "./formatting.js";
import { make, setText } from "./table.js";
import { runLink, stfLink } from "./address.js";

const WIDTH = 6;
const HEIGHT = 14;
const ROW = 20;
const LABEL = 56;
const SVG = "http://www.w3.org/2000/svg";

const box = (x, y, w, h) => `M${x} ${y}h${w}v${h}h${-w}z`;

const SHAPES = {
  present: (x, y) => box(x, y, WIDTH - 1, HEIGHT),
  recovered: (x, y) => box(x, y, WIDTH - 1, HEIGHT) + box(x + 1.25, y + 1.25, WIDTH - 3.5, HEIGHT - 2.5),
  incomplete: (x, y) => box(x, y + HEIGHT / 2, WIDTH - 1, HEIGHT / 2),
  skipped: (x, y) => box(x + 1.5, y + HEIGHT - 3, 2, 3),
  unknown: (x, y) => box(x, y + HEIGHT / 2 - 1.5, WIDTH - 1, 3),
  missing: (x, y) => `M${x} ${y}l${WIDTH - 1} ${HEIGHT}M${x + WIDTH - 1} ${y}l${1 - WIDTH} ${HEIGHT}`,
};
const MEANING = {
  present: "all TF files present",
  recovered: "late, or backfilled from the monitor",
  incomplete: "some TF files missing",
  skipped: "not selected",
  unknown: "absent, selection unknown",
  missing: "selected, but absent",
};

function svg(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

export function showLegend(list) {
  for (const kind of Object.keys(SHAPES)) {
    const item = document.createElement("li");
    const picture = svg("svg", { width: WIDTH, height: HEIGHT, "aria-hidden": "true", class: "cells" });
    picture.append(svg("path", { class: kind, d: SHAPES[kind](0, 0), "fill-rule": "evenodd" }));
    item.append(picture, ` ${kind}: ${MEANING[kind]}`);
    list.append(item);
  }
}

export class Strips {
  // Without titles where the page is about one run.
  constructor(place, address, { isTitled = true } = {}) {
    this.place = place;
    this.address = address;
    this.isTitled = isTitled;
    this.shown = new Map();
    this.runs = [];
    new ResizeObserver(() => this.show(this.runs)).observe(place);
  }

  show(runs) {
    this.runs = runs.filter((run) => run.strip.length);
    const names = new Set(this.runs.map((run) => run.run));
    for (const [name, figure] of this.shown) {
      if (!names.has(name)) {
        figure.remove();
        this.shown.delete(name);
      }
    }
    this.runs.forEach((run, number) => {
      const figure = this.shown.get(run.run) ?? this.newFigure(run.run);
      if (this.place.children[number] !== figure) this.place.insertBefore(figure, this.place.children[number] ?? null);
      draw(figure, run, this.place.clientWidth);
    });
  }

  newFigure(name) {
    const title = this.isTitled ? make("h3", { class: "clip" }, make("a", { href: runLink(name), "data-nav": true }, `Run ${visible(name)}`)) : null;
    const picture = svg("svg", { role: "img", class: "cells" });
    const figure = make("figure", {}, title, picture, make("figcaption"));
    picture.addEventListener("click", (event) => this.open(name, picture, event));
    this.shown.set(name, figure);
    return figure;
  }

  // The cells are small: a click opens the STF under it, and the caption lists by number what is to be looked at.
  open(name, picture, event) {
    const { left, top } = picture.getBoundingClientRect();
    const { cells, perRow } = picture.layout ?? {};
    const column = Math.floor((event.clientX - left - LABEL) / WIDTH);
    const cell = column >= 0 && column < perRow ? cells[Math.floor((event.clientY - top) / ROW) * perRow + column] : null;
    if (cell && this.address) this.address.go(stfLink(name, `${cell.sequence}`));
  }
}

function draw(figure, run, width) {
  const drawn = JSON.stringify([run.strip, width]);
  if (figure.dataset.drawn === drawn) return;
  figure.dataset.drawn = drawn;
  const picture = figure.querySelector("svg");
  const caption = inWords(run.strip);
  setText(figure.querySelector("figcaption"), caption);
  const cells = run.strip.flatMap(([first, last, kind]) =>
    Array.from({ length: last - first + 1 }, (_, number) => ({ sequence: first + number, kind })),
  );
  const perRow = Math.max(10, Math.floor((width - LABEL) / WIDTH / 10) * 10);
  const rows = Math.ceil(cells.length / perRow);
  picture.layout = { cells, perRow };
  picture.setAttribute("width", LABEL + Math.min(perRow, cells.length) * WIDTH);
  picture.setAttribute("height", rows * ROW);
  picture.setAttribute("aria-label", `Run ${visible(run.run)}: ${caption}`);
  picture.replaceChildren(...labels(cells, perRow, rows), ...paths(cells, perRow));
}

function labels(cells, perRow, rows) {
  return Array.from({ length: rows }, (_, row) => {
    const text = svg("text", { x: LABEL - 8, y: row * ROW + HEIGHT - 2, "text-anchor": "end" });
    text.textContent = `${cells[row * perRow].sequence}`;
    return text;
  });
}

function paths(cells, perRow) {
  const drawn = new Map();
  cells.forEach(({ kind }, place) => {
    const shape = SHAPES[kind];
    const at = shape(LABEL + (place % perRow) * WIDTH, Math.floor(place / perRow) * ROW);
    drawn.set(kind, (drawn.get(kind) ?? "") + at);
  });
  return [...drawn].map(([kind, d]) => svg("path", { class: kind, d, "fill-rule": "evenodd" }));
}

// "STFs 1-120: 114 present; 2 recovered (40-41); 3 missing (12, 15-16)". Good kinds have no numbers.
function inWords(strip) {
  const parts = Object.keys(SHAPES).flatMap((kind) => {
    const own = strip.filter((span) => span[2] === kind);
    const count = own.reduce((sum, [first, last]) => sum + last - first + 1, 0);
    if (!count) return [];
    const named = kind === "present" || kind === "skipped" ? "" : ` (${spans(own)})`;
    return [`${count} ${kind}${named}`];
  });
  return `STFs ${strip[0][0]}-${strip.at(-1)[1]}: ${parts.join("; ")}`;
}
