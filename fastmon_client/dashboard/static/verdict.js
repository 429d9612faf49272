// The verdict and the four tiles below it. Without events from its server, the page itself says UNKNOWN.

import { age, clock, moment, plural, rate, visible } from "./formatting.js";
import { chip, make, setAttribute, setText } from "./table.js";
import { runLink } from "./address.js";

export const SILENT_AFTER_S = 5;
const WORDS = { good: "OK", warning: "warning", bad: "alarm", unknown: "unknown" };
const NAMES = { flow: "Flow", missing: "Missing", daemon: "Daemon", monitor: "Monitor" };

// What the page says: the server's verdict, or that it has none.
export function verdictOf(snapshot, silentS, trouble) {
  const wait = trouble && trouble.at !== null ? `Next try in ${Math.max(0, Math.ceil((trouble.at - performance.now()) / 1000))} s.` : "";
  if (!snapshot) {
    if (!trouble && silentS < SILENT_AFTER_S) return { word: "UNKNOWN", since: null, reason: "Waiting for the first numbers.", remedy: "", state: "unknown", silent: false };
    return { word: "UNKNOWN", since: null, reason: `No data from the dashboard's server for ${age(silentS)}. ${trouble?.reason ?? ""}`, remedy: wait || "Check that fastmon-client dashboard is running.", state: "unknown", silent: true };
  }
  if (silentS > SILENT_AFTER_S) {
    const reason = `No data from the dashboard's server for ${age(silentS)}. ${trouble?.reason ?? ""} The numbers below are of ${clock(snapshot.at)}.`;
    return { word: "UNKNOWN", since: null, reason, remedy: trouble && trouble.at === null ? "Reload the page." : `Check that fastmon-client dashboard is running. ${wait}`, state: "unknown", silent: true };
  }
  return { ...snapshot.verdict, silent: false };
}

export class VerdictPanel {
  constructor() {
    this.place = document.getElementById("verdict");
    this.tiles = new Map(Object.entries(NAMES).map(([name, title]) => [name, tile(name, title)]));
    document.getElementById("tiles").append(...[...this.tiles.values()].map((each) => each.element));
    this.spoken = "UNKNOWN";
  }

  show(snapshot, silentS, trouble) {
    const verdict = verdictOf(snapshot, silentS, trouble);
    const kind = verdict.state in WORDS ? verdict.state : "unknown";
    setAttribute(document.body, "data-verdict", kind);
    document.body.classList.toggle("silent", verdict.silent);
    setText(document.getElementById("word"), verdict.word);
    const now = snapshot?.at;
    const lasting = verdict.since ? ` · for ${age((Date.parse(now) - Date.parse(verdict.since)) / 1000 + silentS)}` : "";
    setText(document.getElementById("since"), verdict.since ? `since ${moment(verdict.since, now)}${lasting}` : "");
    setText(document.getElementById("reason"), visible(verdict.reason));
    setText(document.getElementById("remedy"), visible(verdict.remedy));
    this.place.querySelector(".shape").className = `shape ${kind}`;
    setAttribute(document.getElementById("favicon"), "href", `static/icons/${kind}.svg`);
    if (snapshot) this.showTiles(snapshot, silentS, verdict.silent);
    if (this.spoken !== verdict.word) {
      this.spoken = verdict.word;
      setText(document.getElementById("announcer"), `${verdict.word}. ${visible(verdict.reason)}`);
    }
    return verdict;
  }

  showTiles(snapshot, silentS, isSilent) {
    const { flow, missing, daemon, monitor } = snapshot.tiles;
    const grown = (seconds) => (seconds === null || seconds === undefined ? null : seconds + silentS);
    const last = grown(flow.age_s);
    this.fill("flow", flow.state === "good" ? { ...flow, text: "" } : flow, isSilent, flow.rate_hz === null ? "-" : rate(flow.rate_hz), "TF files / s", last === null ? "no TF file yet" : `last TF file ${age(last)} ago`);
    this.fill("missing", missing, isSilent, missing.count === null ? "?" : `${missing.count}`, missing.count === null ? "not known" : missing.count === 1 ? "STF" : "STFs", "");
    const beat = grown(daemon.heartbeat_age_s);
    const backlog = daemon.backlog === null || daemon.backlog === undefined ? "" : `backlog ${daemon.backlog}`;
    const agents = Array.isArray(daemon.agents) ? daemon.agents.length : daemon.agents;
    this.fill("daemon", daemon, isSilent, beat === null ? "-" : age(beat), beat === null ? "no heart-beat" : "since its heart-beat", [backlog, agents > 1 ? plural(agents, "agent") : ""].filter(Boolean).join(" · "));
    const { state, heartbeat_age_s: heard, reconnects } = snapshot.connection;
    const age_s = grown(heard);
    this.fill("monitor", monitor, isSilent, isSilent ? "?" : state, "stream", [age_s === null ? "" : `heard ${age(age_s)} ago`, reconnects ? plural(reconnects, "reconnect") : ""].filter(Boolean).join(" · "));
    const link = this.tiles.get("missing").element.querySelector("a");
    setAttribute(link, "href", missing.run ? runLink(missing.run) : "./");
    this.sparkline(snapshot.rates);
  }

  fill(name, { state, text }, isSilent, value, unit, more) {
    const { element, values } = this.tiles.get(name);
    const kind = isSilent || !(state in WORDS) ? "unknown" : state;
    setAttribute(element, "data-state", kind);
    if (values.chip.dataset.kind !== kind) {
      values.chip.dataset.kind = kind;
      values.chip.replaceChildren(chip(kind, WORDS[kind]));
    }
    setText(values.value, value);
    setText(values.unit, unit);
    setText(values.more, more);
    setText(values.text, visible(text));
    setAttribute(values.text, "title", visible(text) || null);
  }

  // The rate of the last 15 minutes, as a line without axes; the chart below has them.
  sparkline({ tf_files: counts }) {
    const points = counts.slice(0, -1);
    const key = points.join();
    if (this.drawn === key) return;
    this.drawn = key;
    const top = Math.max(1, ...points);
    const path = points.map((count, place) => `${place ? "L" : "M"}${place} ${(20 - (18 * count) / top).toFixed(1)}`).join("");
    const line = this.tiles.get("flow").element.querySelector("path");
    line.setAttribute("d", points.some(Boolean) ? path : "");
  }
}

function tile(name, title) {
  const values = {
    chip: make("span", { class: "state" }),
    value: make("span", { class: "value" }),
    unit: make("span", { class: "unit" }),
    more: make("p", { class: "more" }),
    text: make("p", { class: "text" }),
  };
  const heading = name === "missing" ? make("a", { href: "./", "data-nav": true }, title) : title;
  const element = make("article", { id: `tile-${name}`, "data-state": "unknown" },
    make("div", { class: "top" }, make("h2", {}, heading), values.chip),
    make("p", { class: "figure" }, values.value, " ", values.unit),
    values.more, values.text);
  if (name === "flow") {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    for (const [key, value] of Object.entries({ viewBox: "0 0 179 22", preserveAspectRatio: "none", "aria-hidden": "true", class: "spark" })) svg.setAttribute(key, value);
    svg.append(document.createElementNS("http://www.w3.org/2000/svg", "path"));
    element.append(svg);
  }
  return { element, values };
}
