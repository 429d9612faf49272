"""What a report says, as plain data: JSON prints it, Markdown and HTML show it. Pure.

None means unknown; times are ISO 8601 in UTC, durations seconds, volumes bytes. `still_open` is for the next shift.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypedDict

from fastmon_client.formatting import age, count_of
from fastmon_client.journal_file import Journaled
from fastmon_client.shifts import Window
from fastmon_client.snapshot import AgentRow, RunRow
from fastmon_client.tffile import parse_timestamp
from fastmon_client.verdict import OPEN

VERSION = 1
MAX_NAMED = 100
"""Missing STFs of a run that are named."""
MAX_EACH = 300
"""Alarms, and outages."""
MAX_LATENCIES = 20
JOURNAL_OUTDATED_AFTER = timedelta(minutes=3)
"""A dashboard that runs saves its journal every minute."""
LINKS = {
    "daemon": "no daemon was running", "monitor": "daemon to monitor", "broker": "daemon to broker",
    "announcements": "announcements", "messages": "announcements over REST",
}  # fmt: skip
"""The daemon's names of what was down."""


class LatencyReport(TypedDict):
    """One latency of a run."""

    what: str
    count: int | None
    p50_s: float | None
    p95_s: float | None
    max_s: float | None


class RunReport(TypedDict):
    """One run. Counts are null where nobody knows them."""

    run: str
    namespace: str | None
    state: str
    began_at: str | None
    ended_at: str | None
    verified: str
    doubt: str
    stfs_seen: int | None
    stfs_expected: int | None
    stfs_skipped: int | None
    stfs_missing: int | None
    stfs_incomplete: int | None
    missing: list[str]
    """Names, at most 100; a number that is not registered stands as such."""
    incomplete: list[str]
    tf_files: int | None
    bytes: int | None
    tf_files_without_size: int | None
    recovered: int | None
    """STFs that the daemon missed and recovered, as its summary says."""
    late: int | None
    """STFs whose TF files were registered more than a minute after them."""
    latencies: list[LatencyReport]


class OutageReport(TypedDict):
    """An outage, as the page saw it or as the daemon's summary tells."""

    what: str
    since: str
    until: str | None
    """null: it lasts."""
    is_end_known: bool
    """false: it lasted until then at least."""
    reason: str
    told_by: str
    """`page`, or `daemon, run N`."""


class AlarmReport(TypedDict):
    """An alarm, as the page saw it."""

    kind: str
    title: str
    severity: str
    run: str | None
    since: str
    until: str | None
    is_end_known: bool
    evidence: str
    acknowledged_by: str | None
    acknowledged_at: str | None
    note: str


class Report(TypedDict):
    """The whole report."""

    version: int
    title: str
    made_at: str
    begin: str
    end: str
    monitor: str
    shifter: str
    notes: list[str]
    summary: str
    still_open: list[str]
    runs: list[RunReport]
    runs_omitted: int
    """Older runs of the same time that are not in `runs`."""
    totals: dict[str, int | None]
    alarms: list[AlarmReport] | None
    """null: no dashboard's journal was given."""
    outages: list[OutageReport]
    outages_are_known: bool
    """Whether a dashboard watched for outages."""
    daemons: list[AgentRow] | None
    problems: list[str]
    """What could not be read, and what is therefore not known."""


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What was read of one run."""

    row: RunRow
    names: Mapping[int, str] = field(default_factory=dict)
    """Names of missing and incomplete STFs by their number."""
    late: int | None = None
    latencies: Sequence[LatencyReport] = ()


@dataclass(frozen=True, slots=True)
class UnreadRun:
    """A run of which only the row in the table of runs is known."""

    run: str
    began_at: str | None
    ended_at: str | None
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that a report is made of."""

    at: datetime
    window: Window
    monitor: str
    shifter: str = ""
    notes: Sequence[str] = ()
    runs: Sequence[RunFacts | UnreadRun] = ()
    """Newest first."""
    runs_omitted: int = 0
    daemons: Sequence[AgentRow] | None = None
    journal: Journaled | None = None
    summaries: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """The daemon's, by run."""
    problems: Sequence[str] = ()


def make_report(facts: Facts) -> Report:
    """The report of *facts*."""
    runs = [_run(each, facts.summaries) for each in facts.runs]
    alarms = None if facts.journal is None else _alarms(facts.journal, facts.window)
    outages = _outages(facts)
    known = {name: [run[name] for run in runs] for name in ("stfs_seen", "stfs_missing", "tf_files")}
    totals = {"runs": len(runs), **{name: _sum(values) for name, values in known.items()},
              "bytes": _sum(run["bytes"] or (0 if run["tf_files"] == 0 else None) for run in runs)}  # fmt: skip
    report: Report = {
        "version": VERSION,
        "title": facts.window.title,
        "made_at": facts.at.isoformat(timespec="seconds"),
        "begin": facts.window.begin.isoformat(timespec="seconds"),
        "end": facts.window.end.isoformat(timespec="seconds"),
        "monitor": facts.monitor,
        "shifter": facts.shifter,
        "notes": [note for note in facts.notes if note.strip()],
        "summary": "",
        "still_open": [],
        "runs": runs,
        "runs_omitted": facts.runs_omitted,
        "totals": totals,
        "alarms": alarms,
        "outages": outages,
        "outages_are_known": facts.journal is not None,
        "daemons": None if facts.daemons is None else list(facts.daemons),
        "problems": [*facts.problems, *_unknowns(facts)],
    }
    report["still_open"] = list(_still_open(report))
    report["summary"] = _summary(report)
    return report


def overlaps(window: Window, begin: datetime | None, end: datetime | None) -> bool:
    """Whether what lasted from *begin* to *end* (None: to now) was in *window*."""
    return begin is not None and begin < window.end and (end is None or end >= window.begin)


def distribution(what: str, seconds: Sequence[float]) -> list[LatencyReport]:
    """The latency *what*, of which each of *seconds* is one; none without any."""
    if not seconds:
        return []
    found, rank = sorted(seconds), len(seconds) - 1
    half, most, longest = (round(found[rank * percent // 100], 3) for percent in (50, 95, 100))
    return [{"what": what, "count": len(found), "p50_s": half, "p95_s": most, "max_s": longest}]


def _sum(values: Any) -> int | None:
    """The sum; None if one of the values is not known."""
    found = list(values)
    return None if None in found else sum(found)


def _run(facts: RunFacts | UnreadRun, summaries: Mapping[str, Mapping[str, Any]]) -> RunReport:
    summary = summaries.get(facts.run if isinstance(facts, UnreadRun) else facts.row["run"], {})
    latencies = [*([] if isinstance(facts, UnreadRun) else facts.latencies), *_steps(summary)][:MAX_LATENCIES]
    recovered = _int(summary.get("recovered"))
    if isinstance(facts, UnreadRun):
        return {
            "run": facts.run, "namespace": None, "state": "ended" if facts.ended_at else "unknown",
            "began_at": facts.began_at, "ended_at": facts.ended_at, "verified": "UNKNOWN", "doubt": facts.why,
            "stfs_seen": None, "stfs_expected": None, "stfs_skipped": None, "stfs_missing": None,
            "stfs_incomplete": None, "missing": [], "incomplete": [], "tf_files": None, "bytes": None,
            "tf_files_without_size": None, "recovered": recovered, "late": None, "latencies": latencies,
        }  # fmt: skip
    row, named = facts.row, facts.names
    incomplete = [cell["sequence"] for cell in row["strip"] if cell["kind"] == "incomplete"]
    return {
        "run": row["run"], "namespace": row["namespace"], "state": row["state"], "began_at": row["began_at"],
        "ended_at": row["ended_at"], "verified": row["verified"], "doubt": row["doubt"],
        "stfs_seen": row["stfs_seen"], "stfs_expected": row["stfs_expected"], "stfs_skipped": row["stfs_skipped"],
        "stfs_missing": row["stfs_missing"], "stfs_incomplete": row["stfs_incomplete"],
        "missing": [_name(number, named) for number in row["missing"][:MAX_NAMED]],
        "incomplete": [_name(number, named) for number in incomplete[:MAX_NAMED]],
        "tf_files": row["tf_files"], "bytes": row["bytes"], "tf_files_without_size": row["tf_files_without_size"],
        "recovered": recovered, "late": facts.late, "latencies": latencies,
    }  # fmt: skip


def _name(number: int, names: Mapping[int, str]) -> str:
    return names.get(number) or f"STF {number} (not registered with the monitor)"


def _steps(summary: Mapping[str, Any]) -> Iterator[LatencyReport]:
    """The latencies of the daemon's summary; any field may be missing or of any type."""
    for each in _rows(summary.get("latencies")):
        half, most, longest = (_float(each.get(name)) for name in ("p50_s", "p95_s", "max_s"))
        what = f"{each.get('source') or 'made'} → {each.get('dest')}"
        yield {"what": what, "count": _int(each.get("count")), "p50_s": half, "p95_s": most, "max_s": longest}


def _rows(value: object) -> list[Mapping[str, Any]]:
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []


def _int(value: object) -> int | None:
    return value if type(value) is int and value >= 0 else None


def _float(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


def _alarms(journal: Journaled, window: Window) -> list[AlarmReport]:
    found: list[AlarmReport] = []
    for row in journal.alarms:
        if not overlaps(window, parse_timestamp(row["since"]), parse_timestamp(row["until"])):
            continue
        by = row["acknowledged"] or {}
        found.append({
            "kind": row["kind"], "title": row["title"], "severity": row["severity"], "run": row["run"],
            "since": row["since"], "until": row["until"], "is_end_known": row["is_end_known"],
            "evidence": row["evidence"], "acknowledged_by": by.get("by"), "acknowledged_at": by.get("at"),
            "note": by.get("note", ""),
        })  # fmt: skip
    return sorted(found, key=lambda alarm: alarm["since"])[-MAX_EACH:]


def _outages(facts: Facts) -> list[OutageReport]:
    found: list[OutageReport] = [
        {"what": row["word"], "since": row["since"], "until": row["until"], "is_end_known": row["is_end_known"],
         "reason": row["reason"], "told_by": "page"}
        for row in (facts.journal.outages if facts.journal else ())
    ]  # fmt: skip
    for run, summary in facts.summaries.items():
        for each in _rows(summary.get("outages")):
            since, until = parse_timestamp(each.get("began_at")), parse_timestamp(each.get("ended_at"))
            if since is None:
                continue
            made = parse_timestamp(summary.get("timestamp"))  # it had not ended by then
            end = until or made or since
            link = LINKS.get(str(each.get("link")), str(each.get("link")))
            found.append({
                "what": f"{link}, blocked" if each.get("blocked") else link, "since": since.isoformat(),
                "until": end.isoformat(), "is_end_known": until is not None, "reason": str(each.get("reason") or ""),
                "told_by": f"daemon, run {run}",
            })  # fmt: skip
    inside = [each for each in found
              if overlaps(facts.window, parse_timestamp(each["since"]), parse_timestamp(each["until"]))]  # fmt: skip
    once = {(each["what"], each["since"]): each for each in reversed(inside)}  # two runs may tell of the same one
    return sorted(once.values(), key=lambda each: each["since"])[-MAX_EACH:]


def _unknowns(facts: Facts) -> Iterator[str]:
    if facts.journal is None:
        yield "alarms, acknowledgements and outages: not known without the folder of a dashboard (--state DIR)"
        return
    saved_at = parse_timestamp(facts.journal.at)
    if saved_at is None or facts.at - saved_at > JOURNAL_OUTDATED_AFTER:
        when = f"since {saved_at.isoformat(timespec='seconds')}" if saved_at else "yet"
        yield f"alarms and outages: no dashboard has written its journal {when}"


def _still_open(report: Report) -> Iterator[str]:
    for outage in report["outages"]:
        if outage["until"] is None:
            yield f"outage: {outage['what']}: {outage['reason']}"
    for agent in report["daemons"] or ():
        if agent["state"] in ("bad", "warning"):
            host = f" on {agent['host']}" if agent["host"] else ""
            yield f"daemon {agent['name']}{host}: {agent['text']}"
    for alarm in report["alarms"] or ():
        if alarm["until"] is None:
            by = f"acknowledged by {alarm['acknowledged_by']}" if alarm["acknowledged_by"] else "not acknowledged"
            of_run = f", run {alarm['run']}" if alarm["run"] else ""
            yield f"alarm: {alarm['title']}{of_run} ({by}): {alarm['evidence']}"
    for run in report["runs"]:
        if parts := list(_open_parts(run)):
            yield f"run {run['run']}: {'; '.join(parts)}"


def _open_parts(run: RunReport) -> Iterator[str]:
    if run["state"] in OPEN:
        yield f"is {run['state']}"
    if run["stfs_missing"]:
        yield f"{count_of(run['stfs_missing'], 'STF')} missing"
    if run["stfs_incomplete"]:
        yield f"{count_of(run['stfs_incomplete'], 'STF')} incomplete"
    if run["verified"] == "UNKNOWN":
        yield f"counts are UNKNOWN: {run['doubt']}"


def _summary(report: Report) -> str:
    totals, missing = report["totals"], report["totals"]["stfs_missing"]
    begin, end = datetime.fromisoformat(report["begin"]), datetime.fromisoformat(report["end"])
    parts = [count_of(len(report["runs"]) + report["runs_omitted"], "run")]
    if totals["tf_files"] is not None:
        parts.append(count_of(totals["tf_files"], "TF file"))
    if missing is None:
        parts.append("missing STFs unknown")
    else:
        parts.append(f"{count_of(missing, 'STF')} missing" if missing else "no STF missing")
    if report["alarms"] is not None:
        parts.append(count_of(len(report["alarms"]), "alarm"))
    if report["outages_are_known"]:
        parts.append(count_of(len(report["outages"]), "outage"))
    return f"{age((end - begin).total_seconds())}: {', '.join(parts)}"
