// One run: its numbers, its strip, latencies, outages, missing STFs by name, the daemon's summary. One STF: its TF files.

import { age, clock, lag, moment, of, plural, ranges, rate, size, visible } from "./formatting.js";
import { linkTo, runLink, stfLink } from "./address.js";
import { getJson } from "./requests.js";
import { STATE_CHIPS } from "./runs.js";
import { Reference } from "./reference.js";
import { Strips } from "./strip.js";
import { chip, make, setText } from "./table.js";

const REFRESH_MS = 10000;
const LINKS = { daemon: "no daemon was running", monitor: "daemon to monitor", broker: "daemon to broker", announcements: "announcements", messages: "announcements over REST" };

export const create = (view, place, address) => (view === "run" ? new RunView(place, address) : new StfView(place, address));

function numbers(pairs) {
  const list = make("dl", { class: "numbers" });
  for (const [name, value, title] of pairs) {
    if (value === null || value === undefined || value === "") continue;
    list.append(make("div", { title }, make("dt", {}, name), make("dd", {}, typeof value === "object" ? value : visible(value))));
  }
  return list;
}

const section = (title, ...children) => make("section", {}, make("h2", {}, title), ...children);
const list = (name, ...children) => make("ul", { class: name }, ...children);

function table(titles, rows, label) {
  const head = make("tr", {}, ...titles.map(({ title, number, wide }) => make("th", { scope: "col", class: [number ? "number" : "", wide ? "wide-only" : ""].join(" ").trim() || null }, title)));
  const body = rows.map((cells) => make("tr", {}, ...cells.map((cell, number) =>
    make(number ? "td" : "th", { scope: number ? null : "row", class: [titles[number].number ? "number" : "", titles[number].name ?? "", titles[number].wide ? "wide-only" : ""].join(" ").trim() || null, title: titles[number].name ? visible(cell) : null }, typeof cell === "object" && cell ? cell : visible(cell)))));
  return make("div", { class: "wide", role: "region", "aria-label": label, tabindex: "0" }, make("table", {}, make("thead", {}, head), make("tbody", {}, ...body)));
}

const outside = (href, text) => (href ? make("a", { href, rel: "noreferrer", target: "_blank" }, text) : null);

class View {
  constructor(place, address) {
    this.place = place;
    this.address = address;
    this.fetchedAt = -Infinity;
  }

  async open(values) {
    this.values = values;
    this.found = null;
    this.place.replaceChildren(make("p", { class: "muted" }, "Reading the monitor's tables."));
    await this.fetch();
    document.getElementById("main").focus({ preventScroll: true });
    if (location.hash.length > 1) document.getElementById(location.hash.slice(1))?.scrollIntoView();
  }

  async fetch() {
    const { values } = this;
    this.fetchedAt = performance.now();
    let found;
    try {
      found = await getJson(this.path(values));
    } catch (error) {
      found = { failure: error.message };
    }
    if (values !== this.values) return; // another one was opened meanwhile
    this.found = found;
    this.draw();
  }

  show() {
    if (this.found && performance.now() - this.fetchedAt > REFRESH_MS) this.fetch();
  }

  fail(title) {
    this.place.replaceChildren(crumbs([title]), make("section", {}, make("p", { class: "breakable" }, visible(this.found.failure)),
      make("p", {}, make("a", { href: "./", "data-nav": true }, "Back to the overview"))));
  }
}

function crumbs(parts, ...beside) {
  const path = make("ol", { class: "crumbs" }, make("li", {}, make("a", { href: "./", "data-nav": true }, "Overview")));
  parts.forEach((part, number) => path.append(make("li", { class: "clip", title: typeof part === "string" ? part : part.textContent, "aria-current": number === parts.length - 1 ? "page" : null }, part)));
  return make("div", { class: "head" }, make("nav", { "aria-label": "Where" }, path), make("div", { class: "beside" }, ...beside));
}

class RunView extends View {
  constructor(place, address) {
    super(place, address);
    this.reference = new Reference(address);
  }

  show() {
    if (!this.reference.isInUse) super.show();
  }

  path({ run }) {
    return `api/runs/${encodeURIComponent(run)}`;
  }

  draw() {
    const { run } = this.values;
    const title = `Run ${visible(run)}`;
    if (this.found.failure) {
      this.fail(title);
      return;
    }
    const { row, tables, problem } = this.found;
    const summary = tables?.summary;
    const strip = make("div", { class: "sequence" });
    const parts = [
      crumbs([title], outside(tables?.monitor_page, "The monitor's page of this run")),
      problem ? make("p", { class: "note breakable" }, `The monitor's tables cannot be read: ${visible(problem)}`) : null,
      row ? this.numbers(row, tables) : section("Numbers", make("p", { class: "muted" }, "This client has not followed the run.")),
      row ? this.missing(row, tables) : null,
      row?.strip.length ? section("Sequence of STFs", strip) : null,
      this.reference.element,
      summary ? this.latencies(summary) : null,
      summary ? this.outages(summary) : null,
      section("The daemon's summary", summary ? this.summary(summary) : make("p", { class: "muted" }, "None was heard since this client started. The daemon sends it when the run is complete.")),
    ];
    this.place.replaceChildren(...parts.filter(Boolean));
    if (row?.strip.length) new Strips(strip, this.address, { isTitled: false }).show([row]);
    this.reference.show(this.values);
  }

  numbers(row, tables) {
    const counts = make("span", { id: "counts" }, chip(row.verified === "VERIFIED" ? "complete" : "unknown", row.verified));
    const why = row.verified === "VERIFIED" ? `compared with the monitor at ${clock(row.verified_at)}` : row.doubt;
    return section("Numbers", numbers([
      ["State", chip(row.stale ? "warning" : STATE_CHIPS[row.state] ?? "unknown", row.stale ? `${row.state}, stale` : row.state)],
      ["Namespace", row.namespace],
      ["Began", row.began_at ? moment(row.began_at) : null],
      ["Ended", row.ended_at ? moment(row.ended_at) : null],
      ["STFs with TF files", of(row.stfs_seen, row.stfs_expected)],
      ["STFs in the monitor's table", tables?.stfs],
      ["Skipped", row.stfs_skipped === null ? "unknown" : row.stfs_skipped],
      ["Missing", row.stfs_missing === null ? "unknown" : row.stfs_missing],
      ["Incomplete", row.stfs_incomplete],
      ["TF files", of(row.tf_files, row.tf_expected)],
      ["Backfilled", row.backfilled],
      ["Repeated", row.duplicates],
      ["Volume", row.bytes ? size(row.bytes) : "unknown"],
      ["Rate", `${rate(row.rate_hz)} / s`],
      ["Lag, median", lag(row.lag_p50_s)],
      ["Lag, 95 %", lag(row.lag_p95_s)],
      ["Last TF file", row.last_age_s === null ? "-" : `${age(row.last_age_s)} ago`],
    ]), make("p", { class: "why breakable" }, counts, ` ${visible(why)}`));
  }

  missing(row, tables) {
    if (!row.missing.length && !row.stfs_incomplete) return null;
    const named = (sequence) => tables?.names[sequence];
    const items = row.missing.map((sequence) => make("li", {}, make("a", { href: stfLink(row.run, named(sequence) ?? `${sequence}`), "data-nav": true, class: "name" }, named(sequence) ? visible(named(sequence)) : `${sequence}: not registered with the monitor`)));
    const incomplete = row.strip.filter((span) => span[2] === "incomplete").flatMap(([first, last]) => Array.from({ length: last - first + 1 }, (_, n) => first + n));
    const more = row.stfs_missing > row.missing.length ? make("p", { class: "muted" }, `and ${row.stfs_missing - row.missing.length} more`) : null;
    return section("Missing STFs",
      items.length ? make("p", { class: "muted" }, `${plural(row.stfs_missing, "STF")}: ${ranges(row.missing)}`) : null,
      items.length ? list("names", ...items) : null, more,
      incomplete.length ? make("p", { class: "muted" }, "Incomplete:") : null,
      incomplete.length ? list("names", ...incomplete.map((sequence) => make("li", {}, make("a", { href: stfLink(row.run, named(sequence) ?? `${sequence}`), "data-nav": true, class: "name" }, visible(named(sequence) ?? sequence))))) : null);
  }

  latencies({ latencies }) {
    if (!Array.isArray(latencies) || !latencies.length) return null;
    const rows = latencies.map((each) => [`${each.source ?? "made"} \u2192 ${each.dest}`, each.count, lag(each.p50_s), lag(each.p95_s), lag(each.max_s)]);
    const titles = [{ title: "Step" }, { title: "STFs", number: true }, { title: "Median", number: true }, { title: "95 %", number: true }, { title: "Maximum", number: true }];
    return section("Latency per step", table(titles, rows, "Latency per step"));
  }

  outages({ outages }) {
    if (!Array.isArray(outages)) return null;
    if (!outages.length) return section("Outages", make("p", { class: "muted" }, "None during the run."));
    const rows = outages.map((each) => [`${LINKS[each.link] ?? each.link}${each.blocked ? ", blocked" : ""}`, moment(each.began_at), each.ended_at ? moment(each.ended_at) : "not ended by then", each.reason]);
    return section("Outages", table([{ title: "What" }, { title: "From" }, { title: "To" }, { title: "Reason", name: "clip" }], rows, "Outages"));
  }

  summary(found) {
    const names = ["expected", "received", "recovered", "skipped", "completed", "failed", "discarded", "unfinished", "missing"];
    const reasons = Array.isArray(found.incomplete_reasons) ? found.incomplete_reasons : [];
    return make("div", {},
      make("p", {}, chip(found.complete ? "good" : "warning", found.complete ? "complete" : "not complete"), ` by ${visible(found.processed_by ?? found.sender ?? "?")} at ${moment(found.timestamp)}`),
      reasons.length ? list("names", ...reasons.map((each) => make("li", { class: "breakable" }, visible(each)))) : null,
      numbers([...names.map((name) => [name[0].toUpperCase() + name.slice(1), found[name]]), ["TF files registered", found.tf_files?.registered], ["TF files announced", found.tf_files?.announced], ["Missing, by number", found.missing_sequences]]));
  }
}

class StfView extends View {
  path({ run, stf }) {
    return `api/runs/${encodeURIComponent(run)}/stfs/${encodeURIComponent(stf)}`;
  }

  draw() {
    const { run, stf } = this.values;
    if (this.found.failure) {
      this.fail(`STF ${visible(stf)}`);
      return;
    }
    const { tf_files: files, stf_filename: name, ...found } = this.found;
    const known = files.map((each) => each.file_size_bytes).filter((each) => typeof each === "number");
    const titles = [{ title: "TF file", name: "name" }, { title: "TFs" }, { title: "Count", number: true, wide: true }, { title: "Size", number: true }, { title: "Registered", number: true, wide: true }, { title: "Status", wide: true }];
    const rows = files.map((each) => [each.tf_filename, each.tf_first === null || each.tf_last === null ? "-" : `${each.tf_first}-${each.tf_last}`, each.tf_count ?? "-", size(each.file_size_bytes), moment(each.created_at), each.status ?? "-"]);
    const beside = [["before", "Previous STF"], ["after", "Next STF"]].map(([key, text]) => (found[key] ? make("a", { href: stfLink(run, found[key]), "data-nav": true }, text) : null));
    this.place.replaceChildren(
      crumbs([make("a", { href: runLink(run), "data-nav": true }, `Run ${visible(run)}`), `STF ${visible(found.sequence ?? name)}`], ...beside, outside(found.monitor_page, "The monitor's page of the run")),
      section("STF", make("p", { class: "name breakable" }, visible(name)), numbers([
        ["Sequence", found.sequence],
        ["Registered", moment(found.registered_at)],
        ["TF files", of(files.length, found.tf_expected ?? null)],
        ["Size of them", known.length ? size(known.reduce((sum, each) => sum + each, 0)) : "unknown"],
        ["Made by", found.agent],
        ["First TF file after", files.length ? age((Date.parse(files.map((each) => each.created_at).sort()[0]) - Date.parse(found.registered_at)) / 1000) : null],
      ])),
      section("TF files", files.length ? table(titles, rows, "TF files") : make("p", { class: "muted" }, "The monitor has none: the STF was skipped, or it is missing.")));
  }
}
