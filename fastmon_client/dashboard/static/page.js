// Receives snapshots from its own server and shows them. No request goes to another host.

import { Address } from "./address.js";
import { Alarms } from "./alarms.js";
import { age, clock, visible } from "./formatting.js";
import { listenToKeys } from "./keys.js";
import { Runs } from "./runs.js";
import { Sound } from "./sound.js";
import { Stream } from "./stream.js";
import { Strips, showLegend } from "./strip.js";
import { setAttribute, setText } from "./table.js";
import { VerdictPanel } from "./verdict.js";

const address = new Address(() => showAll());
const verdict = new VerdictPanel();
const alarms = new Alarms();
const runs = new Runs(address);
const strips = new Strips(document.getElementById("strips"), address);
const sound = new Sound();
const views = { run: "./details.js", stf: "./details.js", states: "./states.js", guide: "./guide.js" };
const loaded = {};

let snapshot = null;
let receivedAt = performance.now();
let trouble = null;
let charts = null;
let drawnFor = null;

showLegend(document.getElementById("legend"));
document.getElementById("not-loaded").hidden = true;
document.dispatchEvent(new Event("pageruns"));

// A snapshot that cannot be drawn does not count as received: the page becomes UNKNOWN.
function receive(text) {
  try {
    const received = JSON.parse(text);
    draw(received);
    snapshot = received;
    receivedAt = performance.now();
    trouble = null;
    showVerdict();
    if (!performance.getEntriesByName("numbers").length) performance.mark("numbers");
  } catch (error) {
    fail(`The numbers cannot be drawn: ${error.message}.`, null);
    reportError(error);
  }
}

function fail(reason, at) {
  trouble = { reason, at };
  showVerdict();
}

// A hidden page keeps its title, its icon and its sound; it draws again when it is looked at.
function draw(received) {
  const fresh = alarms.show(received);
  if (fresh.length && stream.leading) sound.ring();
  if (document.hidden) return;
  const view = address.view;
  if (view === "overview") {
    runs.show(received);
    strips.show(received.runs);
    charts?.show(received, address.values.range);
  }
  loaded[view]?.show(received, address);
  setText(document.getElementById("loading"), visible(received.loading.text));
  const { agents = [], run_ids: names = [], namespace } = received.filters;
  const chosen = [...agents, ...names, namespace].filter(Boolean);
  setText(document.getElementById("source"), visible([...(chosen.length ? [`only ${chosen.join(", ")}`] : []), received.monitor].join(" · ")));
  setText(document.getElementById("foot"), `All times are UTC · ${clock(received.at)} · up ${age(received.uptime_s)}`);
}

function showVerdict() {
  const silentS = Math.max(0, (performance.now() - receivedAt) / 1000);
  const { word } = verdict.show(snapshot, silentS, trouble);
  const open = (snapshot?.incidents ?? []).filter((each) => each.until === null && !each.acknowledged).length;
  const title = `${open ? `(${open}) ` : ""}${word} · fastmon`;
  if (document.title !== title) document.title = title;
}

// After a change of the address: the right view, with its module loaded when it is first needed.
function showAll() {
  const view = address.view;
  const key = JSON.stringify(address.values);
  setAttribute(document.body, "data-view", view);
  for (const place of document.querySelectorAll(".view")) place.hidden = place.dataset.for !== view;
  for (const link of document.querySelectorAll("[data-view-link]")) setAttribute(link, "aria-current", link.dataset.viewLink === view ? "page" : null);
  if (snapshot) draw(snapshot);
  if (view in views && drawnFor !== key) open(view, key);
  drawnFor = key;
}

async function open(view) {
  const place = document.getElementById(`${view}-view`);
  try {
    loaded[view] ??= (await import(views[view])).create(view, place, address);
    await loaded[view].open(address.values);
    if (snapshot && address.view === view) loaded[view].show(snapshot, address);
  } catch (error) {
    setText(place, `This page cannot be shown: ${error.message}`);
    delete loaded[view];
    drawnFor = null;
  }
}

// The charts come after the numbers: their library is the largest file.
async function openCharts() {
  try {
    const { Charts } = await import("./charts.js");
    charts = new Charts(address);
    if (snapshot) charts.show(snapshot, address.values.range);
  } catch {
    setTimeout(openCharts, 10000 * (0.5 + Math.random()));
  }
}

const stream = new Stream(receive, fail);
listenToKeys({ address, runs, alarms, sound });
setInterval(showVerdict, 1000);
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && snapshot) draw(snapshot);
  showVerdict();
});
showAll();
setTimeout(openCharts, 0);
