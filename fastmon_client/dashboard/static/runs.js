// The tables of runs and of recent TF files.

import { clock, lag, of, ranges, roughly, size } from "./formatting.js";
import { LiveTable, setText } from "./table.js";

const missing = (run) => {
  if (run.stfs_missing === null) return "UNKNOWN";
  return run.missing.length ? `${run.stfs_missing}: ${ranges(run.missing)}` : `${run.stfs_missing}`;
};

const RUNS = [
  { title: "Run", text: (run) => run.run },
  { title: "Namespace", text: (run) => run.namespace ?? "-" },
  { title: "State", text: (run) => (run.stale ? `${run.state} STALE` : run.state), kind: (run) => (run.stale ? "warn" : "") },
  { title: "STFs", text: (run) => of(run.stfs_seen, run.stfs_expected), number: true },
  { title: "Skipped", text: (run) => `${run.stfs_skipped ?? "-"}`, number: true },
  { title: "Missing", text: missing, kind: (run) => (run.stfs_missing === 0 ? "" : run.stfs_missing === null ? "warn" : "bad") },
  { title: "Incomplete", text: (run) => `${run.stfs_incomplete}`, kind: (run) => (run.stfs_incomplete ? "warn" : ""), number: true },
  { title: "TF files", text: (run) => of(run.tf_files, run.tf_expected), number: true },
  {
    title: "Counts",
    text: (run) => (run.verified === "VERIFIED" ? `VERIFIED ${clock(run.verified_at)}` : `UNKNOWN: ${run.doubt}`),
    kind: (run) => (run.verified === "VERIFIED" ? "" : "warn wide"),
  },
  { title: "Volume", text: (run) => size(run.bytes), number: true },
  { title: "Rate", text: (run) => `${run.rate_hz.toFixed(1)} / s`, number: true },
  { title: "Lag p50 / p95, s", text: (run) => `${lag(run.lag_p50_s)} / ${lag(run.lag_p95_s)}`, number: true },
  { title: "Last", text: (run) => (run.last_age_s === null ? "-" : `${roughly(run.last_age_s)} ago`), number: true },
  { title: "Backfilled", text: (run) => `${run.backfilled}`, number: true },
];

const marks = (row) => [row.late ? "late" : "", row.backfilled ? "backfilled" : ""].filter(Boolean).join(", ");

const RECENT = [
  { title: "TF file", text: (row) => row.tf_filename, kind: () => "name" },
  { title: "At", text: (row) => clock(row.at), number: true },
  { title: "Run", text: (row) => row.run ?? "-" },
  { title: "Size", text: (row) => size(row.size_bytes), number: true },
  { title: "STF", text: (row) => row.stf_filename, kind: () => "name" },
  { title: "Status", text: (row) => row.status ?? "-" },
  { title: "Marks", text: marks },
];

// Control and bidirectional characters become escapes, as on the terminal.
const UNPRINTABLE = /[\p{C}\u2028\u2029]/gu;
const escaped = (char) => `\\u{${char.codePointAt(0).toString(16)}}`;
export const visible = (value) => (value === null || value === undefined ? value : String(value).replace(UNPRINTABLE, escaped));

const escapedColumns = (columns) => columns.map((column) => ({ ...column, text: (item) => visible(column.text(item)) }));

export class Runs {
  constructor() {
    this.runs = new LiveTable(document.getElementById("runs"), escapedColumns(RUNS));
    this.recent = new LiveTable(document.getElementById("recent"), escapedColumns(RECENT));
  }

  show(snapshot) {
    this.runs.show(snapshot.runs, (run) => run.run);
    this.recent.show(snapshot.recent, (row) => `${row.run}/${row.stf_filename}/${row.tf_filename}`);
    document.getElementById("runs").hidden = snapshot.runs.length === 0;
    document.getElementById("no-runs").hidden = snapshot.runs.length > 0;
    const more = document.getElementById("more-runs");
    more.hidden = snapshot.runs_in_all <= snapshot.runs.length;
    setText(more, `and ${snapshot.runs_in_all - snapshot.runs.length} older runs`);
  }
}
