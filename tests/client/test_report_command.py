"""`fastmon-client report`, and the report of the page: read from a monitor, and from the folder of a dashboard."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from click.testing import CliRunner, Result

from fastmon_client.cli import cli
from fastmon_client.report import reading
from tests.client.client_process import QUICK, TOKEN, Client, Dashboard, Experiment
from tests.client.dashboard_server import served
from tests.client.snapshots import run, snapshot
from tests.client.test_dashboard_api import ASKED, OURS, missing
from tests.processes import DEADLINE_S, wait_until

SUMMARY = {
    "msg_type": "fastmon_run_summary", "run_number": 100014, "run": "100014", "namespace": "epic", "completed": 3,
    "recovered": 1, "skipped": 0, "missing": 0, "failed": 0, "discarded": 0, "tf_files": {"registered": 6},
    "latencies": [{"source": None, "dest": "received", "count": 3, "p50_s": 0.2, "p95_s": 0.4, "max_s": 0.5}],
    "outages": [],
}  # fmt: skip


@pytest.fixture
def experiment() -> Iterator[Experiment]:
    with Experiment(per_stf=2) as running:
        yield running


def call(url: str, *words: str, token: str = TOKEN) -> Result:
    words = ("report", "--monitor-url", url, *words)
    return CliRunner().invoke(cli, words, env={"SWF_API_TOKEN": token, "FASTMON_ZONE": "UTC"})


def report(url: str, *words: str) -> dict[str, Any]:
    result = call(url, "--format", "json", *words)
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout))


def play(experiment: Experiment) -> None:
    """Run 100014: of four STFs one has too few TF files, one none, and number 5 of 6 was never registered."""
    experiment.publish(1, 2, 6)
    experiment.publish(3, registered=1)
    experiment.register_stfs(4)
    experiment.end_in_table()


def test_a_report_from_the_tables_names_runs_and_missing_stfs(experiment: Experiment) -> None:
    experiment.begin_run(100013)
    experiment.publish(1)
    experiment.end_in_table()
    experiment.begin_run(100014 + 1)
    play(experiment)
    found = report(experiment.monitor.url, "--since", "8h", "--shifter", "Ana", "--note", "quiet", "--note", "night")
    dirty, *others = found["runs"]
    assert [each["run"] for each in found["runs"]] == ["100015", "100013", "100014"]
    assert (dirty["state"], dirty["verified"], dirty["stfs_missing"], dirty["stfs_incomplete"]) == (
        "ended", "VERIFIED", 2, 1,
    )  # fmt: skip
    assert dirty["missing"] == ["swf.100015.000004.stf", "STF 5 (not registered with the monitor)"]
    assert dirty["incomplete"] == ["swf.100015.000003.stf"]
    assert (dirty["tf_files"], dirty["bytes"]) == (7, 7 * 50_400_000)
    assert [(each["what"], each["count"]) for each in dirty["latencies"]] == [(reading.REGISTERED, 4)]
    assert (others[0]["state"], others[0]["verified"], others[0]["stfs_missing"]) == ("complete", "VERIFIED", 0)
    assert (found["shifter"], found["notes"], found["alarms"]) == ("Ana", ["quiet", "night"], None)
    assert any(each.startswith("run 100015: 2 STFs missing; 1 STF incomplete") for each in found["still_open"])
    assert datetime.fromisoformat(found["end"]) - datetime.fromisoformat(found["begin"]) == timedelta(hours=8)


def test_a_report_with_the_folder_of_a_dashboard_has_alarms_and_who_acknowledged_them(
    experiment: Experiment, tmp_path: Path
) -> None:
    experiment.send("start_run")
    with Dashboard(experiment.monitor.url, "--state", str(tmp_path), **QUICK) as dashboard:
        experiment.publish(1, 2, 4)
        missing(dashboard)
        asked = {**ASKED, "note": "told the DAQ"}
        answer = requests.post(f"{dashboard.url}api/acknowledge", json=asked, headers=OURS, timeout=DEADLINE_S)
        assert answer.status_code == 200

        def noted() -> bool:
            found = report(experiment.monitor.url, "--state", str(tmp_path))
            return any(each["acknowledged_by"] for each in found["alarms"])

        wait_until(noted, "it is in the journal")
        experiment.monitor.deliver(json.dumps({**SUMMARY, "completed": 3, "missing": 1}))
        wait_until((tmp_path / "summaries.json").exists, "the summary is kept")
    found = report(experiment.monitor.url, "--state", str(tmp_path))
    [alarm] = [each for each in found["alarms"] if each["kind"] == "stfs_missing"]
    assert (alarm["run"], alarm["acknowledged_by"], alarm["note"]) == ("100014", "Ana", "told the DAQ")
    assert any("acknowledged by Ana" in each for each in found["still_open"])
    assert (found["runs"][0]["recovered"], found["runs"][0]["latencies"][-1]["what"]) == (1, "made → received")
    with Dashboard(experiment.monitor.url, "--state", str(tmp_path), **QUICK):
        again = report(experiment.monitor.url, "--state", str(tmp_path))
    ended = [each for each in again["alarms"] if each["since"] == alarm["since"]]
    assert [each["acknowledged_by"] for each in ended] == ["Ana"]


def test_a_run_with_two_fractions_is_verified_with_the_daemon_s_summary(experiment: Experiment, tmp_path: Path) -> None:
    experiment.publish(1, 2)
    experiment.fraction = 0.1
    experiment.register_stfs(*range(3, 11))
    experiment.publish(11)
    experiment.end_in_table()
    url = experiment.monitor.url
    assert report(url)["runs"][0]["verified"] == "UNKNOWN"
    summary = {**SUMMARY, "completed": 3, "skipped": 8}
    (tmp_path / "summaries.json").write_text(json.dumps({"summaries": [summary]}))
    told = report(url, "--state", str(tmp_path))["runs"][0]
    one = ["summary", "--monitor-url", url, "--run", "100014"]
    codes = [CliRunner().invoke(cli, words, env={"SWF_API_TOKEN": TOKEN}).exit_code
             for words in (one, [*one, "--state", str(tmp_path)])]  # fmt: skip
    assert codes == [5, 0]
    assert (told["verified"], told["stfs_skipped"], told["stfs_missing"], told["doubt"]) == ("VERIFIED", 8, 0, "")
    (tmp_path / "summaries.json").write_text(json.dumps({"summaries": [{**summary, "completed": 4, "skipped": 7}]}))
    assert report(url, "--state", str(tmp_path))["runs"][0]["verified"] == "UNKNOWN"


def test_calls_are_bounded_and_what_was_not_read_is_said(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment.publish(*range(1, 6))
    experiment.begin_run(100015)
    experiment.publish(*range(1, 4))
    monkeypatch.setattr(reading, "MAX_READS", 4)
    newest, older = report(experiment.monitor.url)["runs"]
    assert (newest["stfs_seen"], older["stfs_seen"]) == (3, None)
    assert "fastmon-client summary --run 100014 reads them all" in older["doubt"]
    monkeypatch.setattr(reading, "MAX_RUNS", 1)
    found = report(experiment.monitor.url)
    assert ([each["run"] for each in found["runs"]], found["runs_omitted"]) == (["100015"], 1)


def test_a_monitor_that_goes_away_leaves_the_rest_of_the_report(experiment: Experiment, tmp_path: Path) -> None:
    (tmp_path / "journal.json").write_text(json.dumps(
        {"at": datetime.now(UTC).isoformat(), "alarms": [], "outages": []}
    ))  # fmt: skip
    result = call("http://127.0.0.1:1", "--state", str(tmp_path), "--format", "json")
    assert result.exit_code == 4
    assert "runs and daemons: not known" in json.loads(result.stdout)["problems"][0]
    assert "refused" in result.stderr.lower()


def test_a_part_that_cannot_be_read_is_named(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment.publish(1)
    experiment.begin_run(100015)
    experiment.monitor.server.faults.set({"error_rate": 1.0, "endpoints": ["/api/stf-files/"]})
    found = report(experiment.monitor.url)
    assert {each["verified"] for each in found["runs"]} == {"UNKNOWN"}
    assert [each for each in found["problems"] if "read in part only" in each]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--shift", "owl"), 2, "--shift: no shift is called 'owl': use night, day, evening"),
        (("--shift", "day", "--since", "1h"), 2, "cannot be combined"),
        (("--zone", "Atlantis"), 2, "is not known here"),
        (("--shifts", "a=9"), 2, "use NAME=HH:MM"),
        (("--state", "/nowhere"), 2, "no such folder"),
        (("--output", "/nowhere/a.md"), 2, "--output /nowhere/a.md: no such folder"),
        (("--output", "/dev/full"), 74, "No space left on device"),
        (("--since", "eight"), 2, "invalid duration"),
    ],
)
def test_an_invalid_option_says_what_to_use(
    experiment: Experiment, words: tuple[str, ...], code: int, said: str
) -> None:
    result = call(experiment.monitor.url, *words)
    assert (result.exit_code, said in result.output) == (code, True), result.output


def test_a_journal_that_is_not_ours_is_named(experiment: Experiment, tmp_path: Path) -> None:
    (tmp_path / "journal.json").write_text('{"at": 5, "alarms": []}')
    result = call(experiment.monitor.url, "--state", str(tmp_path))
    assert result.exit_code == 2
    assert "journal.json cannot be read" in result.output
    assert (tmp_path / "journal.json").exists()


def test_a_rejected_token_and_a_monitor_that_does_not_answer_have_their_codes(experiment: Experiment) -> None:
    assert call(experiment.monitor.url, token="wrong").exit_code == 3
    assert call("http://127.0.0.1:1").exit_code == 4


def test_output_to_a_file_replaces_it_at_once_or_not_at_all(experiment: Experiment, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text("old")
    assert call("http://127.0.0.1:1", "--output", str(file)).exit_code == 4
    assert file.read_text() == "old"
    link = tmp_path / "link"
    link.symlink_to(file)
    result = call(experiment.monitor.url, "--format", "html", "--output", str(link))
    assert (result.exit_code, result.stdout) == (0, "")
    assert file.read_text().startswith("<!doctype html>")
    assert {path.name for path in tmp_path.iterdir()} == {"report.html", "link"}


def test_the_shift_is_that_of_the_wall_clock(experiment: Experiment) -> None:
    found = report(experiment.monitor.url, "--shift", "all", "--shifts", "all=00:00")
    assert found["begin"][11:19] == "00:00:00"
    assert found["title"] == f"all shift of {found['begin'][:10]}"


def test_what_is_read_is_told_when_it_lasts_and_ctrl_c_ends_it(experiment: Experiment) -> None:
    experiment.publish(*range(1, 41))
    experiment.monitor.server.faults.set({"latency_ms": 300})
    with Client(experiment.monitor.url, "--state", ".", command="report") as client:
        client.wait_for_log("reading run 100014: ")
        client.wait_for_log(" of 40 STFs", times=2)
        client.signal(signal.SIGINT)
        assert client.ended() == (130, [])


def test_output_that_cannot_be_written_has_its_own_exit_code(experiment: Experiment) -> None:
    with Path("/dev/full").open("w") as full, Client(
        experiment.monitor.url, stdout=full.fileno(), command="report"
    ) as client:  # fmt: skip
        assert client.exit_code() == 74


# The page


def page_report(url: str, **asked: str) -> requests.Response:
    return requests.get(f"{url}/report", params=asked, timeout=DEADLINE_S)


def test_the_page_gives_a_report_of_what_it_follows(experiment: Experiment, tmp_path: Path) -> None:
    experiment.send("start_run")
    with Dashboard(experiment.monitor.url, "--last", "1", "--state", str(tmp_path), **QUICK) as dashboard:
        url = dashboard.url.rstrip("/")
        experiment.publish(1, 2, 4)
        experiment.register_stfs(3)
        missing(dashboard)
        found = page_report(url, range="since=8h", format="json", shifter="Ana\x1b", note="a\nb").json()
        assert (found["shifter"], found["notes"]) == ("Ana\\x1b", ["a", "b"])
        assert found["runs"][0]["missing"] == ["swf.100014.000003.stf"]
        assert [each["kind"] for each in found["alarms"]] == ["stfs_missing"]
        page = page_report(url, range="shift=day")
        assert page.headers["Content-Type"].startswith("text/html")
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
        text = page_report(url, format="md")
        assert text.headers["Content-Disposition"].endswith('.md"')
        assert "swf.100014.000003.stf" in text.text.replace("\\", "")
        assert "| Recovered | TF files |" in text.text  # a page cannot know which are late
        ranges = requests.get(f"{url}/api/report-ranges", timeout=DEADLINE_S).json()["ranges"]
        assert {value for value, _ in ranges} >= {"shift=night", "shift=day", "shift=evening", "since=8h"}


def test_a_run_that_the_page_has_not_followed_is_listed_as_unknown(experiment: Experiment) -> None:
    experiment.end_in_table()
    experiment.begin_run(100015)
    with Dashboard(experiment.monitor.url, "--last", "0", **QUICK) as dashboard:

        def runs() -> list[tuple[str, str]]:
            found = page_report(dashboard.url.rstrip("/"), format="json").json()["runs"]
            return [(each["run"], each["doubt"]) for each in found]

        wait_until(lambda: len(runs()) == 2, "both are listed")
        assert [run for run, _ in runs()] == ["100015", "100014"]
        assert "this page has not followed it" in runs()[1][1]


@pytest.mark.parametrize(
    ("asked", "said"),
    [({"format": "pdf"}, "use md, html, json"), ({"range": "shift=owl"}, "use night, day, evening"),
     ({"range": "since=1y"}, "unknown range"), ({"range": "x"}, "unknown range")],
)  # fmt: skip
def test_what_the_page_cannot_report_is_refused_with_a_reason(asked: dict[str, str], said: str) -> None:
    with served(snapshot) as server:
        answer = page_report(server.url, **asked)
    assert (answer.status_code, said in answer.json()["error"]) == (400, True)


def test_the_report_needs_the_login_of_the_page() -> None:
    with served(snapshot, token="0123456789abcdef-secret") as server:
        assert page_report(server.url).status_code == 401


def test_only_runs_of_the_range_are_reported() -> None:
    now = datetime.now(UTC)
    begin = (now - timedelta(hours=30)).isoformat()
    old = run("1", began_at=begin, ended_at=(now - timedelta(hours=9)).isoformat(), state="complete")
    long = run("2", began_at=begin, ended_at=(now - timedelta(hours=7)).isoformat(), state="complete")
    shown = snapshot(at=now.isoformat(), runs=[long, old])
    with served(lambda: shown) as server:
        found = page_report(server.url, range="since=8h", format="json").json()
    assert [each["run"] for each in found["runs"]] == ["2"]
