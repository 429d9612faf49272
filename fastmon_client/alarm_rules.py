"""What is worth an alarm, and when it is over. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from fastmon_client.alarms import Alarms
from fastmon_client.runs import Run

WELL = ("started", "ok", "running", "recovered")
GONE = ("stopped", "stopping")


def check_run(alarms: Alarms, run: Run, at: datetime, stale_after: timedelta, *, is_live: bool) -> None:
    """The alarms of one run; what the stream would have told is no alarm while it is not there."""
    stale = run.is_stale(at, stale_after) and is_live
    seconds = (at - run.active_at).total_seconds()
    alarms.set("run_stale", run.name, f"no TF file for {seconds:.0f} s" if stale else None, at, run.name)
    if not run.unknown_reason:  # else what was known stands, neither better nor worse
        missing = run.missing(at)
        alarms.set("stfs_missing", run.name, _missing(missing) if missing else None, at, run.name)
    alarms.set("rate_dropped", run.name, _dropped(run, at) if is_live and not stale else None, at, run.name)


def check_daemon(alarms: Alarms, message: Mapping[str, Any], at: datetime, *, is_busy: bool) -> None:
    """What a daemon says of itself; that it stops is an alarm only while there is work."""
    agent = str(message.get("processed_by") or message.get("sender"))
    status = str(message.get("status"))
    evidence: str | None = f"{agent} {status}: {message.get('message') or 'no reason given'}"
    if status in WELL or (status in GONE and not is_busy):
        evidence = None
    alarms.set("daemon_degraded", agent, evidence, at, None)


def _missing(sequences: list[int]) -> str:
    named = ", ".join(str(number) for number in sequences[:5] if number)
    return f"{len(sequences)} STFs without TF files" + (
        f": {named}{' ...' if len(sequences) > 5 else ''}" * bool(named)
    )


def _dropped(run: Run, at: datetime) -> str | None:
    usual, now = run.bins.usual_hertz(at), run.bins.hertz(at)
    if run.state != "running" or usual is None or now >= usual / 2:
        return None
    return f"{now:.2f} TF files/s over the last minute, usually {usual:.2f}"
