"""`fastmon-client start` as a process, with the embedded monitor."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from fastmon_client.app_state import AppState
from fastmon_client.cli import cli
from fastmon_client.message_filter import MessageFilter
from fastmon_client.output import Quiet
from fastmon_client.session import Session, now
from fastmon_client.settings import monitor_from
from fastmon_client.shutdown import shutdown_on
from fastmon_daemon.testbed.monitor import MonitorThread
from tests.client.client_process import QUICK, TOKEN, Client
from tests.client.scripted_server import DEADLINE_S, ScriptedServer
from tests.preloaded import run

UNREACHABLE_URL = "http://127.0.0.1:1"


@pytest.fixture(scope="module")
def monitor() -> Iterator[MonitorThread]:
    with MonitorThread(TOKEN) as running:
        yield running


def tf(number: int, **changes: Any) -> str:
    return json.dumps({
        "msg_type": "tf_file_registered", "namespace": "ns", "run_id": "7", "processed_by": "fastmon-agent-1",
        "tf_file_id": f"id-{number}", "tf_filename": f"{number}.tf", "tf_first": 1, "tf_last": 2,
        "stf_filename": "a.stf", "file_size_bytes": 1000, "timestamp": "2026-11-21T12:00:01+00:00",
    } | changes)  # fmt: skip


def connected_client(monitor: MonitorThread, *options: str, **more: Any) -> Client:
    client = Client(monitor.url, *options, **QUICK | {"heart_beat_s": 30.0} | more)
    client.wait_for_log("connected to")
    return client


def test_each_tf_file_is_printed_once_then_a_summary(monitor):
    with connected_client(monitor, "--count", "3") as client:
        for number in (1, 1, 2, 1, 3):
            monitor.deliver(tf(number))
        code, lines = client.ended()
    assert code == 0
    assert lines == [f"12:00:01  run 7  {number}.tf  TF 1-2  1.0 kB  of a.stf" for number in (1, 2, 3)]
    assert client.log_lines[-2].endswith("3 TF files, 3.0 kB, 0 backfilled, 2 repeated\n")
    assert client.log_lines[-1].startswith("run 7 running: 3 TF files of 1 STFs, 3.0 kB, ")


def test_json_lines_contain_the_messages(monitor):
    with connected_client(monitor, "--json", "--until", "end_run") as client:
        monitor.deliver(tf(1, late=True))
        monitor.deliver(json.dumps({"msg_type": "end_run", "run_id": 7}))
        code, lines = client.ended()
    assert code == 0
    objects = [json.loads(line) for line in lines]
    messages = [each for each in objects if each["kind"] in ("tf_file", "message")]
    assert [message["msg_type"] for message in messages] == ["tf_file_registered", "end_run"]
    assert json.loads(tf(1, late=True)).items() <= messages[0].items()
    assert messages[0]["backfilled"] is False
    assert {"connection", "run"} <= {each["kind"] for each in objects}
    assert objects[-1]["kind"] == "summary"
    assert objects[-1]["totals"]["tf_files"] == 1


def test_filters_match_numbers_and_strings(monitor):
    options = ("--run-ids", "7,9", "--agents", "fastmon-agent-*", "--namespace", "ns", "--count", "2")
    with connected_client(monitor, *options) as client:
        for message in (
            tf(1, run_id=7), tf(2, run_id=8), tf(3, processed_by="other"), tf(4, namespace="other"),
            json.dumps({"msg_type": "stf_ready", "run_id": 7, "namespace": "ns"}), tf(5),
        ):  # fmt: skip
            monitor.deliver(message)
        code, lines = client.ended()
    assert code == 0
    assert [line.split()[3] for line in lines] == ["1.tf", "5.tf"]


def test_hostile_name_is_shown_as_text(monitor):
    with connected_client(monitor, "--count", "1") as client:
        monitor.deliver(tf(1, tf_filename="\x1b[2J\r\n<script>", run_id="\x1b]0;x\x07"))
        code, lines = client.ended()
    assert code == 0
    assert "\\x1b[2J\\r\\n<script>" in lines[0]
    assert all(text.isprintable() for text in [*lines, *(said.rstrip("\n") for said in client.log_lines)])


def test_client_continues_after_a_monitor_restart():
    with MonitorThread(TOKEN) as own, connected_client(own, "--count", "2") as client:
        own.deliver(tf(1))
        assert "1.tf" in client.line()
        own.stop()
        client.wait_for_log("stream lost")
        own.start()
        client.wait_for_log("connected to", times=2)
        own.deliver(tf(1))
        own.deliver(tf(2))
        code, lines = client.ended()
    assert code == 0
    assert ["2.tf" in line for line in lines] == [True]


@pytest.mark.parametrize("token", ["", "f" * 40])
def test_invalid_token_exits_with_3_and_a_hint(monitor, token):
    with Client(monitor.url, token=token) as client:
        assert client.ended()[0] == 3
    assert "SWF_API_TOKEN" in "".join(client.log_lines)
    assert "f" * 40 not in "".join(client.log_lines)


def test_token_with_a_line_break_is_rejected_and_not_shown(monitor):
    with Client(monitor.url, token="5ecre7\n5ecre7") as client:
        assert client.ended()[0] == 1
    assert "SWF_API_TOKEN" in "".join(client.log_lines)
    assert "5ecre7" not in "".join(client.log_lines)


@pytest.mark.field("18")
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_closed_stdout_ends_with_74_and_one_line(monitor, options):
    with connected_client(monitor, *options) as client:
        monitor.deliver(tf(1))
        assert any("1.tf" in line for line in iter(client.line, ""))
        client.close_stdout()
        assert client.ended()[0] == 74
    assert sum("standard output: cannot be written" in line for line in client.log_lines) == 1
    assert "Error" not in "".join(client.log_lines)


@pytest.mark.field("3")
def test_run_is_selected_by_its_number(monitor):
    with connected_client(monitor, "--run-ids", "0300123", "--count", "2") as client:
        monitor.deliver(tf(1, run_id="7"))
        monitor.deliver(tf(2, run_id="0300123"))
        monitor.deliver(tf(3, run_id=300123))
        code, lines = client.ended()
    assert code == 0
    assert [line.split()[1:4] for line in lines] == [["run", "300123", "2.tf"], ["run", "300123", "3.tf"]]
    assert [line.split()[1] for line in client.log_lines if line.startswith("run ")] == ["300123"]


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0), (signal.SIGHUP, 129), (signal.SIGQUIT, 131)]
)
def test_signal_stops_with_a_summary(monitor, number, code):
    with connected_client(monitor) as client:
        monitor.deliver(tf(1))
        assert "1.tf" in client.line()
        client.signal(number)
        assert client.ended()[0] == code
    assert client.log_lines[-1].startswith("run 7 running: 1 TF files of 1 STFs, 1.0 kB, ")


def test_a_hang_up_that_is_ignored_stays_so():
    with ScriptedServer(lambda _connection: server.over.wait(DEADLINE_S)) as server:
        child = subprocess.Popen(
            ["sh", "-c", "trap '' HUP QUIT; exec \"$@\"", "sh", sys.executable, "-m", "fastmon_client", "start"],
            env={"PATH": os.environ["PATH"], "SWF_MONITOR_URL": server.url},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            assert server.request_received.acquire(timeout=DEADLINE_S)
            status = Path(f"/proc/{child.pid}/status").read_text()
            ignored = int(next(line.split()[1] for line in status.splitlines() if line.startswith("SigIgn")), 16)
            assert all(ignored >> (number - 1) & 1 for number in (signal.SIGHUP, signal.SIGQUIT))
        finally:
            child.kill()
            child.wait(DEADLINE_S)


@pytest.mark.field("27")
@pytest.mark.parametrize(("words", "code"), [(("start",), 130), (("summary", "--run", "7"), 130)])
def test_sigint_works_if_the_parent_ignored_it(words, code):
    with ScriptedServer(lambda _connection: server.over.wait(DEADLINE_S)) as server:
        child = subprocess.Popen(
            ["sh", "-c", "trap '' INT; exec \"$@\"", "sh", sys.executable, "-m", "fastmon_client", *words],
            env={"PATH": os.environ["PATH"], "SWF_MONITOR_URL": server.url},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            assert server.request_received.acquire(timeout=DEADLINE_S)
            child.send_signal(signal.SIGINT)
            assert child.wait(DEADLINE_S) == code
        finally:
            child.kill()
            child.wait()


@pytest.mark.parametrize("end", ["--for", "SIGTERM"])
def test_blocked_output_does_not_delay_the_end(monitor, end):
    more = ("--for", "4s") if end == "--for" else ()
    with connected_client(monitor, *more) as client:
        for number in range(400):  # far more than fits into a pipe
            monitor.deliver(tf(number, tf_filename=f"{number}{'x' * 200}"))
        client.wait_until_blocked()
        if end == "SIGTERM":
            client.signal(signal.SIGTERM)
        client.wait_for_log("output is blocked")
        client.wait_for_log("run 7 running: ")
        assert client.exit_code() == 0


def test_sigterm_ends_the_wait_for_an_unreachable_monitor():
    with Client(UNREACHABLE_URL, "--for", "1h") as client:
        client.wait_for_log("reconnecting in")
        client.signal(signal.SIGTERM)
        assert client.ended()[0] == 0


def test_unreachable_monitor_within_for_exits_with_4():
    with Client(UNREACHABLE_URL, "--for", "0.5s") as client:
        assert client.ended()[0] == 4


def test_time_limit_stops_the_session(monitor):
    monitor_access = monitor_from(monitor.url, {"SWF_API_TOKEN": TOKEN})
    filter_ = MessageFilter(types=())
    session = Session(monitor_access, filter_.subscribed_types, AppState(monitor_access.url, filter_, now()), Quiet())
    with shutdown_on(session.stop, 0.1) as end:
        session.run()
    assert (end.timed_out, end.code) == (True, 0)


@pytest.mark.parametrize(
    ("options", "environ", "named"),
    [
        (["--monitor-url", "ftp://x"], {}, "SWF_MONITOR_URL"),
        (["--monitor-url", "http://x:99999"], {}, "SWF_MONITOR_URL"),
        ([], {"SWF_MONITOR_URL": "http://me:5ecre7@x"}, "SWF_MONITOR_URL"),
        ([], {"FASTMON_MONITOR_CA": "/nonexistent.pem"}, "FASTMON_MONITOR_CA"),
        ([], {"FASTMON_MONITOR_CA": str(Path(__file__))}, "FASTMON_MONITOR_CA"),
        (["--for", "soon"], {}, "soon"),
        (["--transport", "stomp", "--topic", ""], {}, "--topic is empty"),
        (["--for", "9" * 400], {}, "'--for': too long: 9999999999999999999999999999999999999999: the limit is 8760h"),
        (["--stale-after", "8761h"], {}, "'--stale-after': too long: 8761h"),
    ],
)
def test_invalid_setting_is_a_usage_error_that_names_it(options, environ, named):
    result = CliRunner().invoke(cli, ["start", *options], env=environ)
    assert result.exit_code == 2
    assert named in result.output
    assert "5ecre7" not in result.output


def test_missing_token_file_is_named(tmp_path, monitor):
    environ = {"SWF_API_TOKEN_FILE": str(tmp_path / "gone"), "SWF_MONITOR_URL": monitor.url}
    result = CliRunner().invoke(cli, ["start", "--quiet"], env=environ)
    assert result.exit_code == 1
    assert "SWF_API_TOKEN_FILE" in result.output


@pytest.mark.parametrize(
    "url",
    [
        "http://me:hush-hush@host", "me:hush-hush@host", "//me:hush-hush@host", "ftp:me:hush-hush@h",
        "http://me:hush-hush/s@host", "http://host/?token=hush-hush", "htp://host/?token=hush-hush", "http://h#hush-hush",
    ],
)  # fmt: skip
def test_secret_in_the_url_is_rejected_and_not_shown(url):
    result = CliRunner().invoke(cli, ["start"], env={"SWF_MONITOR_URL": url, "SWF_API_TOKEN": TOKEN})
    assert result.exit_code == 2
    assert "contains a user, a password or a query: remove it" in result.output
    assert "hush-hush" not in result.output


@pytest.mark.field("29")
def test_a_summary_as_json_is_json_on_errors_too() -> None:
    words = ["summary", "--run", "7", "--json", "--monitor-url", "http://127.0.0.1:9"]
    answer = run(["-m", "fastmon_client", *words], env={}, timeout=DEADLINE_S)
    assert json.loads(answer.stdout)["exit_code"] == answer.returncode == 4
    assert "connection refused" in json.loads(answer.stdout)["error"]
    assert answer.stderr.startswith("fastmon-client: ")
