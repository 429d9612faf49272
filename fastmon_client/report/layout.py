"""A report as sections of paragraphs, lists and a table: what Markdown and HTML have in common. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from fastmon_client.formatting import lag, of, volume
from fastmon_client.report.model import AlarmReport, OutageReport, Report, RunReport
from fastmon_client.shifts import Shifts

_KEPT_TOGETHER = 12
"""Names of missing STFs in one line."""


@dataclass(frozen=True, slots=True)
class Table:
    """Columns and rows of text; of *numbers* the place of each column that is aligned to the right."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the report; all texts are as they came, not escaped."""

    title: str
    paragraphs: Sequence[str] = ()
    items: Sequence[str] = ()
    table: Table | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """The whole report."""

    title: str
    facts: Sequence[tuple[str, str]]
    sections: Sequence[Section]


class Layout:
    """Lays reports out, with times of the wall clock of the shifts."""

    def __init__(self, shifts: Shifts) -> None:
        self._shifts = shifts

    def document(self, report: Report) -> Document:
        """*report* as a document."""
        clock = _Clock(self._shifts, report)
        zone = (
            f"are those of {self._shifts.zone_name}" if self._shifts.zone_name else "are in the time zone of its host"
        )
        facts = [
            ("From", clock.date_and_time(report["begin"])),
            ("To", clock.date_and_time(report["end"])),
            ("Shifter", report["shifter"]),
            ("Monitor", report["monitor"]),
            ("Made", f"{clock.date_and_time(report['made_at'])}; times {zone}"),
        ]
        sections = [
            Section("Still open", (), report["still_open"] or ["Nothing."]),
            *([Section("Notes", report["notes"])] if report["notes"] else []),
            self._runs(report, clock),
            *self._missing(report),
            self._alarms(report, clock),
            self._outages(report, clock),
            self._latencies(report),
            *([Section("Not known", (), report["problems"])] if report["problems"] else []),
        ]
        known = [(name, text) for name, text in facts if text]
        return Document(f"fastmon report: {report['title']}", known, [Section("", [report["summary"]]), *sections])

    def _runs(self, report: Report, clock: _Clock) -> Section:
        has_late = any(run["late"] is not None for run in report["runs"])  # a page never knows it
        columns = ("Run", "Start", "End", "State", "Counts", "STFs", "Missing", "Incomplete", "Skipped", "Recovered",
                   *(("Late",) if has_late else ()), "TF files", "Size")  # fmt: skip
        rows = [_run_cells(run, clock, has_late=has_late) for run in reversed(report["runs"])]
        more = [f"{report['runs_omitted']} older runs are not listed."] if report["runs_omitted"] else []
        doubts = [f"Run {run['run']} is UNKNOWN: {run['doubt']}" for run in reversed(report["runs"]) if run["doubt"]]
        if not rows:
            return Section("Runs", ["None."])
        return Section("Runs", more, doubts, Table("Runs", columns, rows, frozenset(range(5, len(columns)))))

    @staticmethod
    def _missing(report: Report) -> Iterator[Section]:
        items = []
        for run in reversed(report["runs"]):
            for what, names, count in (
                ("missing", run["missing"], run["stfs_missing"]),
                ("incomplete", run["incomplete"], run["stfs_incomplete"]),
            ):
                if names:
                    more = f" and {count - len(names)} more" if count and count > len(names) else ""
                    for place in range(0, len(names), _KEPT_TOGETHER):
                        part = names[place : place + _KEPT_TOGETHER]
                        is_last = place + _KEPT_TOGETHER >= len(names)
                        items.append(f"run {run['run']}, {what}: {', '.join(part)}{more if is_last else ''}")
        if items:
            yield Section("Missing STFs by name", (), items)

    @staticmethod
    def _alarms(report: Report, clock: _Clock) -> Section:
        alarms = report["alarms"]
        if alarms is None:
            return Section("Alarms", ["Not known."])
        if not alarms:
            return Section("Alarms", ["None."])
        rows = [_alarm_cells(alarm, clock) for alarm in alarms]
        return Section("Alarms", table=Table("Alarms", ("Alarm", "From", "To", "Evidence", "Acknowledged"), rows))

    @staticmethod
    def _outages(report: Report, clock: _Clock) -> Section:
        outages = report["outages"]
        if not outages:
            return Section("Outages", ["None." if report["outages_are_known"] else "Not known."])
        rows = [
            (each["what"], clock.time(each["since"]), _end(each, clock), each["reason"], each["told_by"])
            for each in outages
        ]
        return Section("Outages", table=Table("Outages", ("What", "From", "To", "Reason", "Told by"), rows))

    @staticmethod
    def _latencies(report: Report) -> Section:
        rows = [
            (run["run"], each["what"], "-" if each["count"] is None else str(each["count"]),
             *(lag(each[name]) for name in ("p50_s", "p95_s", "max_s")))
            for run in reversed(report["runs"]) for each in run["latencies"]
        ]  # fmt: skip
        if not rows:
            return Section("Latencies", ["None known."])
        columns = ("Run", "What", "STFs", "Median", "95 %", "Maximum")
        return Section("Latencies", table=Table("Latencies", columns, rows, frozenset(range(2, 6))))


class _Clock:
    """Times of the wall clock: with the date where it is not that of the end, with the zone if it changed."""

    def __init__(self, shifts: Shifts, report: Report) -> None:
        self._shifts = shifts
        begin, end = (shifts.local(datetime.fromisoformat(report[name])) for name in ("begin", "end"))
        self._date = end.date()
        self._zone = " %Z" if begin.utcoffset() != end.utcoffset() else ""

    def time(self, iso: str | None) -> str:
        """`08:15:02`, or `11-29 23:59:01` on another day than that of the end."""
        if iso is None:
            return "-"
        at = self._shifts.local(datetime.fromisoformat(iso))
        return at.strftime(("%H:%M:%S" if at.date() == self._date else "%m-%d %H:%M:%S") + self._zone)

    def date_and_time(self, iso: str) -> str:
        """`2026-11-30 08:00 EST`."""
        return self._shifts.local(datetime.fromisoformat(iso)).strftime("%Y-%m-%d %H:%M %Z")


def _run_cells(run: RunReport, clock: _Clock, *, has_late: bool) -> tuple[str, ...]:
    unsized = run["tf_files_without_size"] or 0
    return (
        run["run"] if not run["namespace"] else f"{run['run']} ({run['namespace']})", clock.time(run["began_at"]),
        clock.time(run["ended_at"]), run["state"], run["verified"],
        "?" if run["stfs_seen"] is None else of(run["stfs_seen"], run["stfs_expected"]),
        *(_count(run[name]) for name in ("stfs_missing", "stfs_incomplete", "stfs_skipped")),
        _count(run["recovered"]), *([_count(run["late"])] if has_late else []), _count(run["tf_files"]),
        volume(run["bytes"], unsized),
    )  # fmt: skip


def _alarm_cells(alarm: AlarmReport, clock: _Clock) -> tuple[str, ...]:
    by = "not acknowledged"
    if alarm["acknowledged_by"]:
        note = f": {alarm['note']}" if alarm["note"] else ""
        by = f"by {alarm['acknowledged_by']} at {clock.time(alarm['acknowledged_at'])}{note}"
    run = f", run {alarm['run']}" if alarm["run"] else ""
    return f"{alarm['title']}{run}", clock.time(alarm["since"]), _end(alarm, clock), alarm["evidence"], by


def _end(row: AlarmReport | OutageReport, clock: _Clock) -> str:
    if row["until"] is None:
        return "still active"
    return clock.time(row["until"]) if row["is_end_known"] else f"{clock.time(row['until'])} at least"


def _count(value: int | None) -> str:
    return "?" if value is None else str(value)
