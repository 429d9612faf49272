"""One run: its numbers, its sequence, its missing STFs by name, and what the daemon's summary says of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

from fastmon_client.formatting import age, clock_time, count_of, escape, gaps, lag, of, volume
from fastmon_client.live.columns import Column, Row, table
from fastmon_client.live.glyphs import legend, strip_lines
from fastmon_client.live.overview import wrap

_SUMMARY = ("expected", "received", "recovered", "skipped", "completed", "failed", "discarded", "unfinished", "missing")
_MAX_ROWS = 100


def run_lines(name: str, row: Row | None, details: Mapping[str, Any], width: int) -> list[Text]:
    """All lines about the run *name*.

    *details* has `problem` (why the monitor's tables could not be read), or what they answered: `stfs` (how many),
    `names` (of missing STFs, by sequence number), `monitor_page`, and `summary`, the daemon's.
    """
    lines = [
        Text.assemble((f" Run {escape(name)}", "bold"), (f"   {escape(details.get('monitor_page') or '')}", "dim"))
    ]
    if problem := details.get("problem"):
        lines += wrap(Text(f" The monitor's tables cannot be read: {escape(problem)}", "yellow"), width, 2)
    if row is None:
        return [*lines, Text(" This client does not follow the run any more.", "dim")]
    lines += [*_numbers(row, details, width), *_sequence(row, width), *_missing(row, details, width)]
    summary = details.get("summary")
    if isinstance(summary, Mapping):
        lines += [*_summary(summary, width), *_latencies(summary, width), *_outages(summary, width)]
    else:
        lines += [*_title("The daemon's summary"), Text(" None was heard since this client started.", "dim")]
    return lines


def _title(text: str) -> list[Text]:
    return [Text(), Text(f" {text}", "bold")]


def _pairs(pairs: Sequence[tuple[str, Any]], width: int) -> list[Text]:
    """Names and values in as many columns as fit."""
    shown = [(name, escape(value)) for name, value in pairs if value not in (None, "")]
    if not shown:
        return []
    left = max(len(name) for name, _ in shown) + 2
    column = left + max(10, *(len(value) for _, value in shown)) + 2
    per_line = max(1, (width - 1) // column)
    lines = []
    for place in range(0, len(shown), per_line):
        line = Text(" ")
        for name, value in shown[place : place + per_line]:
            line.append(f"{name:<{left}}", "dim").append(f"{value:<{column - left}}")
        line.rstrip()
        lines.append(line)
    return lines


def _numbers(row: Row, details: Mapping[str, Any], width: int) -> list[Text]:
    verified = row["verified"] == "VERIFIED"
    why = f"compared with the monitor at {clock_time(row['verified_at'])}" if verified else row["doubt"]
    counts = Text.assemble(" ", (row["verified"], "bold green" if verified else "bold yellow"), f" {escape(why)}")
    return [
        *_pairs([
            ("State", f"{row['state']}, stale" if row["stale"] else row["state"]),
            ("Namespace", row["namespace"]),
            ("Began", clock_time(row["began_at"]) if row["began_at"] else None),
            ("Ended", clock_time(row["ended_at"]) if row["ended_at"] else None),
            ("STFs with TF files", of(row["stfs_seen"], row["stfs_expected"])),
            ("STFs in the table", details.get("stfs")),
            ("Skipped", "unknown" if row["stfs_skipped"] is None else row["stfs_skipped"]),
            ("Missing", "unknown" if row["stfs_missing"] is None else row["stfs_missing"]),
            ("Incomplete", row["stfs_incomplete"]),
            ("TF files", of(row["tf_files"], row["tf_expected"])),
            ("Backfilled", row["backfilled"]),
            ("Repeated", row["duplicates"]),
            ("Volume", volume(row["bytes"], row["tf_files_without_size"])),
            ("Rate", f"{row['rate_hz']:.1f} / s"),
            ("Lag, median", lag(row["lag_p50_s"])),
            ("Lag, 95 %", lag(row["lag_p95_s"])),
            ("Last TF file", "-" if row["last_age_s"] is None else f"{age(row['last_age_s'])} ago"),
        ], width),
        *wrap(counts, width, 2),
    ]  # fmt: skip


def _sequence(row: Row, width: int) -> list[Text]:
    cells = row.get("strip")
    if not cells:
        return []
    kinds = Text(" ")
    for each in legend():
        kinds.append_text(each).append("  ")
    return [
        *_title("Sequence of STFs"),
        *(Text(" ").append_text(line) for line in strip_lines(cells, width - 2)),
        kinds,
    ]


def _missing(row: Row, details: Mapping[str, Any], width: int) -> list[Text]:
    incomplete = incomplete_stfs(row)
    if not row["missing"] and not incomplete:
        return []
    lines = _title("Missing STFs")
    if row["missing"]:
        lines += wrap(Text(f" {count_of(row['stfs_missing'], 'STF')}: {', '.join(gaps(row['missing']))}"), width, 3)
        lines += [_named(number, details) for number in row["missing"]]
        more = row["stfs_missing"] - len(row["missing"])
        lines += [Text(f"   and {more} more", "dim")] if more > 0 else []
    if incomplete:
        lines += [Text(" Incomplete:"), *(_named(number, details) for number in incomplete)]
    return lines


def incomplete_stfs(row: Row) -> list[int]:
    """The sequence numbers of STFs with too few TF files, as far as the strip shows them."""
    return [cell["sequence"] for cell in row.get("strip", ()) if cell["kind"] == "incomplete"][:_MAX_ROWS]


def _named(number: int, details: Mapping[str, Any]) -> Text:
    names = details.get("names")
    if names is None:
        return Text(f"   {number}")
    return (
        Text(f"   {escape(names[number])}")
        if number in names
        else Text(f"   {number}: not registered with the monitor")
    )


def _summary(found: Mapping[str, Any], width: int) -> list[Text]:
    word, style = ("complete", "bold green") if found.get("complete") else ("not complete", "bold yellow")
    by = escape(found.get("processed_by") or found.get("sender") or "?")
    lines = _title("The daemon's summary")
    lines.append(Text.assemble(" ", (word, style), f" by {by} at {clock_time(_text(found.get('timestamp')))}"))
    lines += [
        line for each in _rows(found.get("incomplete_reasons")) for line in wrap(Text(f"   {escape(each)}"), width, 2)
    ]
    files = found.get("tf_files")
    counts = files if isinstance(files, Mapping) else {}
    return lines + _pairs(
        [*((name.capitalize(), found.get(name)) for name in _SUMMARY),
         ("TF files registered", counts.get("registered")), ("TF files announced", counts.get("announced"))], width
    )  # fmt: skip


def _latencies(found: Mapping[str, Any], width: int) -> list[Text]:
    rows = [row for row in _rows(found.get("latencies")) if isinstance(row, Mapping)]
    return [*_title("Latency per step"), *_indented(table(_LATENCIES, rows, width - 1))] if rows else []


def _outages(found: Mapping[str, Any], width: int) -> list[Text]:
    if not isinstance(found.get("outages"), list):
        return []
    rows = [row for row in _rows(found["outages"]) if isinstance(row, Mapping)]
    if not rows:
        return [*_title("Outages"), Text(" None during the run.", "dim")]
    return [*_title("Outages"), *_indented(table(_OUTAGES, rows, width - 1))]


def _indented(lines: Sequence[Text]) -> list[Text]:
    return [Text(" ").append_text(line) for line in lines]


def _rows(value: Any) -> list[Any]:
    return value[:_MAX_ROWS] if isinstance(value, list) else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _seconds(row: Row, name: str) -> str:
    value = row.get(name)
    return lag(float(value)) if isinstance(value, int | float) else "-"


_LATENCIES = (
    Column("Step", 0, lambda row: escape(f"{row.get('source') or 'made'} → {row.get('dest')}"), max_width=48),
    Column("STFs", 3, lambda row: escape(row.get("count")), right=True, max_width=12),
    Column("Median", 2, lambda row: _seconds(row, "p50_s"), right=True),
    Column("95 %", 1, lambda row: _seconds(row, "p95_s"), right=True),
    Column("Maximum", 4, lambda row: _seconds(row, "max_s"), right=True),
)
_OUTAGES = (
    Column("What", 0, lambda row: escape(row.get("link")), max_width=24),
    Column("From", 0, lambda row: clock_time(_text(row.get("began_at")))),
    Column("To", 1, lambda row: clock_time(_text(row.get("ended_at"))) if row.get("ended_at") else "lasting"),
    Column("Reason", 2, lambda row: escape(row.get("reason")), min_width=12),
)
