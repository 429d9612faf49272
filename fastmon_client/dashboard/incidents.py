"""Incidents: alarms with one cause are one incident. Pure.

A dead monitor raises several alarms, and a silent daemon makes its runs stale: a shifter sees the cause once, and the
consequences as part of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from fastmon_client.dashboard.guide import GUIDE, entry_of

_MONITOR = ("stream_dead", "monitor_unreachable")
_DAEMON = ("daemon_silent", "daemon_degraded")
_ABSORBED_BY = (
    (_MONITOR, ("source_silent", "run_stale", "rate_dropped", "agents_unmatched")),
    (_DAEMON, ("run_stale", "rate_dropped")),
    (("run_stale",), ("rate_dropped",)),
)
"""Kinds that are causes, and the kinds that are their consequences while a cause is active, the strongest first."""

_NOTICED_AFTER_S = 120.0
"""STFs may be missing for so long before the silence of their daemon is noticed."""


def incidents_of(alarms: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """*alarms* (rows of the snapshot) as incidents: active ones first, bad before warning, then the newest first."""
    active = [alarm for alarm in alarms if alarm["until"] is None]
    ended = [alarm for alarm in alarms if alarm["until"] is not None]
    groups: list[list[Mapping[str, Any]]] = []
    for alarm in sorted(active, key=_rank):
        group = next((each for each in groups if _belongs(alarm, each[0])), None)
        if group is None:
            groups.append([alarm])
        else:
            group.append(alarm)
    found = [_incident(group) for group in groups]
    found.sort(key=lambda each: str(each["since"]), reverse=True)
    found.sort(key=lambda each: each["severity"] != "bad")
    return [*found, *(_incident([alarm]) for alarm in ended)]


def _rank(alarm: Mapping[str, Any]) -> tuple[int, str]:
    """Causes before consequences; of two causes the earlier one."""
    order = [*_MONITOR, *_DAEMON, "run_stale"]
    return (order.index(alarm["kind"]) if alarm["kind"] in order else len(order), str(alarm["since"]))


def _belongs(alarm: Mapping[str, Any], cause: Mapping[str, Any]) -> bool:
    if alarm["kind"] in _MONITOR and cause["kind"] in _MONITOR:
        return True
    if alarm["kind"] in _DAEMON and cause["kind"] in _DAEMON:
        return bool(alarm["subject"] == cause["subject"])
    if alarm["kind"] == "stfs_missing" and cause["kind"] in _DAEMON:
        return _seconds(alarm["since"]) >= _seconds(cause["since"]) - _NOTICED_AFTER_S
    for causes, consequences in _ABSORBED_BY:
        if cause["kind"] in causes and alarm["kind"] in consequences:
            return cause["run"] is None or cause["run"] == alarm["run"]
    return False


def _seconds(iso: str) -> float:
    return datetime.fromisoformat(iso).timestamp()


def _incident(group: list[Mapping[str, Any]]) -> dict[str, Any]:
    cause, entry = group[0], entry_of(group[0]["kind"])
    return {
        "kind": cause["kind"],
        "subject": subject_of(cause),
        "run": cause["run"],
        "title": title_of(cause["kind"]),
        "severity": entry.severity,
        "since": min(str(alarm["since"]) for alarm in group),
        "until": cause["until"],
        "evidence": cause["evidence"],
        "action": with_run(entry.action, cause["run"]),
        "consequences": [
            {"title": title_of(alarm["kind"]), "run": alarm["run"], "evidence": alarm["evidence"]}
            for alarm in group[1:]
        ],
    }


def subject_of(alarm: Mapping[str, Any]) -> str:
    """What the alarm is about, as its identity beside the kind: a run, an agent, or nothing in particular."""
    return str(alarm["subject"] or "")


def title_of(kind: str) -> str:
    """The title of the alarms of *kind*; its name in words if the guide has no entry."""
    return GUIDE[kind].title if kind in GUIDE else kind.replace("_", " ").capitalize()


def with_run(text: str, run: str | None) -> str:
    """*text* with the number of *run*. A name from the network that is no number does not get into a command."""
    return text.replace("RUN", run) if run and run.isascii() and run.isdigit() else text
