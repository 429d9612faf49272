// Connection and alarms. The page has its own clock: without events from its server it shows DEAD.

import { visible } from "./runs.js";
import { setText } from "./table.js";
import { age, clock } from "./formatting.js";

const SILENT_AFTER_S = 5;
const NO_EVENTS = "No data from the dashboard server";

export class StatusPanel {
  constructor() {
    this.snapshot = null;
    this.receivedAt = performance.now();
    this.reason = "";
  }

  receive(snapshot) {
    this.snapshot = snapshot;
    this.receivedAt = performance.now();
    this.reason = "";
  }

  // Called for each snapshot and each second, for the ages to grow.
  show() {
    const silent = (performance.now() - this.receivedAt) / 1000;
    const isSilent = silent > SILENT_AFTER_S;
    const connection = this.snapshot?.connection ?? { state: "CONNECTING", heartbeat_age_s: null, reason: "", reconnects: 0 };
    const state = isSilent ? "DEAD" : connection.state;
    const beatAge = connection.heartbeat_age_s === null ? null : connection.heartbeat_age_s + silent;
    document.body.dataset.state = state.toLowerCase();
    setText(document.getElementById("state"), state);
    setText(document.getElementById("since"), isSilent ? `${NO_EVENTS} for ${age(silent)}. ${this.reason}` : details(connection, beatAge));
    const alarms = this.snapshot?.alarms ?? [];
    this.showAlarms(isSilent ? [{ kind: "page_silent", run: null, since: null, until: null, evidence: NO_EVENTS }, ...alarms] : alarms);
    this.showNote(state, isSilent ? silent + (connection.heartbeat_age_s ?? 0) : beatAge);
    const active = alarms.filter((alarm) => alarm.until === null).length;
    document.title = state === "LIVE" ? (active ? `(${active}) fastmon` : "fastmon") : `${state} · fastmon`;
  }

  showNote(state, beatAge) {
    const note = document.getElementById("outdated");
    note.hidden = state === "LIVE" || !this.snapshot?.runs.length;
    const when = beatAge === null ? "" : ` (${age(beatAge)} ago)`;
    setText(note, `Last received numbers${when}: the current state is UNKNOWN.`);
  }

  // Keep the elements of existing alarms: a screen reader announces each alarm once.
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
      element.className = alarm.until === null ? "alarm" : "alarm ended";
      setText(element, sentence(alarm));
    });
  }
}

function details(connection, beatAge) {
  const since = connection.since ? `since ${clock(connection.since)}` : "";
  const beat = beatAge === null ? "" : `heart-beat ${age(beatAge)} ago`;
  const reconnects = `${connection.reconnects} ${connection.reconnects === 1 ? "reconnect" : "reconnects"}`;
  const reason = connection.state === "LIVE" ? "" : visible(connection.reason);
  return [since, beat, reconnects, reason].filter(Boolean).join(" · ");
}

function sentence(alarm) {
  const word = alarm.until === null ? "ALARM" : "ended";
  const run = alarm.run === null ? "" : ` · run ${visible(alarm.run)}`;
  const since = alarm.since ? ` · since ${clock(alarm.since)}` : "";
  const until = alarm.until === null ? "" : ` until ${clock(alarm.until)}`;
  return `${word} · ${visible(alarm.kind).replaceAll("_", " ")}${run}${since}${until}: ${visible(alarm.evidence)}`;
}
