// Receives snapshots from its own server and shows them. No request goes to another host.

import { Charts } from "./charts.js";
import { age, clock } from "./formatting.js";
import { Runs, visible } from "./runs.js";
import { StatusPanel } from "./status.js";
import { Strips, showLegend } from "./strip.js";
import { setText } from "./table.js";

const RETRY_MS = 2000;

const status = new StatusPanel();
const runs = new Runs();
const charts = new Charts();
const strips = new Strips(document.getElementById("strips"));
showLegend(document.getElementById("legend"));

// A snapshot that cannot be drawn does not count as received: the page becomes DEAD.
function receive(event) {
  try {
    const snapshot = JSON.parse(event.data);
    show(snapshot);
    status.receive(snapshot);
    status.show();
  } catch (error) {
    status.reason = `Cannot draw the snapshot: ${error.message}`;
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

// The browser does not reconnect after a response that is no stream (502, 401).
function listen() {
  const source = new EventSource("/events");
  source.addEventListener("snapshot", receive);
  source.addEventListener("error", async () => {
    if (source.readyState !== EventSource.CLOSED) return;
    status.reason = await closeReason();
    setTimeout(listen, RETRY_MS);
  });
}

async function closeReason() {
  try {
    const answer = await fetch("/", { method: "HEAD", redirect: "manual" });
    return answer.type === "opaqueredirect" ? "Sign-in required: reload the page." : "";
  } catch {
    return "";
  }
}

setInterval(() => status.show(), 1000);
document.addEventListener("visibilitychange", () => status.show());
listen();
