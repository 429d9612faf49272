"""Whether the monitor is there: the probe, and the messages that not every monitor takes."""

from __future__ import annotations

import socket

import pytest

from fastmon_daemon.base.errors import LinkBlocked, LinkDown, TransientError
from fastmon_daemon.monitor import MonitorClient
from tests.monitor.scripted import (
    HTML,
    REQUIRED,
    TOKEN,
    Action,
    Server,
    hangs,
    impatient,
    resets,
    says,
    sends,
)


def test_a_message_is_handed_over_as_it_is(server: Server, monitor: MonitorClient) -> None:
    server.script = [says(201, {"id": 1})]

    monitor.post_message('{"msg_type": "tf_file_registered"}')

    assert server.requests[0][2] == '{"msg_type": "tf_file_registered"}'


def test_a_monitor_without_messages_is_for_a_person_to_mend(server: Server, monitor: MonitorClient) -> None:
    server.script = [says(404, HTML), says(404, HTML)]

    with pytest.raises(LinkBlocked, match="FASTMON_NOTIFY=stomp"):
        monitor.post_message("{}")
    with pytest.raises(LinkBlocked, match="FASTMON_NOTIFY=stomp"):
        monitor.probe_messages()


@pytest.mark.parametrize("there", [says(200, []), says(405, {"detail": "Method not allowed."})])
def test_the_probe_for_messages_finds_them_also_where_they_may_not_be_read(
    there: Action, server: Server, monitor: MonitorClient
) -> None:
    server.script = [there]

    monitor.probe_messages()


@pytest.mark.parametrize("answer", [says(500, HTML), says(429), resets, hangs])
def test_the_probe_for_messages_finds_the_link_down(answer: Action, server: Server) -> None:
    server.script = [answer]

    with pytest.raises(LinkDown) as caught:
        impatient(server).probe_messages()
    assert not isinstance(caught.value, LinkBlocked)


def test_a_message_of_unknown_outcome_is_sent_again(server: Server, monitor: MonitorClient) -> None:
    server.script = [resets, says(405, {"detail": "Method not allowed."}), resets, resets]

    with pytest.raises(TransientError) as caught:
        monitor.post_message("{}")
    assert not isinstance(caught.value, LinkDown), "messages are taken: it was this one's own attempt"
    with pytest.raises(LinkDown):
        monitor.post_message("{}")


NOBODY = says(200, {"count": 0, "next": None, "previous": None, "results": []})
NOT_NOW = [says(500, HTML), says(503, HTML), says(201, HTML), says(204), says(429), resets, sends(""), hangs]


def test_the_probe_returns_when_the_monitor_answers_as_it_should(server: Server, monitor: MonitorClient) -> None:
    server.script = [NOBODY, says(400, REQUIRED)]

    monitor.probe()

    question, offer = server.requests
    assert question[0].startswith("GET /swf-monitor/api/fastmon-files/?tf_filename=")
    assert (offer[0], offer[2]) == ("POST /swf-monitor/api/fastmon-files/", "{}")


def test_the_probe_does_not_mind_a_monitor_that_takes_an_empty_row(server: Server, monitor: MonitorClient) -> None:
    server.script = [NOBODY, says(201, {})]

    monitor.probe()


@pytest.mark.parametrize("token", ["", "revoked"])
@pytest.mark.parametrize("status", [401, 403])
def test_the_probe_holds_the_gate_where_anybody_may_read_but_our_token_may_not_write(
    status: int, token: str, server: Server
) -> None:
    server.script = [NOBODY, says(status, {"detail": "Authentication credentials were not provided."})]
    monitor = MonitorClient(f"http://127.0.0.1:{server.port}", lambda: token, connections=1)

    with pytest.raises(LinkBlocked, match="SWF_API_TOKEN"):
        monitor.probe()
    monitor.close()
    assert [line.split()[0] for line in server.asked] == ["GET", "POST"]


@pytest.mark.parametrize("answer", NOT_NOW)
def test_the_probe_finds_the_link_down_where_its_offer_is_put_off_or_lost(answer: Action, server: Server) -> None:
    server.script = [NOBODY, answer]

    with pytest.raises(LinkDown) as caught:
        impatient(server, deadline_s=0.5).probe()
    assert not isinstance(caught.value, LinkBlocked)


@pytest.mark.parametrize("answer", [says(400, {"detail": "no"}), says(400, "<h1>Bad Request (400)</h1>"), says(413)])
def test_the_probe_calls_another_refusal_of_its_offer_a_fault_of_the_configuration(
    answer: Action, server: Server, monitor: MonitorClient
) -> None:
    server.script = [NOBODY, answer]

    with pytest.raises(LinkBlocked, match="SWF_MONITOR_URL"):
        monitor.probe()


@pytest.mark.parametrize("answer", [says(500, HTML), says(200, HTML), says(429, "", Retry_After="5"), resets])
def test_the_probe_finds_the_link_down(answer: Action, server: Server, monitor: MonitorClient) -> None:
    server.script = [answer]

    with pytest.raises(LinkDown) as caught:
        monitor.probe()
    assert not isinstance(caught.value, LinkBlocked)


def test_the_probe_calls_a_refused_question_a_fault_of_the_configuration(
    server: Server, monitor: MonitorClient
) -> None:
    server.script = [says(400, {"detail": "no"})]

    with pytest.raises(LinkBlocked, match="SWF_MONITOR_URL"):
        monitor.probe()


def test_the_probe_asks_the_address_that_the_name_has_now(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve, where = socket.getaddrinfo, {"port": server.port}
    monkeypatch.setattr("socket.getaddrinfo", lambda _host, _port, *more: resolve("127.0.0.1", where["port"], *more))
    monitor = MonitorClient("http://monitor.example.org", lambda: TOKEN, connections=2)
    server.script = [NOBODY, says(400, REQUIRED), hangs]
    monitor.probe()  # this connection is kept, and where it leads nobody answers any more
    elsewhere = Server()
    elsewhere.script = [NOBODY, says(400, REQUIRED)]
    where["port"] = elsewhere.port
    monitor.probe()
    assert len(elsewhere.asked) == 2
    monitor.close()
    elsewhere.close()
