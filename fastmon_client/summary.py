"""The summary of a session, or of one run from the monitor's tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from fastmon_client.app_state import AppState
from fastmon_client.formatting import escape, gaps, volume
from fastmon_client.intervals import Intervals
from fastmon_client.message_filter import RUN_SUMMARY, MessageFilter
from fastmon_client.monitor_session import AccessDenied, MonitorSession
from fastmon_client.monitor_tables import MonitorUnavailable, Tables
from fastmon_client.session import now
from fastmon_client.shutdown import AUTHENTICATION, ERROR, UNREACHABLE
from fastmon_client.snapshot import RunRow, Snapshot

_MAX_SPANS = 10


def summary_lines(snapshot: Snapshot) -> list[str]:
    """The totals, then one line per followed run, oldest first."""
    totals = snapshot["totals"]
    counts = f"{totals['tf_files']} TF files, {volume(totals['bytes'], totals['tf_files_without_size'])}"
    how = f"{totals['backfilled']} backfilled, {totals['duplicates']} repeated"
    runs = [run_line(run) for run in reversed(followed(snapshot["runs"], snapshot["filters"]["run_ids"]))]
    reference = [escape(snapshot["reference"]["text"])] if snapshot["reference"] else []
    return [f"{snapshot['uptime_s']:.0f} s: {counts}, {how}", *runs, *reference]


def followed(runs: Sequence[RunRow], run_ids: Sequence[str]) -> list[RunRow]:
    """Those of *runs* that were not over before the start, or are named in *run_ids*."""
    return [run for run in runs if not run["is_past"] or run["run"] in run_ids]


def run_line(run: RunRow) -> str:
    """One run: TF files, volume, missing STFs, lag, and why the numbers are UNKNOWN."""
    known = [
        f"{run['tf_files']} TF files of {run['stfs_seen']} STFs",
        volume(run["bytes"], run["tf_files_without_size"]),
        _missing(run),
    ]
    if run["stfs_incomplete"]:
        known.append(f"{run['stfs_incomplete']} incomplete")
    if run["stfs_skipped"]:
        known.append(f"{run['stfs_skipped']} skipped")
    if run["backfilled"]:
        known.append(f"{run['backfilled']} backfilled")
    if run["lag_p50_s"] is not None:
        known.append(f"lag {run['lag_p50_s']:.1f} s (95 %: {run['lag_p95_s']:.1f} s)")
    doubt = f"; UNKNOWN: {escape(run['doubt'])}" if run["verified"] == "UNKNOWN" else ""
    return f"run {escape(run['run'])} {run['state']}: {', '.join(known)}{doubt}"


def has_gaps(run: RunRow) -> bool:
    """Whether anything is missing, or UNKNOWN."""
    return bool(run["verified"] == "UNKNOWN" or run["stfs_missing"] is None or run["stfs_missing"]) or bool(
        run["stfs_incomplete"]
    )


def _missing(run: RunRow) -> str:
    count = run["stfs_missing"]
    if not count:
        return "missing unknown" if count is None else "none missing"
    found = gaps(run["missing"])
    more = ", ..." if len(found) > _MAX_SPANS or len(run["missing"]) < count else ""
    return (
        f"{count} missing in {len(found)} gaps ({', '.join(found[:_MAX_SPANS])}{more})" if found else f"{count} missing"
    )


class SummaryUnavailable(Exception):
    """No summary is possible; *code* is the exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def fetch_run(monitor: MonitorSession, number: int, summary: Mapping[str, Any] | None = None) -> RunRow:
    """The row of run *number*; *summary* is the daemon's, if it is known.

    Raises: SummaryUnavailable if there is no such run, or no response.
    """
    tables = Tables(monitor)
    try:
        return _run_row(tables, monitor.url, number, summary)
    except AccessDenied as exc:
        raise SummaryUnavailable(str(exc), AUTHENTICATION if exc.by_token else ERROR) from exc
    except MonitorUnavailable as exc:
        raise SummaryUnavailable(str(exc), UNREACHABLE) from exc
    finally:
        tables.close()


def _run_row(tables: Tables, url: str, number: int, summary: Mapping[str, Any] | None) -> RunRow:
    rows = [row for row in tables.runs() if row.get("run_number") == number]
    if not rows:
        raise SummaryUnavailable(f"monitor has no run {number}", ERROR)
    found = read_run(tables, url, rows[0], summary)
    assert found is not None  # without a limit
    return found


class ReadObserver:
    """Follows `read_run`."""

    def may_read(self, count: int) -> bool:  # noqa: ARG002
        """Whether the TF files of *count* more STFs may be read, with one call each."""
        return True

    def on_stfs(self, stfs: list[tuple[str, datetime]]) -> None:
        """The STFs of the run: name and time of registration."""

    def on_tf_files(self, stf: str, files: list[dict[str, Any]]) -> None:
        """The TF files of one STF."""


def read_run(
    tables: Tables,
    url: str,
    row: Mapping[str, Any],
    summary: Mapping[str, Any] | None = None,
    observer: ReadObserver | None = None,
) -> RunRow | None:
    """The row of the run that is *row* in the monitor's table; *summary* is the daemon's, if it is known.

    None if *observer* does not want so much to be read.

    Raises: MonitorUnavailable, AccessDenied.
    """
    at, number, watch = now(), int(row["run_number"]), observer or ReadObserver()
    name = str(number)
    state = AppState(url, MessageFilter(types=()), at, intervals=Intervals(min_age_s=0.0))
    state.run(name, at)
    state.record_runs([row], at)
    if summary is not None:
        state.receive({**summary, "msg_type": RUN_SUMMARY, "run_id": name}, at)
    stfs = tables.stfs(number)
    watch.on_stfs(stfs)
    while names := state.record_stfs(name, stfs, at):
        if not watch.may_read(len(names)):
            return None
        for stf in names:
            files = tables.tf_files(stf)
            watch.on_tf_files(stf, files)
            state.record_tf_files(name, stf, files, at)
        state.finish_comparison(name, None, at)
        if not state.runs[name].stfs.unread:
            break
    state.finish_comparison(name, None, at)
    found = state.rows(at, strip=True)[0]
    for cell in found["strip"]:
        if cell["kind"] == "recovered":  # everything is from the tables
            cell["kind"] = "present"
    return {**found, "backfilled": 0, "last_age_s": None}
