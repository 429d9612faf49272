"""Hand-made snapshots for the views."""

from __future__ import annotations

from typing import Any

HOSTILE = "<script>alert(1)</script>"
ESCAPES = "\x1b[2J\x1b]0;owned\x07[bold red]evil[/]"


def strip(last: int, **kinds: str) -> list[dict[str, Any]]:
    """Sequences 1 to *last*, present except for *kinds*: `_7="missing"`."""
    return [{"sequence": n, "kind": kinds.get(f"_{n}", "present")} for n in range(1, last + 1)]


def run(name: str = "100014", **changes: Any) -> dict[str, Any]:
    return {
        "run": name, "namespace": "epic", "state": "running", "stale": False, "verified": "VERIFIED",
        "verified_at": "2026-11-21T20:56:50+00:00", "stfs_seen": 117, "stfs_expected": 120, "stfs_skipped": 0,
        "stfs_missing": 3, "stfs_incomplete": 1, "missing": [12, 15, 16], "doubt": "",
        "tf_files": 819, "tf_expected": 840, "bytes": 41_300_000_000, "tf_files_without_size": 0, "is_past": False,
        "backfilled": 14, "duplicates": 2, "rate_hz": 11.6, "lag_p50_s": 0.18, "lag_p95_s": 1.42,
        "last_at": "2026-11-21T20:56:55+00:00", "last_age_s": 1.2, "began_at": "2026-11-21T20:50:00+00:00",
        "ended_at": None, "stf_registered_at": "2026-11-21T20:56:55+00:00", "stf_generated_at": None,
        "strip": strip(120, _12="missing", _15="missing", _16="missing", _40="recovered", _41="recovered",
                       _99="incomplete"), **changes,
    }  # fmt: skip


def tf_file(sequence: int, number: int, **changes: Any) -> dict[str, Any]:
    stem = f"swf.100014.{sequence:06d}"
    return {
        "at": "2026-11-21T20:56:55+00:00", "run": "100014", "tf_filename": f"{stem}_tf_{number:03d}.tf",
        "stf_filename": f"{stem}.stf", "size_bytes": 50_400_000, "status": "registered",
        "backfilled": False, "late": False, **changes,
    }  # fmt: skip


def alarm(kind: str = "stfs_missing", run: str | None = "100014", **changes: Any) -> dict[str, Any]:
    return {
        "kind": kind, "subject": run, "run": run, "since": "2026-11-21T20:55:01+00:00", "until": None,
        "evidence": "3 STFs without TF files: 12, 15, 16", **changes,
    }  # fmt: skip


STATES = {"FLOWING": "good", "DEGRADED": "warning", "NOT FLOWING": "bad", "UNKNOWN": "unknown"}


def verdict(word: str = "DEGRADED", **changes: Any) -> dict[str, Any]:
    reason = "3 STFs of run 100014 are missing: 12, 15-16"
    return {
        "word": word, "state": STATES[word], "since": "2026-11-21T20:55:01+00:00", "reason": reason,
        "remedy": "Open the run, and note the missing STFs", **changes,
    }  # fmt: skip


def agent(name: str = "fastmon-agent-1", **changes: Any) -> dict[str, Any]:
    return {
        "name": name, "namespace": "epic", "host": "daq-7", "state": "good", "status": "OK", "backlog": 12,
        "completed": None, "heartbeat_at": "2026-11-21T20:56:52+00:00", "heartbeat_age_s": 4.2, "since": None,
        "text": "lives", **changes,
    }  # fmt: skip


def tiles(**changes: Any) -> dict[str, Any]:
    return {
        "flow": {"rate_hz": 11.6, "last_tf_file_at": "2026-11-21T20:56:55+00:00", "age_s": 1.2, "state": "good",
                 "text": "flowing"},
        "missing": {"count": 3, "run": "100014", "state": "warning", "text": "3 STFs of run 100014"},
        "daemon": {"backlog": 12, "heartbeat_age_s": 4.2, "agents": [agent()], "state": "good",
                   "text": "fastmon-agent-1 is running"},
        "monitor": {"state": "good", "text": "stream and tables answer", "stream": {"state": "good", "text": "LIVE"},
                    "tables": {"state": "good", "text": "read 6 s ago"}}, **changes,
    }  # fmt: skip


def snapshot(**changes: Any) -> dict[str, Any]:
    found = {
        "verdict": verdict(), "tiles": tiles(),
        "at": "2026-11-21T20:56:56.120+00:00", "uptime_s": 734.0, "monitor": "http://127.0.0.1:8002", "filters": {},
        "connection": {"state": "LIVE", "since": "2026-11-21T20:44:42+00:00", "heartbeat_age_s": 3.2, "reconnects": 1,
                       "reason": ""},
        "runs": [run(), run("100013", state="complete", stfs_missing=0, missing=[], strip=strip(60), rate_hz=0.0)],
        "recent": [tf_file(120 - n // 7, 7 - n % 7, late=n == 3, backfilled=n == 3) for n in range(60)],
        "rates": {"bin_s": 5, "ends_at": "2026-11-21T20:56:55+00:00", "tf_files": [n * 7 % 60 for n in range(180)]},
        "alarms": [alarm()],
        "totals": {"runs": 2, "stfs": 160, "tf_files": 1120, "bytes": 0, "backfilled": 7, "duplicates": 1},
        "loading": {"runs": 0, "stfs": 0, "text": ""}, "reference": None, **changes,
    }  # fmt: skip
    return {"runs_total": len(found["runs"]), **found}


def dead(age_s: float = 83.0, **changes: Any) -> dict[str, Any]:
    lost = {"state": "DEAD", "since": "2026-11-21T20:55:33+00:00", "heartbeat_age_s": age_s, "reconnects": 4,
            "reason": "connection refused"}  # fmt: skip
    silent = alarm("stream_dead", None, evidence="no heart-beat for 83 s")
    unknown = {"state": "unknown", "text": "not known while the stream is dead"}
    said = verdict("UNKNOWN", since="2026-11-21T20:55:33+00:00",
                   reason=f"the monitor's stream is dead: no heart-beat for {age_s:.0f} s",
                   remedy="Check that the monitor answers: fastmon-client status")  # fmt: skip
    shown = tiles(
        flow={**tiles()["flow"], **unknown, "rate_hz": 0.0, "age_s": 84.2},
        missing={"count": None, "run": None, **unknown},
        daemon={**tiles()["daemon"], **unknown, "heartbeat_age_s": 88.0},
        monitor={
            **tiles()["monitor"],
            "state": "bad",
            "text": "stream: DEAD: connection refused; tables: read 90 s ago",
        },
    )
    return snapshot(**{"connection": lost, "alarms": [silent], "verdict": said, "tiles": shown, **changes})
