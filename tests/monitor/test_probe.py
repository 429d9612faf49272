"""The probe of the monitor, and messages, which not every monitor accepts."""

from __future__ import annotations

import socket

import pytest

from fastmon_daemon.base.errors import LinkBlocked, LinkDown, TransientError
from fastmon_daemon.monitor import MonitorClient
from tests.monitor.scripted_monitor import HTML, REQUIRED, SHORT, Action, Server, client, hangs, resets, says, sends


def test_a_message_is_posted_unchanged(server: Server, monitor: MonitorClient) -> None:
    server.script = [says(201, {"id": 1})]

    monitor.announce('{"msg_type": "tf_file_registered"}', "id-1")

    assert server.requests[0][2] == '{"msg_type": "tf_file_registered"}'


def test_a_monitor_without_messages_blocks_the_link(server: Server, monitor: MonitorClient) -> None:
    server.script = [says(404, HTML), says(404, HTML)]

    with pytest.raises(LinkBlocked, match="FASTMON_NOTIFY=stomp"):
        monitor.announce("{}", "id-1")
    with pytest.raises(LinkBlocked, match="FASTMON_NOTIFY=stomp"):
        monitor.probe_messages()


@pytest.mark.parametrize("response", [says(200, []), says(405, {"detail": "Method not allowed."})])
def test_the_probe_for_messages_accepts_an_endpoint_that_may_not_be_read(
    response: Action, server: Server, monitor: MonitorClient
) -> None:
    server.script = [response]

    monitor.probe_messages()


@pytest.mark.parametrize("answer", [says(500, HTML), says(429), resets, hangs])
def test_the_probe_for_messages_raises_link_down(answer: Action, server: Server) -> None:
    server.script = [answer]

    with pytest.raises(LinkDown) as caught:
        server.client(timeout_s=SHORT).probe_messages()
    assert not isinstance(caught.value, LinkBlocked)


def test_a_message_of_unknown_outcome_is_retried(server: Server, monitor: MonitorClient) -> None:
    server.script = [resets, says(405, {"detail": "Method not allowed."}), *[resets] * 3]

    with pytest.raises(TransientError) as caught:
        monitor.announce("{}", "id-1")
    assert not isinstance(caught.value, LinkDown), "the endpoint responds: only this message failed"
    with pytest.raises(LinkDown):
        monitor.announce("{}", "id-1")


EMPTY_PAGE = says(200, {"count": 0, "next": None, "previous": None, "results": []})
NOT_NOW = [says(500, HTML), says(503, HTML), says(201, HTML), says(204), says(429), resets, sends(""), hangs]


def test_the_probe_reads_and_posts_an_empty_row(server: Server, monitor: MonitorClient) -> None:
    server.script = [EMPTY_PAGE, says(400, REQUIRED)]

    monitor.probe()

    read, write = server.requests
    assert read[0].startswith("GET /swf-monitor/api/fastmon-files/?tf_filename=")
    assert (write[0], write[2]) == ("POST /swf-monitor/api/fastmon-files/", "{}")


def test_the_probe_succeeds_if_the_monitor_accepts_an_empty_row(server: Server, monitor: MonitorClient) -> None:
    server.script = [EMPTY_PAGE, says(201, {})]

    monitor.probe()


@pytest.mark.parametrize("token", ["", "revoked"])
@pytest.mark.parametrize("status", [401, 403])
def test_a_token_that_may_not_write_blocks_the_link(status: int, token: str, server: Server) -> None:
    server.script = [EMPTY_PAGE, says(status, {"detail": "Authentication credentials were not provided."})]
    monitor = server.client(token=lambda: token)

    with pytest.raises(LinkBlocked, match="SWF_API_TOKEN"):
        monitor.probe()
    assert [line.split()[0] for line in server.request_lines] == ["GET", "POST"]


@pytest.mark.parametrize("answer", NOT_NOW)
def test_a_lost_or_postponed_write_of_the_probe_is_link_down(answer: Action, server: Server) -> None:
    server.script = [EMPTY_PAGE, answer, answer]  # the second is asked for only if a kept connection ended

    with pytest.raises(LinkDown) as caught:
        server.client(timeout_s=SHORT, deadline_s=0.5).probe()
    assert not isinstance(caught.value, LinkBlocked)


@pytest.mark.parametrize("answer", [says(400, {"detail": "no"}), says(400, "<h1>Bad Request (400)</h1>"), says(413)])
def test_another_rejection_of_the_write_blocks_the_link(answer: Action, server: Server, monitor: MonitorClient) -> None:
    server.script = [EMPTY_PAGE, answer]

    with pytest.raises(LinkBlocked, match="SWF_MONITOR_URL"):
        monitor.probe()


@pytest.mark.parametrize("answer", [says(500, HTML), says(200, HTML), says(429, "", Retry_After="5"), resets])
def test_a_failed_read_of_the_probe_is_link_down(answer: Action, server: Server, monitor: MonitorClient) -> None:
    server.script = [answer]

    with pytest.raises(LinkDown) as caught:
        monitor.probe()
    assert not isinstance(caught.value, LinkBlocked)


def test_a_rejected_read_of_the_probe_blocks_the_link(server: Server, monitor: MonitorClient) -> None:
    server.script = [says(400, {"detail": "no"})]

    with pytest.raises(LinkBlocked, match="SWF_MONITOR_URL"):
        monitor.probe()


def test_the_probe_resolves_the_host_name_anew(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve, address = socket.getaddrinfo, {"port": server.port}
    monkeypatch.setattr("socket.getaddrinfo", lambda _host, _port, *more: resolve("127.0.0.1", address["port"], *more))
    monitor = client("http://monitor.example.org", connections=2)
    server.script = [EMPTY_PAGE, says(400, REQUIRED), hangs]
    monitor.probe()  # this connection is kept, but its address does not respond any more
    elsewhere = Server()
    elsewhere.script = [EMPTY_PAGE, says(400, REQUIRED)]
    address["port"] = elsewhere.port
    monitor.probe()
    assert len(elsewhere.request_lines) == 2
    monitor.close()
    elsewhere.close()
