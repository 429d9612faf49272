// The alarms: one line for each cause, with what to do and where that is written; ended ones are folded.

import { clock, moment, plural, visible } from "./formatting.js";
import { chip, keep, make, setAttribute, setText } from "./table.js";
import { linkTo, runLink } from "./address.js";
import { askForName } from "./dialogs.js";
import { postJson } from "./requests.js";

const keyOf = (incident) => `${incident.kind}/${incident.subject}/${incident.since}`;

export class Alarms {
  constructor() {
    this.section = document.getElementById("alarms");
    this.active = document.getElementById("active-alarms");
    this.ended = document.getElementById("ended");
    this.known = null;
  }

  // Returns the incidents that began since the last call.
  show(snapshot) {
    const isNoted = (each) => Number(Boolean(each.acknowledged));
    const active = snapshot.incidents.filter((each) => each.until === null).sort((a, b) => isNoted(a) - isNoted(b));
    const ended = snapshot.incidents.filter((each) => each.until !== null);
    this.section.hidden = snapshot.incidents.length === 0;
    keep(this.active, active, keyOf, (incident) => this.build(incident), (element, incident) => this.fill(element, incident, snapshot.at));
    this.ended.hidden = ended.length === 0;
    setText(this.ended.querySelector("summary"), `${plural(ended.length, "ended alarm")} of the last 10 minutes`);
    keep(document.getElementById("ended-alarms"), ended, keyOf, () => make("li"), (element, each) => {
      const by = each.acknowledged ? ` · acknowledged by ${visible(each.acknowledged.by)}` : "";
      setText(element, `${clock(each.since)} to ${clock(each.until)} · ${visible(each.title)}${each.run ? ` · run ${visible(each.run)}` : ""}: ${visible(each.evidence)}${by}`);
    });
    const names = new Set(active.map(keyOf));
    const fresh = this.known ? active.filter((each) => !this.known.has(keyOf(each)) && !each.acknowledged) : [];
    this.known = names;
    return fresh;
  }

  build(incident) {
    const button = make("button", { type: "button", class: "acknowledge" }, "Acknowledge");
    const element = make("li", {},
      make("div", { class: "what" }, make("span", { class: "mark" }), make("strong", {}), make("span", { class: "run" }), make("span", { class: "when" })),
      make("p", { class: "evidence" }),
      make("p", { class: "todo" }, make("span", { class: "action" }), " ", make("a", { href: `${linkTo({ view: "guide" })}#${encodeURIComponent(incident.kind)}`, "data-nav": true }, "Guide")),
      make("ul", { class: "consequences" }),
      make("div", { class: "ack" }, button, make("span", { class: "by" }), make("span", { class: "problem", role: "alert" })));
    button.addEventListener("click", () => this.acknowledge(element));
    return element;
  }

  fill(element, incident, now) {
    element.incident = incident;
    const isBad = incident.severity === "bad";
    const kind = incident.acknowledged ? "noted" : isBad ? "bad" : "warning";
    if (element.className !== `incident ${kind}`) {
      element.className = `incident ${kind}`;
      element.querySelector(".mark").replaceChildren(chip(isBad ? "bad" : "warning", incident.acknowledged ? "noted" : isBad ? "alarm" : "warning"));
    }
    setText(element.querySelector("strong"), visible(incident.title));
    const run = element.querySelector(".run");
    if (incident.run && !run.firstChild) run.append(make("a", { href: runLink(incident.run), "data-nav": true }, `run ${visible(incident.run)}`));
    setText(element.querySelector(".when"), `since ${moment(incident.since, now)}`);
    setText(element.querySelector(".evidence"), visible(incident.evidence));
    setText(element.querySelector(".action"), visible(incident.action));
    keep(element.querySelector(".consequences"), incident.consequences, (each) => `${each.title}/${each.run}`, () => make("li"), (line, each) =>
      setText(line, `Also: ${visible(each.title)}${each.run ? ` · run ${visible(each.run)}` : ""}: ${visible(each.evidence)}`));
    const by = incident.acknowledged;
    element.querySelector("button").hidden = Boolean(by);
    setText(element.querySelector(".by"), by ? `Acknowledged by ${visible(by.by)} at ${moment(by.at, now)}${by.note ? `: ${visible(by.note)}` : ""}` : "");
    setAttribute(element.querySelector("button"), "aria-label", `Acknowledge: ${visible(incident.title)}${incident.run ? `, run ${visible(incident.run)}` : ""}`);
  }

  // The first alarm that nobody has acknowledged, for the key.
  acknowledgeFirst() {
    const first = [...this.active.children].find((each) => !each.incident.acknowledged);
    if (first) this.acknowledge(first);
  }

  async acknowledge(element) {
    const { kind, subject } = element.incident;
    const answer = await askForName(element.incident);
    if (!answer) return;
    const problem = element.querySelector(".problem");
    setText(problem, "");
    try {
      await postJson("api/acknowledge", { kind, subject, ...answer });
    } catch (error) {
      setText(problem, `Not acknowledged: ${error.message}`);
    }
  }
}
