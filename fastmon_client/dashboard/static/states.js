// The lifecycle of an STF, with how many are where: those of the daemon's last summaries, and its backlog now.

import { getJson } from "./requests.js";
import { visible } from "./formatting.js";
import { make, setText } from "./table.js";

const SVG = "http://www.w3.org/2000/svg";
// State -> place of its box; the arrows are those of statecharts/stf.yaml, which a test compares.
const STATES = {
  received: [20, 112], sampled: [235, 112], tf_registered: [450, 112], notified: [665, 112], completed: [880, 112],
  skipped: [20, 12], failed: [450, 224], discarded: [880, 224],
};
export const ARROWS = [
  ["received", "sampled", "sample_tfs"], ["sampled", "tf_registered", "register_tfs"], ["tf_registered", "notified", "notify_clients"],
  ["notified", "completed", "close_stf"], ["received", "skipped", "skip"], ["failed", "discarded", "discard"],
  ["received", "failed", "fail"], ["sampled", "failed", "fail"], ["tf_registered", "failed", "fail"], ["notified", "failed", "fail"],
  ["failed", "received", "retry"], ["skipped", "received", "include"],
];
const MEANINGS = {
  received: "its message is stored", sampled: "its TFs are chosen", tf_registered: "the monitor has its TF files",
  notified: "its TF files are announced", completed: "all work is done", skipped: "not selected",
  failed: "an operator must look", discarded: "given up by an operator",
};
const WIDTH = 130;
const HEIGHT = 52;

function svg(name, attributes, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

export const create = (_view, place) => new StatesView(place);

class StatesView {
  constructor(place) {
    this.place = place;
    this.counts = new Map();
    this.note = make("p", { class: "muted" });
    this.words = make("ul", { class: "names" });
    place.replaceChildren(make("section", {}, make("h2", {}, "Lifecycle of an STF"), make("div", { class: "wide", role: "region", "aria-label": "Diagram", tabindex: "0" }, this.diagram()), this.note),
      make("section", {}, make("h2", {}, "In words"), this.words));
  }

  async open() {
    document.getElementById("main").focus({ preventScroll: true });
    this.summaries = (await getJson("api/summaries")).summaries;
  }

  show(snapshot) {
    if (!this.summaries) return;
    const of = (name) => this.summaries.reduce((sum, each) => sum + (Number.isInteger(each[name]) ? each[name] : 0), 0);
    const isKnown = this.summaries.length > 0;
    const { backlog, agents } = snapshot.tiles.daemon;
    const done = agents.map((each) => each.completed).filter((each) => Number.isInteger(each));
    for (const name of ["completed", "skipped", "failed", "discarded"]) setText(this.counts.get(name), isKnown ? `${of(name)}` : "?");
    if (done.length) setText(this.counts.get("completed"), `${done.reduce((sum, each) => sum + each, 0)}`);
    const runs = this.summaries.map((each) => visible(each.run)).join(", ");
    setText(this.counts.get("unfinished"), backlog === null ? "unfinished: ?" : `unfinished: ${backlog}`);
    setText(this.note, `${done.length ? "Unfinished and completed: as the daemon reports" : "Unfinished: the backlog that the daemon reports"} with its heart-beat. ${done.length ? "The others" : "Finished"}: ${isKnown ? `as in its summaries of ${this.summaries.length === 1 ? "run" : "runs"} ${runs}` : "no summary of a run was heard since this client started"}.`);
    const lines = [...Object.entries(MEANINGS).map(([name, meaning]) => `${name}: ${meaning}${this.counts.has(name) ? `; ${this.counts.get(name).textContent}` : ""}`), this.counts.get("unfinished").textContent];
    if (this.words.textContent !== lines.join("")) this.words.replaceChildren(...lines.map((line) => make("li", {}, line)));
  }

  diagram() {
    const picture = svg("svg", { viewBox: "0 0 1030 290", class: "states", role: "img", "aria-label": "States and transitions of an STF; the list below has the same in words" });
    picture.append(svg("defs", {}, svg("marker", { id: "tip", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto-start-reverse" }, svg("path", { d: "M0 0L8 4L0 8z" }))));
    picture.append(svg("rect", { class: "group", x: 8, y: 86, width: 799, height: 92, rx: 12 }));
    const unfinished = svg("text", { x: 795, y: 103, class: "count", "text-anchor": "end" });
    this.counts.set("unfinished", unfinished);
    picture.append(unfinished, ...ARROWS.map(arrow), ...Object.entries(STATES).map(([name, at]) => this.box(name, at)));
    return picture;
  }

  box(name, [x, y]) {
    const label = svg("text", { x: x + WIDTH / 2, y: y + (this.isCounted(name) ? 22 : 31), "text-anchor": "middle", class: "label" });
    label.append(name);
    const group = svg("g", { class: `state ${name}` }, svg("rect", { x, y, width: WIDTH, height: HEIGHT, rx: 8 }), label);
    if (this.isCounted(name)) {
      const count = svg("text", { x: x + WIDTH / 2, y: y + 42, "text-anchor": "middle", class: "count" });
      this.counts.set(name, count);
      group.append(count);
    }
    return group;
  }

  isCounted(name) {
    return ["completed", "skipped", "failed", "discarded"].includes(name);
  }
}

function arrow([from, to, trigger]) {
  const [x, y] = STATES[from];
  const [u, v] = STATES[to];
  const middle = WIDTH / 2;
  let d = `M${x + WIDTH} ${y + HEIGHT / 2}H${u}`;
  let label = [(x + WIDTH + u) / 2, y + HEIGHT / 2 - 6];
  if (trigger === "skip") [d, label] = [`M${x + 45} ${y}V${v + HEIGHT}`, null];
  else if (trigger === "include") [d, label] = [`M${x + 85} ${y + HEIGHT}V${v}`, null];
  else if (trigger === "fail") [d, label] = [`M${x + middle} ${y + HEIGHT}L${u + middle + (x - u) / 6} ${v}`, null];
  else if (trigger === "retry") [d, label] = [`M${x} ${y + HEIGHT / 2}H${u + 30}V${v + HEIGHT}`, [u + 190, y + HEIGHT / 2 - 6]];
  const parts = [svg("path", { d, class: `arrow ${trigger}`, "marker-end": "url(#tip)" })];
  if (label) {
    const text = svg("text", { x: label[0], y: label[1], "text-anchor": "middle", class: "trigger" });
    text.append(trigger);
    parts.push(text);
  }
  return svg("g", {}, ...parts);
}
