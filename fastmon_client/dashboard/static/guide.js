// What each alarm means and what to do about it. The server has the texts, docs/alarms.md has the same.

import { getJson } from "./requests.js";
import { chip, make } from "./table.js";

export const create = (_view, place) => new GuideView(place);

class GuideView {
  constructor(place) {
    this.place = place;
    this.drawn = false;
  }

  async open() {
    if (!this.drawn) {
      const guide = await getJson("api/guide");
      const entries = Object.entries(guide);
      const index = make("ul", { class: "index" }, ...entries.map(([kind, entry]) => make("li", {}, make("a", { href: `#${kind}` }, entry.title))));
      this.place.replaceChildren(make("section", {}, make("h2", {}, "Guide to the alarms"), index), ...entries.map(([kind, entry]) => this.entry(kind, entry)));
      this.drawn = true;
    }
    const target = location.hash.length > 1 ? document.getElementById(decodeURIComponent(location.hash.slice(1))) : null;
    (target ?? document.getElementById("main")).focus({ preventScroll: true });
    target?.scrollIntoView({ block: "start" });
  }

  show() {}

  entry(kind, { title, severity, action, meaning, impact, diagnosis, mitigation }) {
    const steps = (name, items) => [make("h3", {}, name), make("ol", {}, ...items.map((each) => make("li", {}, each)))];
    return make("section", { id: kind, tabindex: "-1", class: "entry" },
      make("div", { class: "what" }, make("h2", {}, title), chip(severity, severity === "bad" ? "alarm" : "warning"), make("code", {}, kind)),
      make("p", { class: "todo" }, action),
      make("h3", {}, "Meaning"), make("p", {}, meaning),
      make("h3", {}, "Impact"), make("p", {}, impact),
      ...steps("Diagnosis", diagnosis), ...steps("Mitigation", mitigation));
  }
}
