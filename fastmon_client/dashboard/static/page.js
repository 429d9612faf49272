// Hears the snapshots of its own server, and shows each. Nothing here asks another host for anything.

import { Truth } from "./alarms.js";
import { Charts } from "./charts.js";
import { Runs, visible } from "./runs.js";
import { Strips, showLegend } from "./strip.js";
import { setText } from "./table.js";
import { age, clock } from "./words.js";

const AGAIN_AFTER_MS = 2000;

const truth = new Truth();
const runs = new Runs();
const charts = new Charts();
const strips = new Strips(document.getElementById("strips"));
showLegend(document.getElementById("legend"));

// What cannot be drawn was not heard: the page calls itself dead then, rather than to show half of it.
function hear(event) {
  try {
    const snapshot = JSON.parse(event.data);
    show(snapshot);
    truth.hear(snapshot);
    truth.show();
  } catch (error) {
    truth.reason = `It cannot draw what it hears: ${error.message}`;
    throw error;
  }
}

function show(snapshot) {
  runs.show(snapshot);
  charts.show(snapshot);
  strips.show(snapshot.runs);
  const { agents = [], run_ids = [], namespace } = snapshot.filters;
  const chosen = [...agents, ...run_ids, namespace].filter(Boolean);
  const only = chosen.length ? ` · only ${chosen.join(", ")}` : "";
  setText(document.getElementById("source"), visible(snapshot.monitor + only));
  setText(document.getElementById("foot"), `All times are UTC · ${clock(snapshot.at)} · up ${age(snapshot.uptime_s)}`);
}

// The browser gives up on an answer that is no stream (a proxy's 502, a 401): we do not.
function listen() {
  const source = new EventSource("/events");
  source.addEventListener("snapshot", hear);
  source.addEventListener("error", async () => {
    if (source.readyState !== EventSource.CLOSED) return;
    truth.reason = await whyClosed();
    setTimeout(listen, AGAIN_AFTER_MS);
  });
}

async function whyClosed() {
  try {
    const answer = await fetch("/", { method: "HEAD", redirect: "manual" });
    return answer.type === "opaqueredirect" ? "It asks to sign in again: load the page anew." : "";
  } catch {
    return "";
  }
}

setInterval(() => truth.show(), 1000);
document.addEventListener("visibilitychange", () => truth.show());
listen();
