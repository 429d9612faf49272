// The tables of runs and of recent TF files.

import { age, clock, lag, of, plural, ranges, rate, roughly, size, visible } from "./formatting.js";
import { LiveTable, setText } from "./table.js";
import { linkTo, runLink, stfLink } from "./address.js";
import { getJson } from "./requests.js";

const SHOWN = 8;
const REFRESH_MS = 10000;
const OVER = ["ended", "complete"];

export const STATE_CHIPS = { imminent: "imminent", running: "running", paused: "paused", ended: "ended", complete: "complete" };

const missing = (run) => {
  if (run.stfs_missing === null) return "?";
  return `${run.stfs_missing}`;
};
const some = (pick) => (runs) => runs.some((run) => pick(run));

export const RUN_COLUMNS = [
  { title: "Run", text: (run) => run.run, link: (run) => runLink(run.run), kind: () => "clip", detail: (run) => (run.run.length > 12 ? run.run : "") },
  { title: "Namespace", text: (run) => run.namespace ?? "-", kind: () => "clip", when: (runs) => new Set(runs.map((run) => run.namespace)).size > 1, detail: (run) => run.namespace ?? "" },
  { title: "State", text: (run) => (run.stale ? `${run.state}, stale` : run.state), chip: (run) => (run.stale ? "warning" : STATE_CHIPS[run.state] ?? "unknown") },
  { title: "STFs", text: (run) => of(run.stfs_seen, run.stfs_expected), number: true },
  { title: "Missing", text: missing, chip: (run) => (run.stfs_missing === null ? "unknown" : run.stfs_missing ? "bad" : ""), number: true, detail: (run) => (run.missing.length ? `STFs ${ranges(run.missing)}` : "") , when: some((run) => run.stfs_missing !== 0) },
  { title: "Incomplete", text: (run) => `${run.stfs_incomplete}`, chip: (run) => (run.stfs_incomplete ? "warning" : ""), number: true, when: some((run) => run.stfs_incomplete) },
  { title: "Skipped", text: (run) => `${run.stfs_skipped ?? "?"}`, number: true, kind: () => "low", when: some((run) => run.stfs_skipped) },
  { title: "TF files", text: (run) => of(run.tf_files, run.tf_expected), number: true },
  { title: "Backfilled", text: (run) => `${run.backfilled}`, number: true, kind: () => "low", when: some((run) => run.backfilled) },
  { title: "Counts", text: (run) => run.verified, chip: (run) => (run.verified === "VERIFIED" ? "complete" : "unknown"), detail: (run) => (run.verified === "VERIFIED" ? `compared with the monitor at ${clock(run.verified_at)}` : run.doubt), link: (run) => (run.verified === "VERIFIED" ? null : `${runLink(run.run)}#counts`) },
  { title: "Volume", text: (run) => size(run.bytes), number: true, kind: () => "low", when: some((run) => run.bytes) },
  { title: "Rate", text: (run) => (run.rate_hz ? `${rate(run.rate_hz)} / s` : "-"), number: true, when: some((run) => run.rate_hz) },
  { title: "Lag, 95 %", text: (run) => lag(run.lag_p95_s), number: true, kind: () => "low", when: some((run) => run.lag_p95_s !== null), detail: (run) => (run.lag_p50_s === null ? "" : `median ${lag(run.lag_p50_s)}`) },
  { title: "Last TF file", text: (run) => (run.last_age_s === null ? "-" : `${roughly(run.last_age_s)} ago`), number: true },
];

const marks = (row) => [row.late ? "late" : "", row.backfilled ? "backfilled" : ""].filter(Boolean).join(", ");

const RECENT = [
  { title: "TF file", text: (row) => row.tf_filename, kind: () => "name clip", link: (row) => stfLink(row.run, row.stf_filename), detail: (row) => row.tf_filename },
  { title: "At", text: (row) => clock(row.at), number: true },
  { title: "Run", text: (row) => row.run ?? "-", kind: () => "clip wide-only" },
  { title: "Size", text: (row) => size(row.size_bytes), number: true },
  { title: "STF", text: (row) => row.stf_filename, kind: () => "name clip wide-only", detail: (row) => row.stf_filename },
  { title: "Status", text: (row) => row.status ?? "-", kind: () => "clip wide-only", when: (rows) => rows.some((row) => row.status !== "registered") },
  { title: "Marks", text: marks, kind: () => "wide-only", when: (rows) => rows.some(marks) },
];

const matches = (run, { q, state }) => {
  const text = q.trim().toLowerCase();
  if (text && !`${run.run} ${run.namespace ?? ""}`.toLowerCase().includes(text)) return false;
  if (state === "open") return !OVER.includes(run.state);
  if (state === "missing") return run.stfs_missing !== 0 || run.stfs_incomplete > 0;
  if (state === "unknown") return run.verified !== "VERIFIED";
  return true;
};

export class Runs {
  constructor(address) {
    this.address = address;
    this.runs = new LiveTable(document.getElementById("runs"), RUN_COLUMNS);
    this.recent = new LiveTable(document.getElementById("recent"), RECENT);
    this.more = document.getElementById("more-runs");
    this.filter = document.getElementById("filter");
    this.state = document.getElementById("state-filter");
    this.older = [];
    this.fetchedAt = -Infinity;
    this.filter.addEventListener("input", () => address.set({ q: this.filter.value }));
    this.state.addEventListener("change", () => address.set({ state: this.state.value }));
    this.more.addEventListener("click", () => address.set({ all: address.values.all ? "" : "1" }));
  }

  show(snapshot) {
    const values = this.address.values;
    if (document.activeElement !== this.filter && this.filter.value !== values.q) this.filter.value = values.q;
    if (this.state.value !== values.state) this.state.value = values.state;
    const isFiltered = Boolean(values.q || values.state);
    if ((values.all || isFiltered) && snapshot.runs_total > snapshot.runs.length) this.fetchOlder();
    const names = new Set(snapshot.runs.map((run) => run.run));
    const all = [...snapshot.runs, ...this.older.filter((run) => !names.has(run.run))];
    const found = isFiltered ? all.filter((run) => matches(run, values)) : all;
    const shown = values.all ? found : found.slice(0, SHOWN);
    this.runs.show(shown, (run) => run.run);
    document.getElementById("runs").hidden = shown.length === 0;
    const none = document.getElementById("no-runs");
    none.hidden = shown.length > 0;
    setText(none, isFiltered ? "No run matches the filter." : "No runs received yet.");
    const count = isFiltered ? found.length : Math.max(found.length, snapshot.runs_total);
    this.more.hidden = count <= SHOWN;
    setText(this.more, values.all ? "Fewer" : `${count - shown.length} more`);
    this.recent.show(snapshot.recent, (row) => `${row.run}/${row.stf_filename}/${row.tf_filename}`);
    document.getElementById("recent").hidden = snapshot.recent.length === 0;
    document.getElementById("no-recent").hidden = snapshot.recent.length > 0;
  }

  // The stream has the newest runs only; the others change little.
  async fetchOlder() {
    if (performance.now() - this.fetchedAt < REFRESH_MS) return;
    this.fetchedAt = performance.now();
    try {
      this.older = (await getJson("api/runs")).runs;
      this.address.changed();
    } catch {
      // the next snapshot asks again
    }
  }

  // Moves the focus by *step* runs, for the keys.
  move(step) {
    const links = [...document.querySelectorAll("#runs tbody th a")];
    const at = links.indexOf(document.activeElement);
    links[Math.min(links.length - 1, Math.max(0, at < 0 ? 0 : at + step))]?.focus();
  }
}
