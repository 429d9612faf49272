"""The scenes: a model, and the windows in which it is shown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from fastmon_client.dashboard.incidents import incidents_of
from fastmon_client.live import Model, render
from fastmon_client.live.navigation import AcknowledgePrompt, Navigation
from tests.client import snapshots
from tests.client.snapshots import agent, alarm, dead, run, snapshot, tf_file, tiles, verdict

FOLDER = Path(__file__).parent
_CONSOLE = Console(width=300)
NOTED = {"by": "Ana", "at": "2026-11-20T20:56:00+00:00", "note": "called the DAQ"}
Scene = tuple[Model, Sequence[tuple[int, int]]]


def scene(found: dict[str, Any], *sizes: tuple[int, int], noted: Sequence[str] = (), **more: Any) -> Scene:
    """*noted*: kinds of alarms that somebody acknowledged; the rest belongs to the model or its navigation."""
    of_model = {name: more.pop(name) for name in ("older", "details", "has_keys") if name in more}
    incidents = [
        {**each, "acknowledged": NOTED if each["kind"] in noted else None} for each in incidents_of(found["alarms"])
    ]
    return Model(snapshot=found, incidents=incidents, navigation=Navigation(**more), **of_model), sizes or ((80, 24),)


def no_file(name: str, **changes: Any) -> dict[str, Any]:
    """A run without anything that its columns could show."""
    nothing = {
        "namespace": None, "stfs_missing": 0, "missing": [], "stfs_incomplete": 0, "stfs_expected": None, "bytes": 0,
        "tf_expected": None, "backfilled": 0, "rate_hz": 0.0, "lag_p50_s": None, "lag_p95_s": None, "last_age_s": None,
        "strip": [], "duplicates": 0,
    }  # fmt: skip
    return run(name, **nothing | changes)


MANY = [
    run(missing=[12, 15, 16, 31, 33, 35], stfs_missing=6),
    run("100013", namespace="test", stale=True, verified="UNKNOWN", doubt="the monitor's tables were never read",
        stfs_missing=None, missing=[], stfs_skipped=None, last_age_s=7300.0, tf_files_without_size=3),
    run("100012", state="complete", stfs_skipped=4, stfs_missing=0, missing=[], stfs_incomplete=0, rate_hz=0.0,
        strip=snapshots.strip(60, _9="skipped", _10="unknown"), backfilled=0, lag_p95_s=75.0),
    no_file("100011", state="imminent", verified="UNKNOWN", doubt=""),
    *(no_file(str(100010 - n), state="ended", stfs_missing=n % 2) for n in range(14)),
]  # fmt: skip
ENDED = [alarm("run_stale", str(n), since=f"2026-11-21T20:4{n}:00+00:00", until="2026-11-21T20:50:00+00:00")
         for n in range(5)]  # fmt: skip
ALARMS = [
    alarm("run_stale", since="2026-11-20T07:55:00+00:00", evidence="no TF file for 13 h"),
    alarm("daemon_silent", None, subject="fastmon-agent-1", evidence="fastmon-agent-1 on daq-7 is silent for 90 s"),
    alarm("agents_unmatched", None, evidence="--agent fastmon-agent-9 matches no TF file"),
    alarm("stfs_missing", "100013", since="2026-11-21T20:10:00+00:00", evidence="1 STF without TF files: 4"),
]
LATE = [
    tf_file(9, 1, late=True), tf_file(9, 2, backfilled=True, size_bytes=None),
    tf_file(8, 1, late=True, backfilled=True),
    tf_file(7, 1, run="100013", status="failed"), tf_file(6, 1, status=None),
]  # fmt: skip
TROUBLED = tiles(
    flow={**tiles()["flow"], "rate_hz": 0.0, "age_s": None, "state": "bad", "text": "no TF file in run 100014"},
    missing={"count": None, "run": None, "state": "unknown", "text": "not compared yet"},
    daemon={"backlog": None, "heartbeat_age_s": None, "agents": [], "state": "warning", "text": "no daemon was heard"},
    monitor={"state": "bad", "text": "no answer", "stream": {"state": "bad", "text": "refused"},
             "tables": {"state": "bad", "text": "refused"}},
)  # fmt: skip
WELL = tiles(
    missing={"count": 0, "run": None, "state": "good", "text": "none is missing"},
    daemon={"backlog": 3, "heartbeat_age_s": 184.0, "agents": [agent(), agent("fastmon-agent-2")], "state": "good",
            "text": "2 agents are running"},
)  # fmt: skip
FRESH = {"state": "CONNECTING", "since": "2026-11-21T20:44:42+00:00", "heartbeat_age_s": None, "reconnects": 0,
         "reason": ""}  # fmt: skip
REFERENCE = {
    "text": "run 100014 after 2 min 0 s, in brackets reference run 100011: rate 1.0 TF files/s (1.2 TF files/s)"
}
LONG = verdict(
    "NOT FLOWING", since="2026-11-20T08:00:00+00:00",
    reason="run 100014 has no new TF file since 20:55:01, and the daemon fastmon-agent-1 on daq-7 is silent: " * 2,
    remedy="On the daemon's host: systemctl status fastmon-daemon, then look whether its broker answers: " * 2,
)  # fmt: skip
CALM = snapshot(
    verdict=verdict("FLOWING", since=None, reason="all is well", remedy=""), tiles=WELL, alarms=[], connection=FRESH,
    filters={"agents": ["fastmon-agent-1"], "run_ids": ["100014"], "namespace": "epic"}, runs_total=9,
    loading={"runs": 1, "stfs": 3, "text": "reading 1 run"}, uptime_s=42.0, recent=[],
)  # fmt: skip
BUSY = snapshot(runs=MANY, alarms=[*ALARMS, *ENDED], recent=[*LATE, *snapshot()["recent"]], verdict=LONG,
                reference=REFERENCE)  # fmt: skip
TROUBLE = snapshot(tiles=TROUBLED, verdict=LONG, runs=[no_file("100014")], connection={**FRESH, "reconnects": 2})
EMPTY = snapshot(runs=[], recent=[], alarms=[], filters={"namespace": "epic"})
SUMMARY = {
    "complete": True, "processed_by": "fastmon-agent-1", "timestamp": "2026-11-21T20:59:00+00:00", "expected": 120,
    "received": 118, "recovered": 2, "skipped": 0, "completed": 119, "failed": 1, "missing": 0,
    "incomplete_reasons": ["1 STF failed", "the monitor refused 1 row"],
    "tf_files": {"registered": 833, "announced": 832},
    "latencies": [{"source": None, "dest": "received", "count": 117, "p50_s": 0.02, "p95_s": 0.5, "max_s": 75},
                  {"source": "received", "dest": "registered", "count": 116, "p50_s": 1.5, "p95_s": "?"}],
    "outages": [{"link": "broker", "began_at": "2026-11-21T20:51:00+00:00", "ended_at": "2026-11-21T20:52:30+00:00",
                 "reason": "connection refused"},
                {"link": "monitor", "began_at": "2026-11-21T20:58:00+00:00", "ended_at": None, "reason": "no answer"}],
}  # fmt: skip
POOR = {"sender": "fastmon-agent-2", "timestamp": "2026-11-21T20:59:00+00:00", "outages": [], "complete": False}
DETAILS = {"monitor_page": "http://m/runs/100014/", "stfs": 120, "names": {12: "swf.100014.000012.stf"}}
OPEN_RUN = run(stfs_missing=9, verified="UNKNOWN", stfs_skipped=None, stale=True,
               doubt="120 announced STFs are not in the monitor's table, since the answer of 20:50:00")  # fmt: skip
ASKS = AcknowledgePrompt(("stfs_missing", "100013"), "Ana")

SCENES: dict[str, Scene] = {
    "degraded": scene(
        snapshot(), (80, 24), (120, 30), (200, 50), (80, 15), (60, 20), (40, 24), (40, 10), (20, 5)
    ),
    "busy": scene(BUSY, (80, 24), (100, 40), (200, 60), (160, 30), (60, 18), noted=["agents_unmatched"], run="100012"),
    "calm": scene(CALM, (80, 24), (98, 30), (105, 12), (59, 8)),
    "trouble": scene(TROUBLE, (80, 24), (130, 40)),
    "dead": scene(dead(), (80, 24)),
    "blind": scene(dead(tiles={**dead()["tiles"], "monitor": TROUBLED["monitor"]}), (80, 24)),
    "empty": scene(EMPTY, (80, 14), has_keys=False),
    "acknowledged": scene(snapshot(alarms=ALARMS[-1:]), (110, 16), noted=["stfs_missing"]),
    "ended-alarms": scene(snapshot(alarms=ENDED[:2]), (110, 24)),
    "runs": scene(BUSY, (80, 12), (80, 22), (120, 30), page="runs", back=("overview",), run="100003"),
    "all-runs": scene(snapshot(), (80, 6), (80, 7), (80, 8), page="runs", back=("overview",),
                      older=[no_file("100013"), no_file("100002")]),
    "filter": scene(BUSY, (80, 14), filter="ended missing", types_filter=True, page="runs"),
    "filter-without-a-match": scene(BUSY, (80, 8), filter="nothing", page="runs"),
    "loading": scene({**EMPTY, "loading": {"runs": 1, "stfs": 3, "text": "reading 1 run"}}, (80, 8), page="runs"),
    "run": scene(snapshot(runs=[OPEN_RUN]), (80, 60), (140, 52), (44, 80), (30, 90), page="run",
                 back=("overview",), run="100014", details={**DETAILS, "summary": SUMMARY}),
    "run-below": scene(snapshot(runs=[OPEN_RUN]), (80, 12), page="run", run="100014", top=30,
                       details={"summary": POOR}),
    "run-of-the-end": scene(snapshot(runs=[]), (80, 30), page="run", run="100013", top=99, details={"summary": POOR},
                            older=[no_file("100013", ended_at="2026-11-21T20:55:00+00:00")]),
    "run-without-tables": scene(snapshot(), (60, 40), page="run", run="100014", details={"problem": "no answer " * 9}),
    "run-that-is-gone": scene(snapshot(), (80, 8), page="run", run="7"),
    "help": scene(snapshot(), (80, 28), (50, 28), page="help", back=("overview",)),
    "message": scene(snapshot(), (80, 6), message="No alarm to acknowledge."),
    "name": scene(BUSY, (120, 6), prompt=ASKS),
    "note": scene(BUSY, (50, 6), prompt=AcknowledgePrompt(ASKS.alarm, "Ana", "a long note " * 9, at_note=True)),
    "alarm-that-is-gone": scene(CALM, (80, 6), prompt=ASKS),
}  # fmt: skip
SWEEPS: dict[str, Scene] = {
    "heights-of-the-busy": scene(BUSY, *((80, height) for height in range(4, 36)), noted=["agents_unmatched"]),
    "heights-of-the-degraded": scene(snapshot(reference=REFERENCE), *((120, height) for height in range(12, 34, 2))),
    "heights-of-runs": scene(BUSY, *((60, height) for height in (4, 5, 21, 22, 23)), page="runs"),
    "widths": scene(BUSY, *((width, 16) for width in (19, 20, 39, 48, 59, 60, 71, 75, 76, 79, 99, 100, 113, 128))),
    "widths-of-a-run": scene(snapshot(runs=[OPEN_RUN]), *((width, 22) for width in (39, 53, 54, 77, 78, 101, 102)),
                             page="run", run="100014", details={**DETAILS, "summary": SUMMARY}, top=14),
}  # fmt: skip
"""Scenes in many windows, without the styles: where a line more or less makes a difference."""


def text_of(model: Model, width: int, height: int, *, with_styles: bool) -> str:
    """The rows in a frame; below them each piece of a row that has a style."""
    lines = render(model, width, height)
    styled = [f"{row:>2} {piece}" for row, line in enumerate(lines, 1) for piece in _styled(line) if with_styles]
    return "\n".join([f"{width} x {height}", *(f"|{line.plain}" for line in lines), *styled]) + "\n"


def _styled(line: Any) -> Iterator[str]:
    base = _CONSOLE.get_style(line.style)
    for text, style, _ in line.render(_CONSOLE):
        whole = base + style if style else base
        if whole and text:
            yield f"{whole}: {text}"


def screens(name: str) -> str:
    """All screens of the scene *name*."""
    model, sizes = SCENES.get(name) or SWEEPS[name]
    return "\n".join(text_of(model, *size, with_styles=name in SCENES) for size in sizes)
