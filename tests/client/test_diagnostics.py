"""`fastmon-client status` with a healthy, an unreachable and a wrong monitor."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner, Result

from fastmon_client import __version__
from fastmon_client.broker_config import BrokerConfig
from fastmon_client.cli import cli
from fastmon_client.diagnostics import DiagnosticResult, Diagnostics
from fastmon_client.monitor_session import AccessDenied, MonitorSession
from fastmon_client.monitor_tables import MonitorUnavailable, Tables
from fastmon_daemon.testbed.monitor import MonitorThread
from fastmon_daemon.testbed.stomp_broker import Broker, BrokerThread
from tests.client.scripted_server import Answer, ScriptedServer, certified, response, status_response, trust_in
from tests.monitor.scripted_monitor import dripping

TOKEN = "f" * 40


@pytest.fixture(scope="module")
def monitor() -> Iterator[MonitorThread]:
    with MonitorThread(TOKEN) as served:
        yield served


def check_all(url: str, token: str = TOKEN, ca: str | None = None) -> list[DiagnosticResult]:
    return list(Diagnostics(MonitorSession(url=url, token=lambda: token, trust=trust_in(ca))).run())


def answering(answer: Answer, tls: ssl.SSLContext | None = None) -> ScriptedServer:
    """A server with the same answer for every connection of the checks."""
    return ScriptedServer(*[answer] * 10, tls=tls)


def test_healthy_monitor_passes_every_check(monitor: MonitorThread) -> None:
    lines = check_all(monitor.url)
    assert [line.what for line in lines] == ["DNS", "TCP", "TLS", "REST", "token", "stream"]
    assert all(line.ok for line in lines)
    port = monitor.url.rpartition(":")[2]
    assert lines[1].detail.startswith(f"port {port} is open")


def test_invalid_token_fails_the_token_check(monitor: MonitorThread) -> None:
    last = check_all(monitor.url, token="0" * 40)[-1]
    assert (last.what, last.ok) == ("token", False)
    assert "SWF_API_TOKEN" in last.hint


def test_missing_token_fails_the_token_check(monitor: MonitorThread) -> None:
    last = check_all(monitor.url, token="")[-1]
    assert (last.what, last.detail) == ("token", "not set")


def test_closed_port_fails_the_tcp_check() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        last = check_all(f"http://127.0.0.1:{free.getsockname()[1]}")[-1]
    assert (last.what, last.ok) == ("TCP", False)
    assert "connection refused" in last.detail


def test_unknown_host_fails_the_dns_check() -> None:
    last = check_all("http://monitor.invalid:8002")[-1]
    assert (last.what, last.ok) == ("DNS", False)
    assert "SWF_MONITOR_URL" in last.hint


def test_redirect_to_a_login_page_fails_the_rest_check() -> None:
    with answering(status_response("302 Found", "Location: https://sso.example/login")) as server:
        last = check_all(server.url)[-1]
    assert (last.what, last.detail) == ("REST", "redirected to https://sso.example/login")


def test_other_web_server_fails_the_rest_check() -> None:
    with answering(response(b"<html>hello</html>", "text/html")) as server:
        last = check_all(server.url)[-1]
    assert (last.what, last.detail) == ("REST", "response is not a monitor's (200)")


def test_certificate_is_valid_only_with_its_ca(tmp_path: Path) -> None:
    tls, ca = certified(tmp_path)
    with answering(response({"count": 3, "results": []}), tls) as server:
        without = check_all(server.url)[-1]
        lines = {line.what: line for line in check_all(server.url, ca=ca)}
    assert (without.what, without.ok) == ("TLS", False)
    assert "FASTMON_MONITOR_CA" in without.hint
    assert "certificate valid" in lines["TLS"].detail
    assert lines["REST"].detail == "3 STFs registered"


def test_server_without_tls_gets_an_http_hint(monitor: MonitorThread) -> None:
    last = check_all(monitor.url.replace("http://", "https://"))[-1]
    assert (last.what, last.ok) == ("TLS", False)
    assert "write http:// in SWF_MONITOR_URL" in last.detail


def run_status(monitor_url: str, *options: str, **environ: str) -> Result:
    return CliRunner(env={"SWF_API_TOKEN": TOKEN, **environ}).invoke(
        cli, ["status", "--monitor-url", monitor_url, *options]
    )


def test_status_shows_settings_with_sources_but_no_token(monitor: MonitorThread) -> None:
    done = run_status(monitor.url)
    assert done.exit_code == 0
    assert f"SWF_MONITOR_URL         {monitor.url}  (--monitor-url)" in done.output
    assert "SWF_API_TOKEN           set  (environment)" in done.output
    assert TOKEN not in done.output


@pytest.mark.parametrize(("token", "code"), [(TOKEN, 0), ("0" * 40, 3), ("", 3)])
def test_exit_code_shows_the_cause(monitor: MonitorThread, token: str, code: int) -> None:
    done = run_status(monitor.url, "--json", SWF_API_TOKEN=token)
    assert done.exit_code == code
    found = json.loads(done.output)
    assert found["tries"][-1]["ok"] == (code == 0)
    assert {each["name"] for each in found["settings"]} >= {"SWF_MONITOR_URL", "FASTMON_MONITOR_CA"}


def test_unknown_host_exits_with_4() -> None:
    assert run_status("http://monitor.invalid:8002").exit_code == 4


@pytest.mark.parametrize("sent", [b"", b'{"count"'])
def test_missing_or_truncated_response_exits_with_4(sent: bytes) -> None:
    answer = [b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n" + sent] if sent else []
    with answering(answer) as server:
        done = run_status(server.url)
    assert "FAILED REST" in done.output
    assert done.exit_code == 4


def test_summary_with_a_wrong_base_url_names_the_setting(monitor: MonitorThread) -> None:
    words = ["summary", "--run", "1", "--monitor-url", f"{monitor.url}/elsewhere"]
    done = CliRunner(env={"SWF_API_TOKEN": TOKEN}).invoke(cli, words)
    assert done.exit_code == 1
    assert f"check --monitor-url (SWF_MONITOR_URL): {monitor.url}/elsewhere" in done.output


@pytest.mark.field("19")
def test_summary_of_something_else_than_a_number_says_what_to_write() -> None:
    done = CliRunner().invoke(cli, ["summary", "--run", "300123.0"])
    assert done.exit_code == 2
    assert "'300123.0' is not a valid run number: write digits only." in " ".join(done.output.split())


def test_version_is_printed() -> None:
    assert CliRunner().invoke(cli, ["version"]).output == f"fastmon-client {__version__}\n"


@pytest.mark.parametrize(
    "begin",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-Long: ",
        b"",
    ],
    ids=["body", "chunk", "header", "status line"],
)
def test_an_endlessly_slow_response_ends_the_check(monkeypatch: pytest.MonkeyPatch, begin: bytes) -> None:
    """Each byte arrives before the timeout of a silence."""
    monkeypatch.setattr("fastmon_client.diagnostics.RESPONSE_TIMEOUT_S", 1.0)
    monkeypatch.setattr("fastmon_client.transport.MAX_HEAD_S", 1.0)
    monkeypatch.setattr("fastmon_client.monitor_tables.MAX_RESPONSE_S", 1.0)
    with answering(dripping(begin)) as server:
        last = check_all(server.url)[-1]
        with closing(Tables(MonitorSession(url=server.url, token=str))) as tables, pytest.raises(MonitorUnavailable):
            tables.runs()
    assert (last.what, last.ok) == ("REST", False)
    assert "the response of the monitor was not complete in time" in last.detail


# Every word


def said(url: str, **changes: Any) -> tuple[str, str, str, str | None]:
    """The last check, what it says, its hint, and the cause for the exit code."""
    session = MonitorSession(**{"url": url, "token": lambda: TOKEN, **changes})
    diagnostics = Diagnostics(session)
    *_, last = diagnostics.run()
    return last.what, last.detail, last.hint, diagnostics.cause


@pytest.mark.parametrize(
    ("url", "where"),
    [("http://127.0.0.1", "127.0.0.1:80"), ("https://127.0.0.1", "127.0.0.1:443"), ("http://[::1]:9", "::1:9")],
)
def test_the_port_is_that_of_the_url_or_of_its_scheme(url: str, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_address: object) -> None:
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr("fastmon_client.diagnostics.connect", refuse)
    hint = "check that the monitor is up, the port in SWF_MONITOR_URL, and firewalls"
    assert said(url) == ("TCP", f"{where}: connection refused", hint, "unreachable")


def test_every_word_about_a_healthy_monitor(monitor: MonitorThread) -> None:
    port = monitor.url.rpartition(":")[2]
    session = MonitorSession(url=monitor.url, token=lambda: TOKEN)
    diagnostics = Diagnostics(session)
    found = list(diagnostics.run())
    host = urlsplit(monitor.url).hostname
    assert found[0].detail.startswith(f"{host} is ")
    assert [each.detail for each in found[2:]] == [
        "not used (http)", "0 STFs registered", "accepted", "first event received",
    ]  # fmt: skip
    assert (found[1].detail.startswith(f"port {port} is open at "), diagnostics.cause) == (True, None)
    assert {each.hint for each in found} == {""}


@pytest.mark.parametrize(
    ("status", "detail", "hint", "cause"),
    [
        ("401 Unauthorized", "rejected (401)", "set SWF_API_TOKEN to a valid token of this monitor", "token"),
        ("403 Forbidden", "rejected (403)", "set SWF_API_TOKEN to a valid token of this monitor", "token"),
        ("300 Choices", "redirected to elsewhere", "login page? set SWF_MONITOR_URL to the monitor itself", "other"),
        ("400 Bad", "answered 400", "set SWF_MONITOR_URL to the monitor's base URL; check the monitor's log", "other"),
        ("500 Oops", "answered 500", "set SWF_MONITOR_URL to the monitor's base URL; check the monitor's log", "other"),
        ("299 Odd", "response is not a monitor's (299)", "set SWF_MONITOR_URL to the monitor's base URL, without /api",
         "other"),
    ],
)  # fmt: skip
def test_every_word_about_an_answer(status: str, detail: str, hint: str, cause: str) -> None:
    with answering(status_response(status)) as server:
        assert said(server.url) == ("REST", detail, hint, cause)


def test_every_word_about_a_response_that_does_not_come() -> None:
    retry = "try again, and check the monitor's health"
    with answering([]) as server:
        assert said(server.url) == ("REST", "no response: the monitor closed the connection", retry, "unreachable")
    with answering([b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"]) as server:
        assert said(server.url) == (
            "REST", "response is unreadable: the response was cut short", retry, "unreachable",
        )  # fmt: skip


def test_every_word_about_the_token() -> None:
    def unreadable() -> str:
        raise AccessDenied("SWF_API_TOKEN_FILE=x: no such file")

    with answering(response({"count": 0})) as server:
        assert said(server.url, token=str) == (
            "token", "not set", "set SWF_API_TOKEN, or SWF_API_TOKEN_FILE to a file with the token", "token",
        )  # fmt: skip
        assert said(server.url, token=unreadable) == (
            "token", "SWF_API_TOKEN_FILE=x: no such file", "fix that file", "token",
        )  # fmt: skip
        assert said(server.url) == (
            "stream", "first bytes are not an event", "check that SWF_MONITOR_URL is the monitor itself", "other",
        )  # fmt: skip


def test_a_broker_that_rejects_the_login_is_told_apart_from_a_file_that_cannot_be_used(
    monitor: MonitorThread, tmp_path: Path
) -> None:
    session = MonitorSession(url=monitor.url, token=lambda: TOKEN)
    with BrokerThread(Broker(user="daq", password="secret-word")) as broker:
        known = {"ACTIVEMQ_HOST": "localhost", "ACTIVEMQ_PORT": str(broker.port), "ACTIVEMQ_USER": "daq"}
        for more, cause, detail in (
            ({"ACTIVEMQ_PASSWORD": "wrong"}, "token", ": set ACTIVEMQ_USER and ACTIVEMQ_PASSWORD"),
            ({"ACTIVEMQ_PASSWORD": "secret-word", "ACTIVEMQ_USE_SSL": "True",
              "ACTIVEMQ_SSL_CA_CERTS": str(tmp_path / "none")}, "other", ": name a readable file"),
        ):  # fmt: skip
            diagnostics = Diagnostics(session, BrokerConfig.of(known | more, "/topic/epictopic"))
            *_, last = diagnostics.run()
            assert (last.what, last.ok, diagnostics.cause) == ("topic", False, cause)
            assert last.detail.endswith(detail)
            assert last.hint == "ask the broker's operator for access"


def test_a_stream_that_is_cut_before_its_first_event_has_no_data() -> None:
    whole = response({"count": 0})
    cut = [b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 99\r\n\r\nev"]
    with ScriptedServer(whole, whole, whole, cut) as server:  # TCP, REST, token, stream
        assert said(server.url) == (
            "stream", "no data for 10 s", "check for a proxy that buffers the stream", "unreachable",
        )  # fmt: skip


def test_with_a_proxy_it_makes_the_connection() -> None:
    with answering(response({"count": 0})) as proxy:
        for scheme, tls in (("http", "not used (http)"), ("https", "checked with REST, through the proxy")):
            session = MonitorSession(url=f"{scheme}://monitor.invalid", token=str, proxies={scheme: proxy.url})
            found = {each.what: each.detail for each in Diagnostics(session).run()}
            assert (found["DNS"], found["TCP"], found["TLS"]) == ("left to the proxy", "left to the proxy", tls)
