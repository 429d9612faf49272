"""What a page asks the dashboard's server for beside the stream."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from fastmon_client.dashboard.acknowledgements import Acknowledgements
from fastmon_client.dashboard.details import MAX_WAITING, Summaries, TableDetails
from fastmon_client.monitor_tables import MonitorUnavailable
from fastmon_client.settings import monitor_from
from fastmon_client.state_folder import StateFolder
from tests.client.client_process import TOKEN, Dashboard, Experiment
from tests.client.dashboard_server import Served, served
from tests.client.snapshots import alarm, run, snapshot
from tests.processes import DEADLINE_S, wait_until

OURS = {"X-Fastmon-Page": "1"}
ASKED = {"kind": "stfs_missing", "subject": "100014", "by": "Ana"}
SUMMARY = {"msg_type": "fastmon_run_summary", "run_number": 100014, "completed": 7, "namespace": "epic"}


def older(offset: int, limit: int | None) -> list[dict[str, Any]]:
    """Runs that are not in the snapshot."""
    return [run(str(100000 - n), strip=[]) for n in range(500)][offset:][:limit]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Served]:
    with (
        closing(StateFolder(tmp_path)) as folder,
        served(snapshot, acknowledgements=Acknowledgements(folder)) as running,
    ):
        wait_for_incidents(running)
        yield running


def wait_for_incidents(server: Served) -> None:
    """Wait until the server has seen its first snapshot."""
    with requests.get(f"{server.url}/events", timeout=DEADLINE_S, stream=True) as answer:
        next(answer.iter_lines())


def get(server: Served, path: str, **options: Any) -> requests.Response:
    return requests.get(f"{server.url}/api/{path}", timeout=DEADLINE_S, **options)


def post(server: Served, value: Any, **headers: str) -> requests.Response:
    body = value if isinstance(value, str) else json.dumps(value)
    return requests.post(f"{server.url}/api/acknowledge", body, headers=OURS | headers, timeout=DEADLINE_S)


def first_event(server: Served) -> dict[str, Any]:
    with requests.get(f"{server.url}/events", timeout=DEADLINE_S, stream=True) as answer:
        line = next(line for line in answer.iter_lines() if line.startswith(b"data: "))
    found: dict[str, Any] = json.loads(line.removeprefix(b"data: "))
    return found


def test_all_pages_see_who_acknowledged(server: Served, tmp_path: Path) -> None:
    assert first_event(server)["incidents"][0]["acknowledged"] is None
    assert post(server, {**ASKED, "note": "told\nthe DAQ\x1b"}).status_code == 200
    wait_until(lambda: first_event(server)["incidents"][0]["acknowledged"], "it is seen")
    found = first_event(server)["incidents"][0]["acknowledged"]
    assert (found["by"], found["note"]) == ("Ana", "told the DAQ\\x1b")
    assert "Ana" in (tmp_path / "acknowledgements.json").read_text()


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"X-Fastmon-Page": None}, 403), ({"Sec-Fetch-Site": "cross-site"}, 403), ({"Sec-Fetch-Site": "same-site"}, 403),
     ({"Sec-Fetch-Site": "same-origin"}, 200), ({}, 200)],
)  # fmt: skip
def test_no_other_site_can_acknowledge(server: Served, headers: Any, status: int) -> None:
    assert post(server, ASKED, **headers).status_code == status


def test_a_browser_may_not_ask_for_another_site(server: Served) -> None:
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Headers": "x-fastmon-page",
             "Access-Control-Request-Method": "POST"}  # fmt: skip
    answer = requests.options(f"{server.url}/api/acknowledge", headers=asked, timeout=DEADLINE_S)
    assert answer.status_code == 405
    assert not any(name.lower().startswith("access-control") for name in answer.headers)


@pytest.mark.parametrize(
    ("value", "status"),
    [("{", 400), ("[]", 400), ({}, 400), ({**ASKED, "by": " \n"}, 400), ({**ASKED, "subject": "1"}, 409),
     ("[" * 4000, 400), ({**ASKED, "note": "x" * 5000}, 400)],
)  # fmt: skip
def test_an_invalid_acknowledgement_is_refused_with_a_reason(server: Served, value: Any, status: int) -> None:
    answer = post(server, value)
    assert (answer.status_code, bool(answer.json()["error"])) == (status, True)


def test_an_acknowledgement_that_cannot_be_written_says_so(server: Served, tmp_path: Path) -> None:
    (tmp_path / "acknowledgements.tmp").mkdir()
    answer = post(server, ASKED)
    assert answer.status_code == 507
    assert "cannot be written" in answer.json()["error"]


def test_history_has_ranges(server: Served) -> None:
    assert len(get(server, "history?range=8h").json()["at"]) == 480
    answer = get(server, "history?range=1y")
    assert answer.status_code == 400
    assert "15m, 1h, 8h, 24h" in answer.json()["error"]


def test_all_runs_are_listed_without_strips() -> None:
    many = snapshot(runs=[run(str(100300 - n)) for n in range(200)], alarms=[alarm()])
    with served(lambda: many) as server:
        found = get(server, "runs").json()["runs"]
    assert len(found) == 200
    assert not any(each["strip"] for each in found)


def test_everything_needs_the_token() -> None:
    with served(snapshot, "a-token-that-nobody-guesses") as server:
        for path in ("runs", "history", "guide", "summaries", "runs/100014", "runs/100014/stfs/1"):
            assert get(server, path).status_code == 401
        assert post(server, ASKED).status_code == 401


@pytest.fixture(scope="module")
def experiment() -> Iterator[Experiment]:
    with Experiment(per_stf=3) as running:
        running.publish(1, 2)
        running.publish(3, registered=2)
        running.register_stfs(4)
        yield running


@pytest.fixture(scope="module")
def with_tables(experiment: Experiment) -> Iterator[Served]:
    summaries = Summaries()
    summaries.write(SUMMARY, backfilled=False)
    monitor = monitor_from(experiment.monitor.url, {"SWF_API_TOKEN": TOKEN})
    rows = snapshot(runs=[run(missing=[4], stfs_missing=1, strip=[{"sequence": 3, "kind": "incomplete"}])])
    with closing(TableDetails(monitor, summaries, older)) as details, served(lambda: rows, details=details) as server:
        yield server


def test_a_run_has_its_missing_stfs_by_name_and_the_daemons_summary(
    with_tables: Served, experiment: Experiment
) -> None:
    found = get(with_tables, "runs/100014").json()
    assert found["row"]["strip"] == [[3, 3, "incomplete"]]
    tables = found["tables"]
    assert tables["names"] == {"3": "swf.100014.000003.stf", "4": "swf.100014.000004.stf"}
    assert tables["stfs"] == 4
    assert tables["summary"]["completed"] == 7
    assert tables["monitor_page"] == f"{experiment.monitor.url.rstrip('/')}/runs/100014/"
    assert get(with_tables, "summaries").json()["summaries"][0]["run"] == "100014"


def test_runs_that_are_not_in_the_stream_are_listed_and_have_a_page(with_tables: Served) -> None:
    assert len(get(with_tables, "runs").json()["runs"]) == 500
    assert get(with_tables, "runs/99999").json()["row"]["run"] == "99999"


@pytest.mark.parametrize("name", ["3", "swf.100014.000003.stf"])
def test_an_stf_has_its_tf_files(with_tables: Served, name: str) -> None:
    found = get(with_tables, f"runs/100014/stfs/{name}").json()
    assert found["stf_filename"] == "swf.100014.000003.stf"
    assert [each["tf_filename"][-7:] for each in found["tf_files"]] == ["_001.tf", "_002.tf"]
    assert (found["before"], found["after"]) == ("swf.100014.000002.stf", "swf.100014.000004.stf")
    assert (found["tf_expected"], found["agent"], found["sequence"]) == (3, "fastmon-agent-1", 3)


@pytest.mark.parametrize("path", ["runs/7", "runs/100014/stfs/99", "runs/100014/stfs/%3Cscript%3E", "runs/a/stfs/1"])
def test_what_is_not_there_is_404_with_a_reason(with_tables: Served, path: str) -> None:
    assert get(with_tables, path).status_code == 404


def test_a_dead_monitor_is_named(experiment: Experiment) -> None:
    monitor = monitor_from("http://127.0.0.1:1", {"SWF_API_TOKEN": TOKEN})
    with closing(TableDetails(monitor, Summaries(), older)) as details, served(snapshot, details=details) as server:
        found = get(server, "runs/100014").json()
        assert found["row"]["run"] == "100014"
        assert "connection refused" in found["problem"].lower()
        answer = get(server, "runs/100014/stfs/1")
        assert (answer.status_code, "connection refused" in answer.json()["error"].lower()) == (502, True)


def test_so_many_questions_wait_for_the_monitor_and_no_more() -> None:
    monitor = monitor_from("http://127.0.0.1:1", {"SWF_API_TOKEN": TOKEN})
    go_on = threading.Event()

    async def ask(details: TableDetails) -> list[bool]:
        waiting = [asyncio.create_task(details._ask(("run", str(n)), go_on.wait)) for n in range(MAX_WAITING)]
        await asyncio.sleep(0)
        try:
            with pytest.raises(MonitorUnavailable, match="too many questions wait for the monitor: try again"):
                await asyncio.wait_for(details._ask(("run", "more"), go_on.wait), DEADLINE_S)
        finally:
            go_on.set()
        return [await each for each in waiting]

    with closing(TableDetails(monitor, Summaries(), older)) as details:
        assert asyncio.run(ask(details)) == [True] * MAX_WAITING


def test_an_answer_that_is_not_complete_is_asked_for_again() -> None:
    monitor = monitor_from("http://127.0.0.1:1", {"SWF_API_TOKEN": TOKEN})
    left = iter([2, 1, 0])

    async def ask(details: TableDetails) -> list[int]:
        return [
            await details._ask(("profile", "7"), lambda: next(left), is_kept=lambda found: found == 0) for _ in range(4)
        ]

    with closing(TableDetails(monitor, Summaries(), older)) as details:
        assert asyncio.run(ask(details)) == [2, 1, 0, 0]


def test_acknowledgements_survive_a_restart_of_the_process(experiment: Experiment, tmp_path: Path) -> None:
    experiment.send("start_run")
    with Dashboard(experiment.monitor.url, "--state", str(tmp_path)) as dashboard:
        missing(dashboard)
        assert post(Served(int(urlsplit(dashboard.url).port or 0)), ASKED).status_code == 200
    with Dashboard(experiment.monitor.url, "--state", str(tmp_path)) as dashboard:
        assert missing(dashboard)["acknowledged"]["by"] == "Ana"


def missing(dashboard: Dashboard) -> dict[str, Any]:
    """The incident of the missing STFs, when there is one."""
    server = Served(int(urlsplit(dashboard.url).port or 0))
    found: list[dict[str, Any]] = []

    def is_raised() -> bool:
        found[:] = [each for each in first_event(server)["incidents"] if each["kind"] == "stfs_missing"]
        return bool(found)

    wait_until(is_raised, "the alarm")
    return found[0]


def test_charts_show_the_rates_of_before_the_start() -> None:
    with Experiment(per_stf=3) as experiment, ExitStack() as stack:
        experiment.publish(1, 2, 3)  # made a minute ago
        dashboard = stack.enter_context(Dashboard(experiment.monitor.url))
        server = Served(int(urlsplit(dashboard.url).port or 0))

        def made() -> float:
            found = get(server, "history?range=8h").json()
            return round(sum(rate or 0.0 for rate in found["rate_hz"]) * found["step_s"])

        wait_until(lambda: made() == 3 * experiment.per_stf, "the TF files of the tables")


def test_a_profile_is_answered_or_its_absence_told() -> None:
    with Experiment(per_stf=3, age_s=120.0) as experiment, ExitStack() as stack:
        experiment.publish(1, 2)
        dashboard = stack.enter_context(Dashboard(experiment.monitor.url))
        server = Served(int(urlsplit(dashboard.url).port or 0))
        assert get(server, "runs/100014/profile").json()["points"][0]["missing"] == 0.0
        answer = get(server, "runs/9/profile")
        assert (answer.status_code, answer.json()["error"]) == (404, "the monitor has no run 9")
