"""Takes pictures of the page in each state, to look at: `python -m tests.browser.gallery FOLDER [STATES [WIDTHS]]`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from itertools import product
from math import sin
from pathlib import Path
from typing import Any

import requests

from tests.browser.browsing import Browser, browsing
from tests.client.dashboard_server import Served, served
from tests.client.snapshots import agent, alarm, dead, run, snapshot, strip, tiles, verdict
from tests.processes import DEADLINE_S

WIDTHS = {1440: 900, 1024: 768, 375: 812}
NOTHING: dict[str, Any] = {"runs": [], "recent": [], "alarms": []}
QUIET = tiles(missing={"count": 0, "run": None, "state": "good", "text": "none missing"})
_UNKNOWN = {"state": "unknown", "text": "not known yet"}
BEGINNING = tiles(
    flow={"rate_hz": None, "last_tf_file_at": None, "age_s": None, **_UNKNOWN},
    missing={"count": None, "run": None, **_UNKNOWN},
    daemon={"backlog": None, "heartbeat_age_s": None, "agents": [], **_UNKNOWN},
    monitor={**tiles()["monitor"], "state": "unknown", "text": "connecting"},
)
CONNECTING = {"state": "CONNECTING", "since": "2026-11-21T20:56:50+00:00", "heartbeat_age_s": None, "reconnects": 0,
              "reason": ""}  # fmt: skip
FLOWING = verdict("FLOWING", since="2026-11-21T20:44:51+00:00", reason="11.6 TF files/s of run 100014", remedy="")
CALM = run(stfs_missing=0, stfs_incomplete=0, missing=[], backfilled=0, strip=strip(120), stfs_seen=120, tf_files=840)


def twenty() -> list[dict[str, Any]]:
    """Three open runs and 17 old ones."""
    old = [run(str(100011 - n), state="complete", stfs_missing=0, stfs_incomplete=0, missing=[], strip=[], rate_hz=0.0,
               last_age_s=3600.0 * n + 900, backfilled=0, stfs_skipped=0) for n in range(17)]  # fmt: skip
    doubt = "announced STFs are not in the monitor's table: 14 of 117, the first swf.100012.000003.stf"
    other = run("100012", namespace="epic-2", verified="UNKNOWN", doubt=doubt, stfs_missing=None, missing=[])
    return [run(), run("100013", state="paused", stale=False), other, *old]


def states() -> dict[str, dict[str, Any]]:
    """Snapshots by name."""
    silent = alarm("daemon_silent", None, subject="fastmon-agent-1", since="2026-11-21T20:52:29+00:00",
                   evidence="fastmon-agent-1 on daq-7 is silent since 20:52:29")  # fmt: skip
    stale = alarm("run_stale", evidence="no TF file for 262 s", since="2026-11-21T20:53:35+00:00")
    stopped = tiles(
        flow={**tiles()["flow"], "rate_hz": 0.0, "age_s": 267.0, "state": "bad", "text": "no TF file for 4 min"},
        missing=QUIET["missing"],
        daemon={"backlog": 41, "heartbeat_age_s": 267.0, "agents": [agent(state="bad", status="SILENT")],
                "state": "bad", "text": "fastmon-agent-1 on daq-7 is silent"},
    )  # fmt: skip
    return {
        "empty": snapshot(**NOTHING, tiles=tiles(flow={**BEGINNING["flow"], "rate_hz": 0.0}),
                          verdict=verdict("NOT FLOWING", state="unknown", reason="no run takes data", remedy="",
                                          since=None)),
        "starting": snapshot(**NOTHING, tiles=BEGINNING, connection=CONNECTING,
                             verdict=verdict("UNKNOWN", reason="Waiting for the monitor", remedy="", since=None)),
        "one-run": snapshot(runs=[CALM], alarms=[], tiles=QUIET, verdict=FLOWING),
        "twenty-runs": snapshot(runs=twenty(), alarms=[], tiles=QUIET, verdict=FLOWING),
        "missing": snapshot(alarms=[alarm(), alarm("rate_dropped", "100014", since="2026-11-21T20:50:01+00:00",
                                                   until="2026-11-21T20:52:01+00:00", evidence="2.10 TF files/s")]),
        "acknowledged": snapshot(),
        "dead-stream": dead(),
        "dead-daemon": snapshot(
            runs=[run(stale=True, rate_hz=0.0, last_age_s=267.0, stfs_missing=0, missing=[], strip=strip(120))],
            alarms=[stale, silent], tiles=stopped,
            verdict=verdict("NOT FLOWING", since="2026-11-21T20:52:29+00:00",
                            reason="fastmon-agent-1 on daq-7 is silent",
                            remedy="On daq-7: systemctl status fastmon-daemon")),
    }  # fmt: skip


def with_time(found: dict[str, Any], at: datetime) -> dict[str, Any]:
    """*found* as of *at*: the charts need a clock."""
    counts = [max(0, round(58 + 6 * sin((at.timestamp() // 5 + n) / 9))) for n in range(180)]
    if not found["runs"] or found["tiles"]["flow"]["state"] != "good":
        counts = [0 if n > 120 or not found["runs"] else count for n, count in enumerate(counts)]
    ends = datetime.fromtimestamp((at.timestamp() // 5 + 1) * 5, UTC)
    return {**found, "rates": {"bin_s": 5, "ends_at": ends.isoformat(), "tf_files": counts}}


def take(files: Mapping[str, Path], size: tuple[int, int], *, dark: bool) -> None:
    """Write a PNG of each of the states that *files* names."""
    end = datetime.fromisoformat(snapshot()["at"])
    begin = end - timedelta(minutes=15)
    shown: dict[str, Any] = {"now": snapshot()}
    with browsing() as browser:
        for name, file in files.items():
            with served(lambda: deepcopy(shown["now"])) as server:
                shown["now"] = {**with_time(states()[name], begin), "at": begin.isoformat()}
                browser.open(server.url, *size, dark=dark)
                shown["now"] = with_time(states()[name], end)
                browser.wait_for_text(states()[name]["verdict"]["word"], "#word")
                browser.wait_for_text("UTC", "#foot")
                if name == "acknowledged":
                    acknowledge(browser, server)
                browser.run_script("return new Promise((done) => setTimeout(done, 700))")
                browser.driver.save_screenshot(str(file))
                print(file, browser.console_errors())


def acknowledge(browser: Browser, server: Served) -> None:
    """Acknowledge the alarm."""
    browser.wait_for_text("STFs are missing", "#active-alarms")
    asked = {"kind": "stfs_missing", "subject": "100014", "by": "Ana", "note": "called the DAQ"}
    requests.post(f"{server.url}/api/acknowledge", json=asked, headers={"X-Fastmon-Page": "1"}, timeout=DEADLINE_S)
    browser.wait_for_text("Acknowledged by Ana", "#active-alarms")


def main() -> None:
    """Take the pictures that the command line asks for; by default all."""
    folder, *chosen = sys.argv[1:]
    names = chosen[0].split(",") if chosen else list(states())
    widths = [int(width) for width in chosen[1].split(",")] if chosen[1:] else list(WIDTHS)
    Path(folder).mkdir(parents=True, exist_ok=True)
    for width, dark in product(widths, (False, True)):
        files = {name: Path(folder) / f"{name}-{width}-{'dark' if dark else 'light'}.png" for name in names}
        take(files, (width, WIDTHS[width]), dark=dark)


if __name__ == "__main__":
    main()
