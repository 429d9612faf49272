"""Takes the screenshots of the README: `python -m tests.browser.screenshots` (`make screenshots`).

Two minutes of a run with every kind of STF; terminal view and page show the same session.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from contextlib import closing
from datetime import timedelta
from io import StringIO
from math import sin
from pathlib import Path

import requests
from rich.console import Console
from rich.terminal_theme import DIMMED_MONOKAI

from fastmon_client.app_state import AppState, Earlier
from fastmon_client.dashboard.details import Summaries, TableDetails
from fastmon_client.dashboard.incidents import incidents_of
from fastmon_client.intervals import Intervals
from fastmon_client.live import Model, render
from fastmon_client.message_filter import RUN_SUMMARY, MessageFilter
from fastmon_client.session import Session, now
from fastmon_client.settings import monitor_from
from fastmon_daemon.testbed.monitor import MonitorThread
from tests.browser.browsing import browsing
from tests.browser.gallery import take
from tests.client.client_process import TOKEN, Experiment
from tests.client.dashboard_server import served
from tests.processes import DEADLINE_S, wait_until

IMAGES = Path(__file__).parents[2] / "docs" / "images"
STFS, EVERY_S = 220, 0.5
RECOVERED, INCOMPLETE, MISSING = range(90, 96), (121,), (47, 48, 133)
COLUMNS, ROWS = 104, 26
Picture = tuple[str, str, tuple[int, int], bool, str, str]
"""Its name, address and size, whether it is dark, a text that is there when it is drawn, and where."""
PAGES: tuple[Picture, ...] = (
    ("dashboard", "", (1280, 960), False, "DEGRADED", "#word"),
    ("dashboard-dark", "", (1280, 960), True, "DEGRADED", "#word"),
    ("dashboard-run", "?run=100014", (1280, 620), False, "STFs 1-", "#run-view"),
    ("dashboard-states", "?view=states", (1280, 620), False, "unfinished", "#states-view"),
    ("dashboard-phone", "", (375, 760), False, "DEGRADED", "#word"),
)
REPORT = "report?range=since=1h&shifter=Ana&note=Beam+was+lost+twice."
EARLIER_PAGES: tuple[Picture, ...] = (
    ("dashboard-reference", "?run=100012&ref=100011", (1280, 560), False, "Solid: run 100012", ".reference"),
    ("report", REPORT, (1280, 1000), False, "Alarms", "main"),
)
"""With runs of the hours before: they come after the other pictures, which would show their alarms."""
SUMMARY = {
    "complete": True, "incomplete_reasons": [], "expected": 80, "received": 80, "recovered": 0, "skipped": 72,
    "completed": 8, "failed": 0, "discarded": 0, "unfinished": 0, "missing": 0, "tf_files": {"registered": 24},
    "latencies": [{"source": None, "dest": "received", "count": 8, "p50_s": 0.02, "p95_s": 0.06, "max_s": 0.08},
                  {"source": "tf_registered", "dest": "notified", "count": 8, "p50_s": 0.4, "p95_s": 1.4, "max_s": 2}],
    "outages": [],
}  # fmt: skip
"""The daemon's, of the first run."""
STATES = ("dead-daemon", "acknowledged")
"""Those of the gallery that the documents show."""


def play(experiment: Experiment, stfs: int, every_s: float, *, one_of: int = 1) -> None:
    """A run with every kind of STF; one of *one_of* STFs is selected."""
    pause = threading.Event()
    experiment.fraction = 1 / one_of
    experiment.send("start_run")
    for n in range(1, stfs + 1):
        lag_s = 0.35 + 0.2 * sin(n / 15) + (1.1 if n % 17 == 0 else 0.0)
        if n in MISSING or (n - 1) % one_of:
            experiment.register_stfs(n)
        else:
            registered = experiment.per_stf - (n in INCOMPLETE)
            experiment.publish(n, registered=registered, announced=0 if n in RECOVERED else None, lag_s=lag_s)
        pause.wait(every_s)


def play_earlier(experiment: Experiment, began: timedelta, minutes: int, *, is_good: bool) -> None:
    """The run, as if it had begun so long ago, with an STF every 6 s; a bad one has slow minutes, and loses STFs."""
    run, store = experiment.run, experiment.monitor.server.store
    begin = store.now() - began
    for n in range(1, minutes * 10 + 1):
        experiment.register_stfs(n)
        is_slow = not is_good and minutes * 3 < n < minutes * 6
        if not (is_slow and n % 4 == 0):
            experiment.register_tfs(n, 2 if is_slow and n % 3 == 0 else None)

    def date_back() -> None:
        """Give the rows the times that they would have."""
        for table, name in (("stf-files", "stf_filename"), ("fastmon-files", "stf_file")):
            for key, row in list(store.tables[table].rows.items()):
                if f".{run}." in row[name]:
                    n = int(re.split(r"[._]", row[name])[2])
                    is_slow = not is_good and minutes * 3 < n < minutes * 6
                    lag_s = 0.4 + 0.2 * sin(n / 30) + 3 * is_slow
                    at = begin + timedelta(seconds=6 * n + lag_s * (table == "fastmon-files"))
                    store.tables[table].put(key, {**row, "created_at": at.isoformat()})
        [(key, row)] = [each for each in store.tables["runs"].rows.items() if each[1]["run_number"] == run]
        end = begin + timedelta(minutes=minutes)
        store.tables["runs"].put(key, {**row, "start_time": begin.isoformat(), "end_time": end.isoformat()})

    experiment.monitor.call(date_back)


def session_at(embedded: MonitorThread, summaries: Summaries) -> Session:
    """A session of the *embedded* monitor."""
    filter_ = MessageFilter(types=("tf_file_registered", "fastmon_status", RUN_SUMMARY))
    monitor = monitor_from(embedded.url, {"SWF_API_TOKEN": TOKEN})
    state = AppState(
        monitor.url, filter_, now(), intervals=Intervals(query_hz=100.0, runs_s=5.0), earlier=Earlier(last=20)
    )
    return Session(monitor, filter_.subscribed_types, state, summaries)


def terminal(session: Session) -> None:
    """Write `client.svg`, without remote fonts."""
    console = Console(width=COLUMNS, height=ROWS, record=True, force_terminal=True, file=StringIO(), highlight=False)
    snapshot = session.snapshot()
    incidents = [{**each, "acknowledged": None} for each in incidents_of(snapshot["alarms"])]
    for line in render(Model(snapshot=snapshot, incidents=incidents), COLUMNS, ROWS):
        console.print(line)
    svg = console.export_svg(title="fastmon-client start", theme=DIMMED_MONOKAI, unique_id="client")
    own = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    (IMAGES / "client.svg").write_text("\n".join(line.rstrip() for line in own.splitlines()) + "\n", encoding="utf-8")


def pages(url: str, chosen: Sequence[Picture]) -> None:
    """Write the *chosen* pictures of the page."""
    with browsing() as browser:
        for name, path, size, dark, text, where in chosen:
            browser.open(f"{url}/{path}", *size, dark=dark)
            browser.wait_for_text(text, where)
            if not path:
                browser.wait_for_text("STFs 1-", "#strips")
                wait_until(lambda: browser.text("#charts .outages"), "the charts are drawn")
            if where == ".reference":
                browser.run_script("document.querySelector('.reference').scrollIntoView()")
            browser.driver.save_screenshot(str(IMAGES / f"{name}.png"))


def beat(experiment: Experiment, stopped: threading.Event) -> None:
    """The heart-beats of a daemon, until *stopped*."""
    row = {"instance_name": "fastmon-agent-1", "agent_type": "fastmon", "namespace": "epic", "status": "OK",
           "hostname": "daq-7", "description": "healthy: monitor and broker answer"}  # fmt: skip
    while not stopped.is_set():
        url = f"{experiment.monitor.url.rstrip('/')}/api/systemagents/heartbeat/"
        headers = {"Authorization": f"Token {TOKEN}"}
        key = requests.post(url, json=row, headers=headers, timeout=DEADLINE_S).json()["id"]
        files = experiment.monitor.call(
            lambda: list(experiment.monitor.server.store.tables["fastmon-files"].rows.values())
        )
        counts = {"current_stf_count": 2, "total_stf_processed": len({file["stf_file"] for file in files})}
        requests.patch(url.replace("heartbeat", f"{key}"), json=counts, headers=headers, timeout=DEADLINE_S)
        stopped.wait(5.0)


def main() -> None:
    """Run it and write the images."""
    IMAGES.mkdir(exist_ok=True)
    stopped = threading.Event()
    with Experiment(100013, per_stf=3, age_s=0.0, heartbeat_s=1.0) as experiment:
        summaries = Summaries()
        session = session_at(experiment.monitor, summaries)
        monitor = monitor_from(experiment.monitor.url, {"SWF_API_TOKEN": TOKEN})
        threads = [threading.Thread(target=session.run), threading.Thread(target=beat, args=(experiment, stopped))]
        for thread in threads:
            thread.start()
        try:
            with (
                closing(TableDetails(monitor, summaries, session.rows)) as details,
                served(session.snapshot, details=details) as dashboard,
            ):
                play(experiment, 80, 0.02, one_of=10)
                experiment.send("end_run", total_stf_files=80)
                experiment.send(RUN_SUMMARY, run="100013", **SUMMARY)
                experiment.begin_run(100014)
                play(experiment, STFS, EVERY_S)
                terminal(session)
                pages(dashboard.url, PAGES)
                for run, began, is_good in ((100011, timedelta(hours=3), True), (100012, timedelta(minutes=55), False)):
                    experiment.begin_run(run)
                    play_earlier(experiment, began, 40, is_good=is_good)
                is_read = {"100011": "complete", "100012": "ended"}.items()
                wait_until(lambda: is_read <= {(run["run"], run["state"]) for run in session.rows()
                                               if run["verified"] == "VERIFIED"}, "they are read")  # fmt: skip
                pages(dashboard.url, EARLIER_PAGES)
            take({name: IMAGES / f"dashboard-{name}.png" for name in STATES}, (1280, 620), dark=False)
        finally:
            stopped.set()
            session.stop()
            for thread in threads:
                thread.join()


if __name__ == "__main__":
    main()
