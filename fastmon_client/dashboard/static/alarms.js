// Connection and alarms: what must be true at a glance. The page trusts its own clock as well: a server that falls silent is
// DEAD, whatever it said last.

import { visible } from "./runs.js";
import { setText } from "./table.js";
import { age, clock } from "./words.js";

const SILENT_AFTER_S = 5;
const HELD = "This page has heard nothing from its own server";

export class Truth {
  constructor() {
    this.snapshot = null;
    this.heard = performance.now();
    this.reason = "";
  }

  hear(snapshot) {
    this.snapshot = snapshot;
    this.heard = performance.now();
    this.reason = "";
  }

  // Called with each snapshot and each second: ages grow also when nothing comes.
  show() {
    const silent = (performance.now() - this.heard) / 1000;
    const isSilent = silent > SILENT_AFTER_S;
    const connection = this.snapshot?.connection ?? { state: "CONNECTING", heartbeat_age_s: null, reason: "", reconnects: 0 };
    const state = isSilent ? "DEAD" : connection.state;
    const heard = connection.heartbeat_age_s === null ? null : connection.heartbeat_age_s + silent;
    document.body.dataset.truth = state.toLowerCase();
    setText(document.getElementById("state"), state);
    setText(document.getElementById("since"), isSilent ? `${HELD} for ${age(silent)}. ${this.reason}` : told(connection, heard));
    const alarms = this.snapshot?.alarms ?? [];
    this.showAlarms(isSilent ? [{ kind: "page_silent", run: null, since: null, until: null, evidence: HELD }, ...alarms] : alarms);
    this.showNote(state, isSilent ? silent + (connection.heartbeat_age_s ?? 0) : heard);
    const active = alarms.filter((alarm) => alarm.until === null).length;
    document.title = state === "LIVE" ? (active ? `(${active}) fastmon` : "fastmon") : `${state} · fastmon`;
  }

  showNote(state, heard) {
    const note = document.getElementById("no-longer");
    note.hidden = state === "LIVE" || !this.snapshot?.runs.length;
    const when = heard === null ? "" : `, ${age(heard)} ago`;
    setText(note, `These are the last numbers heard${when}: what is now is UNKNOWN.`);
  }

  // Alarms that stay are left alone, so that a screen reader says each once.
  showAlarms(alarms) {
    const place = document.getElementById("alarms");
    const sorted = [...alarms].sort((a, b) => Number(a.until !== null) - Number(b.until !== null));
    const lines = new Map(sorted.map((alarm) => [`${alarm.kind}/${alarm.run}/${alarm.since}`, alarm]));
    for (const element of [...place.children]) if (!lines.has(element.dataset.key)) element.remove();
    [...lines].forEach(([key, alarm], number) => {
      let element = [...place.children].find((each) => each.dataset.key === key);
      if (!element) {
        element = document.createElement("p");
        element.dataset.key = key;
      }
      if (place.children[number] !== element) place.insertBefore(element, place.children[number] ?? null);
      element.className = alarm.until === null ? "alarm" : "alarm over";
      setText(element, sentence(alarm));
    });
  }
}

function told(connection, heard) {
  const since = connection.since ? `since ${clock(connection.since)}` : "";
  const beat = heard === null ? "" : `heart-beat ${age(heard)} ago`;
  const again = `${connection.reconnects} ${connection.reconnects === 1 ? "reconnect" : "reconnects"}`;
  const reason = connection.state === "LIVE" ? "" : visible(connection.reason);
  return [since, beat, again, reason].filter(Boolean).join(" · ");
}

function sentence(alarm) {
  const word = alarm.until === null ? "ALARM" : "ended";
  const run = alarm.run === null ? "" : ` · run ${visible(alarm.run)}`;
  const since = alarm.since ? ` · since ${clock(alarm.since)}` : "";
  const until = alarm.until === null ? "" : ` until ${clock(alarm.until)}`;
  return `${word} · ${visible(alarm.kind).replaceAll("_", " ")}${run}${since}${until}: ${visible(alarm.evidence)}`;
}
