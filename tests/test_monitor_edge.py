"""The REST edge against a scripted server: what each answer of the monitor means, and that no call hangs."""

from __future__ import annotations

import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trustme

from fastmon_daemon.errors import LinkDown, LinkHeld, ParentMissing, PermanentError, TransientError
from fastmon_daemon.monitor import Monitor, TfFile
from fastmon_daemon.seams import set_hook

TOKEN = "0123456789abcdef"
TF = TfFile(
    tf_filename="a_tf_001.tf",
    stf_filename="a.stf",
    tf_first=60,
    tf_last=80,
    tf_count=21,
    file_size_bytes=2100,
    metadata={"simulation": True},
)
ROW = {
    "tf_file_id": "a17480c2-c054-4c61-b5a2-2fc235e559c8",
    "stf_file": "a.stf",
    "tf_filename": "a_tf_001.tf",
    "file_size_bytes": 2100,
    "checksum": None,
    "status": "registered",
    "metadata": {"simulation": True},
    "tf_count": 21,
    "tf_first": 60,
    "tf_last": 80,
}
EXISTS = {"tf_filename": ["fast mon file with this tf filename already exists."]}
NO_STF = {"stf_file": ["Object with stf_filename=a.stf does not exist."]}
REQUIRED = {"stf_file": ["This field is required."], "tf_filename": ["This field is required."]}
HTML = "<!doctype html><title>Log in</title>"

Action = Callable[[socket.socket], None]


def says(status: int, body: object = "", **headers: str) -> Action:
    """Answer with *body*, as JSON unless it is text."""
    text = body if isinstance(body, str) else json.dumps(body)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(text)}", *(f"{k}: {v}" for k, v in named.items())]
    raw = ("\r\n".join(lines) + "\r\n\r\n" + text).encode()
    return lambda connection: connection.sendall(raw)


def sends(raw: str) -> Action:
    """Send *raw* and close."""

    def act(connection: socket.socket) -> None:
        connection.sendall(raw.encode())
        connection.shutdown(socket.SHUT_RDWR)

    return act


def resets(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def hangs(connection: socket.socket) -> None:
    """Say nothing until the other side gives up."""
    connection.recv(1)


def drips(connection: socket.socket) -> None:
    """Promise much and send a byte now and then, until the other side gives up."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    connection.settimeout(0.02)
    while True:
        connection.sendall(b" ")
        try:
            if not connection.recv(1):
                return
        except TimeoutError:
            continue


class Server:
    """Plays one action for each request, in order, and remembers the requests."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.script: list[Action] = []
        self.requests: list[tuple[str, dict[str, str], str]] = []
        self._open: list[socket.socket] = []
        self._tls = tls
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def port(self) -> int:
        return int(self._listening.getsockname()[1])

    @property
    def connections(self) -> int:
        return len(self._open)

    @property
    def asked(self) -> list[str]:
        return [line for line, _, _ in self.requests]

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._threads[0].join(20)
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(20)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self._open.append(connection)
            thread = threading.Thread(target=self._serve, args=[connection])
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                if self._tls is not None:
                    plain = self._open.index(connection)
                    connection = self._open[plain] = self._tls.wrap_socket(connection, server_side=True)
                with connection:
                    while self._request(connection):
                        self.script.pop(0)(connection)
            except OSError:
                return

    def _request(self, connection: socket.socket) -> bool:
        stream = connection.makefile("rb")
        line = stream.readline().decode().strip()
        headers = {}
        while header := stream.readline().decode().strip():
            name, value = header.split(": ", 1)
            headers[name.lower()] = value
        body = stream.read(int(headers.get("content-length", 0))).decode()
        if line:
            self.requests.append((line.removesuffix(" HTTP/1.1"), headers, body))
        return bool(line)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def monitor(server: Server) -> Iterator[Monitor]:
    monitor = Monitor(f"http://127.0.0.1:{server.port}/swf-monitor/", lambda: TOKEN, connections=2)
    yield monitor
    monitor.close()


def impatient(server: Server, **changes: Any) -> Monitor:
    return Monitor(f"http://127.0.0.1:{server.port}", lambda: TOKEN, connections=2, timeout_s=(3, 0.3), **changes)


# Registered -----------------------------------------------------------------------------------------------------------


def test_a_registered_tf_comes_back_with_the_id_that_the_monitor_gave(server: Server, monitor: Monitor) -> None:
    server.script = [says(201, ROW)]

    standing, difference = monitor.register_tf(TF)

    line, headers, body = server.requests[0]
    assert standing.tf_file_id == ROW["tf_file_id"]
    assert difference is None
    assert line == "POST /swf-monitor/api/fastmon-files/"
    assert headers["authorization"] == f"Token {TOKEN}"
    assert headers["content-type"] == "application/json"
    assert json.loads(body) == {k: v for k, v in ROW.items() if k not in {"tf_file_id", "checksum"}}


def test_what_our_earlier_try_registered_is_adopted_without_a_difference(server: Server, monitor: Monitor) -> None:
    server.script = [says(400, EXISTS), says(200, [ROW])]

    standing, difference = monitor.register_tf(TF)

    assert (standing.tf_file_id, difference) == (ROW["tf_file_id"], None)
    assert server.asked[1] == "GET /swf-monitor/api/fastmon-files/?tf_filename=a_tf_001.tf"


def test_what_another_writer_registered_for_the_stf_is_adopted_and_told(server: Server, monitor: Monitor) -> None:
    server.script = [says(400, EXISTS), says(200, [ROW | {"tf_first": 57, "tf_last": 77, "file_size_bytes": 7}])]

    standing, difference = monitor.register_tf(TF)

    assert (standing.tf_first, standing.tf_last) == (57, 77)
    assert difference == "range 57-77 instead of 60-80, size 7 instead of 2100"


def test_rows_of_other_names_are_not_taken_for_ours(server: Server, monitor: Monitor) -> None:
    other = ROW | {"tf_filename": "b_tf_001.tf", "stf_file": "b.stf"}
    server.script = [says(400, EXISTS), says(200, [other, ROW])]

    assert monitor.register_tf(TF)[0].tf_filename == TF.tf_filename


@pytest.mark.parametrize("complaint", [EXISTS, EXISTS | NO_STF])
def test_a_name_that_belongs_to_another_stf_is_a_conflict_for_a_person(
    complaint: object, server: Server, monitor: Monitor
) -> None:
    server.script = [says(400, complaint), says(200, [ROW | {"stf_file": "b.stf"}])]

    with pytest.raises(PermanentError, match=r"of b\.stf, not of a\.stf"):
        monitor.register_tf(TF)


def test_a_tf_that_vanished_after_exists_is_tried_again(server: Server, monitor: Monitor) -> None:
    server.script = [says(400, EXISTS), says(200, [])]

    with pytest.raises(TransientError) as caught:
        monitor.register_tf(TF)
    assert type(caught.value) is TransientError


@pytest.mark.parametrize("script", [[says(400, NO_STF)], [says(400, NO_STF | EXISTS), says(200, [])]])
def test_an_stf_that_the_monitor_does_not_know_yet_is_waited_for(
    script: list[Action], server: Server, monitor: Monitor
) -> None:
    server.script = script

    with pytest.raises(ParentMissing, match=r"stf_filename=a\.stf does not exist"):
        monitor.register_tf(TF)


# Refused --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 406, 413, 415, 422])
def test_data_that_the_monitor_will_not_have_fail_at_once_with_its_words(
    status: int, server: Server, monitor: Monitor
) -> None:
    server.script = [says(status, {"tf_filename": ["This field may not be blank."]})]

    with pytest.raises(PermanentError, match=f"{status}.*may not be blank"):
        monitor.register_tf(TF)
    assert len(server.asked) == 1


def test_a_400_that_is_no_json_fails_the_stf_only_if_the_monitor_answers_otherwise(
    server: Server, monitor: Monitor
) -> None:
    bad_request = says(400, "<h1>Bad Request (400)</h1>")
    server.script = [bad_request, says(200, []), bad_request, bad_request]

    with pytest.raises(PermanentError, match="Bad Request"):
        monitor.register_tf(TF)
    with pytest.raises(LinkHeld, match="SWF_MONITOR_URL"):
        monitor.register_tf(TF)


@pytest.mark.parametrize(
    ("answer", "remedy"),
    [
        (says(401, {"detail": "Authentication credentials were not provided."}), "SWF_API_TOKEN"),
        (says(403, {"detail": "Invalid token."}), "SWF_API_TOKEN"),
        (says(301, "", Location="/api/fastmon-files/"), "SWF_MONITOR_URL"),
        (says(302, "", Location="https://login.example.org/"), r"login\.example\.org.*SWF_MONITOR_URL"),
        (says(407, "Proxy Authentication Required"), "proxy"),
        (says(404, HTML), "SWF_MONITOR_URL"),
        (says(405, {"error": "MCP endpoint accepts POST JSON-RPC only"}), "SWF_MONITOR_URL"),
    ],
)
def test_a_refusal_of_us_holds_the_gate_and_names_the_remedy(
    answer: Action, remedy: str, server: Server, monitor: Monitor
) -> None:
    server.script = [answer] * 3

    for call in (lambda: monitor.register_tf(TF), lambda: monitor.stf_files(7), monitor.probe):
        with pytest.raises(LinkHeld, match=remedy) as caught:
            call()
        assert TOKEN not in str(caught.value)
    assert len(server.asked) == 3, "no redirect is followed and nothing is tried twice"


# Later ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [425, 429])
@pytest.mark.parametrize(
    "headers",
    [
        {"Retry_After": "120"},
        {"Retry_After": "Sat, 21 Nov 2026 22:04:38 GMT", "Date": "Sat, 21 Nov 2026 22:02:38 GMT"},
    ],
)
def test_later_carries_what_retry_after_asks(
    status: int, headers: dict[str, str], server: Server, monitor: Monitor
) -> None:
    server.script = [says(status, "slow down", **headers)]

    with pytest.raises(TransientError) as caught:
        monitor.register_tf(TF)
    assert type(caught.value) is TransientError
    assert caught.value.retry_after_s == 120


def test_a_retry_after_that_cannot_be_read_is_none(server: Server, monitor: Monitor) -> None:
    server.script = [says(429, "slow down", Retry_After="soon")]

    with pytest.raises(TransientError) as caught:
        monitor.register_tf(TF)
    assert caught.value.retry_after_s is None


UNKNOWN = [
    pytest.param(says(500, "<h1>Server Error (500)</h1>"), id="500"),
    pytest.param(says(503, HTML), id="503"),
    pytest.param(says(408, ""), id="408"),
    pytest.param(says(200, HTML), id="html-with-200"),
    pytest.param(says(201, '{"tf_file_id": '), id="bad-json-with-201"),
    pytest.param(says(201, {"id": 1}), id="other-shape-with-201"),
    pytest.param(says(204), id="204"),
    pytest.param(resets, id="reset"),
    pytest.param(sends(""), id="closed-without-an-answer"),
    pytest.param(sends("nonsense\r\n\r\n"), id="no-http"),
    pytest.param(sends("HTTP/1.1 201 Created\r\nContent-Length: 99\r\n\r\n{"), id="cut-short"),
    pytest.param(sends("HTTP/1.1 400 Bad\r\nContent-Length: 99\r\n\r\n{"), id="400-cut-short"),
    pytest.param(sends("HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n{"), id="chunk-cut-short"),
    pytest.param(hangs, id="timeout"),
    pytest.param(drips, id="drip"),
]


@pytest.mark.parametrize("unknown", UNKNOWN)
def test_an_unknown_outcome_that_stands_is_done(unknown: Action, server: Server) -> None:
    server.script = [unknown, says(200, [ROW])]

    standing, difference = impatient(server, deadline_s=0.5).register_tf(TF)

    assert (standing.tf_file_id, difference) == (ROW["tf_file_id"], None)


@pytest.mark.parametrize("unknown", UNKNOWN)
def test_an_unknown_outcome_that_does_not_stand_is_this_stfs_own_attempt(unknown: Action, server: Server) -> None:
    server.script = [unknown, says(200, [])]

    with pytest.raises(TransientError) as caught:
        impatient(server, deadline_s=0.5).register_tf(TF)
    assert not isinstance(caught.value, LinkDown)


@pytest.mark.parametrize("unknown", UNKNOWN)
def test_an_unknown_outcome_that_cannot_be_looked_up_is_the_links_fault(unknown: Action, server: Server) -> None:
    server.script = [unknown, unknown]

    with pytest.raises(LinkDown):
        impatient(server, deadline_s=0.5).register_tf(TF)


def test_a_503_hands_on_its_retry_after(server: Server, monitor: Monitor) -> None:
    server.script = [says(503, HTML, Retry_After="30"), says(200, [])]

    with pytest.raises(TransientError) as caught:
        monitor.register_tf(TF)
    assert caught.value.retry_after_s == 30


# Not sent -------------------------------------------------------------------------------------------------------------


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@pytest.mark.parametrize("host", ["127.0.0.1", "monitor.invalid"])
def test_a_refused_connection_and_an_unknown_host_shut_the_gate(host: str) -> None:
    monitor = Monitor(f"http://{host}:{closed_port()}", lambda: TOKEN, connections=1)

    with pytest.raises(LinkDown) as caught:
        monitor.register_tf(TF)
    assert not isinstance(caught.value, LinkHeld)


def test_a_host_that_does_not_accept_the_connection_shuts_the_gate() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(0)
        port = silent.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        with pytest.raises(LinkDown):
            Monitor(f"http://127.0.0.1:{port}", lambda: TOKEN, connections=1, timeout_s=(0.3, 0.3)).register_tf(TF)
        for one in waiting:
            one.close()


@pytest.fixture
def tls_server() -> Iterator[tuple[Server, trustme.CA]]:
    ca = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    server = Server(context)
    yield server, ca
    server.close()


def test_a_private_ca_makes_the_certificate_good(tls_server: tuple[Server, trustme.CA], tmp_path: Path) -> None:
    server, ca = tls_server
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    server.script = [says(201, ROW)]
    monitor = Monitor(f"https://127.0.0.1:{server.port}", lambda: TOKEN, connections=1, ca=tmp_path / "ca.pem")

    assert monitor.register_tf(TF)[1] is None
    monitor.close()


def test_an_untrusted_certificate_holds_the_gate_and_sends_no_token(tls_server: tuple[Server, trustme.CA]) -> None:
    server, _ = tls_server

    with pytest.raises(LinkHeld, match="FASTMON_MONITOR_CA"):
        Monitor(f"https://127.0.0.1:{server.port}", lambda: TOKEN, connections=1).register_tf(TF)
    assert server.asked == []


def test_a_missing_ca_file_holds_the_gate(tls_server: tuple[Server, trustme.CA], tmp_path: Path) -> None:
    server, _ = tls_server
    monitor = Monitor(f"https://127.0.0.1:{server.port}", lambda: TOKEN, connections=1, ca=tmp_path / "none.pem")

    with pytest.raises(LinkHeld, match=r"FASTMON_MONITOR_CA"):
        monitor.probe()


def test_tls_with_a_server_that_speaks_none_shuts_the_gate(server: Server) -> None:
    plain = sends("HTTP/1.1 400 Bad Request\r\n\r\n")
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer_plainly() -> None:
            for _ in range(2):
                connection, _ = listening.accept()
                with connection:
                    connection.recv(4096)
                    plain(connection)

        thread = threading.Thread(target=answer_plainly)
        thread.start()
        with pytest.raises(LinkDown):
            Monitor(f"https://127.0.0.1:{listening.getsockname()[1]}", lambda: TOKEN, connections=1).register_tf(TF)
        thread.join(20)


# The other calls ------------------------------------------------------------------------------------------------------


def stf_row(n: int) -> dict[str, object]:
    return {
        "stf_filename": f"{n}.stf",
        "file_size_bytes": n,
        "checksum": None,
        "tf_count": None,
        "created_at": "2026-11-21T15:57:04-05:00",
    }


def page(count: int, listed: int) -> Action:
    return says(200, {"count": count, "next": None, "previous": None, "results": [stf_row(n) for n in range(listed)]})


def test_all_stfs_of_a_run_come_whole(server: Server, monitor: Monitor) -> None:
    server.script = [page(2, 2)]

    stfs = monitor.stf_files(100014)

    assert [stf.stf_filename for stf in stfs] == ["0.stf", "1.stf"]
    assert json.loads(stfs[1].body) == stf_row(1)
    assert server.asked == ["GET /swf-monitor/api/stf-files/?run_number=100014&limit=1000"]


def test_a_long_run_is_asked_for_again_in_one_page(server: Server, monitor: Monitor) -> None:
    server.script = [page(1500, 1000), page(1501, 1501)]

    assert len(monitor.stf_files(7)) == 1501
    assert server.asked[1].endswith("limit=2500")


def test_a_run_that_is_known_to_be_long_is_asked_for_in_one_page_at_once(server: Server, monitor: Monitor) -> None:
    server.script = [page(1501, 1501)]

    assert len(monitor.stf_files(7, at_least=1501)) == 1501
    assert server.asked == ["GET /swf-monitor/api/stf-files/?run_number=7&limit=2001"]


def test_a_long_list_that_does_not_come_is_read_again_later_and_does_not_shut_the_gate(
    server: Server, monitor: Monitor
) -> None:
    server.script = [page(1500, 1000), resets]

    with pytest.raises(TransientError) as caught:
        monitor.stf_files(7)
    assert not isinstance(caught.value, LinkDown)


def test_the_tf_files_of_an_stf_are_its_own_also_where_the_filter_is_ignored(server: Server, monitor: Monitor) -> None:
    server.script = [says(200, [ROW, {**ROW, "stf_file": "another.stf"}])]

    assert [tf.stf_filename for tf in monitor.tf_files(TF.stf_filename)] == [TF.stf_filename]
    assert server.asked == [f"GET /swf-monitor/api/fastmon-files/?stf_filename={TF.stf_filename}"]


@pytest.mark.parametrize(
    ("answer", "ended_at"),
    [
        (says(200, {"run_id": 77, "end_time": None}), None),
        (says(200, {"run_id": 77, "end_time": "2026-11-21T15:57:04-05:00"}), "2026-11-21T20:57:04.000+00:00"),
        (says(404, {"detail": "No Run matches the given query."}), None),
    ],
)
def test_the_end_of_a_run_is_that_of_its_row(
    answer: Action, ended_at: str | None, server: Server, monitor: Monitor
) -> None:
    server.script = [answer]

    assert monitor.run_ended_at(77) == ended_at
    assert server.asked == ["GET /swf-monitor/api/runs/77/"]


def test_a_time_that_is_none_is_no_answer_of_a_monitor(server: Server, monitor: Monitor) -> None:
    server.script = [says(200, {"run_id": 77, "end_time": "yesterday"})]

    with pytest.raises(LinkDown, match="not what a monitor says"):
        monitor.run_ended_at(77)


def test_a_list_that_does_not_match_its_count_is_read_again_later(server: Server, monitor: Monitor) -> None:
    server.script = [page(3, 2)]

    with pytest.raises(TransientError, match="counts 3 STFs in run 7 but lists 2") as caught:
        monitor.stf_files(7)
    assert not isinstance(caught.value, LinkDown)


def test_a_message_is_handed_over_as_it_is(server: Server, monitor: Monitor) -> None:
    server.script = [says(201, {"id": 1})]

    monitor.post_message('{"msg_type": "tf_file_registered"}')

    assert server.requests[0][2] == '{"msg_type": "tf_file_registered"}'


def test_a_monitor_without_messages_is_for_a_person_and_does_not_shut_the_gate(
    server: Server, monitor: Monitor
) -> None:
    server.script = [says(404, HTML)]

    with pytest.raises(PermanentError, match="FASTMON_NOTIFY=stomp"):
        monitor.post_message("{}")


def test_a_message_of_unknown_outcome_is_sent_again(server: Server, monitor: Monitor) -> None:
    server.script = [resets]

    with pytest.raises(TransientError) as caught:
        monitor.post_message("{}")
    assert not isinstance(caught.value, LinkDown)


NOBODY = says(200, {"count": 0, "next": None, "previous": None, "results": []})
NOT_NOW = [says(500, HTML), says(503, HTML), says(201, HTML), says(204), says(429), resets, sends(""), hangs]


def test_the_probe_returns_when_the_monitor_answers_as_it_should(server: Server, monitor: Monitor) -> None:
    server.script = [NOBODY, says(400, REQUIRED)]

    monitor.probe()

    question, offer = server.requests
    assert question[0].startswith("GET /swf-monitor/api/fastmon-files/?tf_filename=")
    assert (offer[0], offer[2]) == ("POST /swf-monitor/api/fastmon-files/", "{}")


def test_the_probe_does_not_mind_a_monitor_that_takes_an_empty_row(server: Server, monitor: Monitor) -> None:
    server.script = [NOBODY, says(201, {})]

    monitor.probe()


@pytest.mark.parametrize("token", ["", "revoked"])
@pytest.mark.parametrize("status", [401, 403])
def test_the_probe_holds_the_gate_where_anybody_may_read_but_our_token_may_not_write(
    status: int, token: str, server: Server
) -> None:
    server.script = [NOBODY, says(status, {"detail": "Authentication credentials were not provided."})]
    monitor = Monitor(f"http://127.0.0.1:{server.port}", lambda: token, connections=1)

    with pytest.raises(LinkHeld, match="SWF_API_TOKEN"):
        monitor.probe()
    monitor.close()
    assert [line.split()[0] for line in server.asked] == ["GET", "POST"]


@pytest.mark.parametrize("answer", NOT_NOW)
def test_the_probe_finds_the_link_down_where_its_offer_is_put_off_or_lost(answer: Action, server: Server) -> None:
    server.script = [NOBODY, answer]

    with pytest.raises(LinkDown) as caught:
        impatient(server, deadline_s=0.5).probe()
    assert not isinstance(caught.value, LinkHeld)


@pytest.mark.parametrize("answer", [says(400, {"detail": "no"}), says(400, "<h1>Bad Request (400)</h1>"), says(413)])
def test_the_probe_calls_another_refusal_of_its_offer_a_fault_of_the_configuration(
    answer: Action, server: Server, monitor: Monitor
) -> None:
    server.script = [NOBODY, answer]

    with pytest.raises(LinkHeld, match="SWF_MONITOR_URL"):
        monitor.probe()


@pytest.mark.parametrize("answer", [says(500, HTML), says(200, HTML), says(429, "", Retry_After="5"), resets])
def test_the_probe_finds_the_link_down(answer: Action, server: Server, monitor: Monitor) -> None:
    server.script = [answer]

    with pytest.raises(LinkDown) as caught:
        monitor.probe()
    assert not isinstance(caught.value, LinkHeld)


def test_the_probe_calls_a_refused_question_a_fault_of_the_configuration(server: Server, monitor: Monitor) -> None:
    server.script = [says(400, {"detail": "no"})]

    with pytest.raises(LinkHeld, match="SWF_MONITOR_URL"):
        monitor.probe()


# The connection -------------------------------------------------------------------------------------------------------


def test_a_connection_is_used_again(server: Server, monitor: Monitor) -> None:
    server.script = [says(201, ROW), says(400, EXISTS), says(200, [ROW])]

    monitor.register_tf(TF)
    monitor.register_tf(TF)

    assert server.connections == 1


def test_a_changed_token_is_seen_at_the_next_call_and_none_sends_no_header(server: Server) -> None:
    tokens = ["first\n", "second", ""]
    server.script = [says(201, ROW)] * 3
    monitor = Monitor(f"http://127.0.0.1:{server.port}", lambda: tokens.pop(0), connections=1)

    for _ in range(3):
        monitor.register_tf(TF)
    monitor.close()

    assert [headers.get("authorization") for _, headers, _ in server.requests] == ["Token first", "Token second", None]


def test_a_token_that_cannot_be_a_header_is_named_but_not_shown(server: Server) -> None:
    monitor = Monitor(f"http://127.0.0.1:{server.port}", lambda: "gar\nbled", connections=1)

    with pytest.raises(LinkHeld, match="SWF_API_TOKEN") as caught:
        monitor.probe()
    assert "bled" not in str(caught.value)


def test_an_endless_answer_is_cut(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastmon_daemon.monitor.edge.MAX_ANSWER_BYTES", 1000)
    server.script = [says(200, " " * 2000)]

    with pytest.raises(LinkDown, match="longer than 1000 bytes"):
        impatient(server).probe()


def test_a_proxy_is_used_but_never_for_loopback_nor_for_what_no_proxy_names(server: Server) -> None:
    proxy = {"HTTP_PROXY": f"http://127.0.0.1:{server.port}"}
    server.script = [says(201, ROW)]

    Monitor("http://monitor.invalid", lambda: TOKEN, connections=1, environ=proxy).register_tf(TF)
    assert server.asked == ["POST http://monitor.invalid/api/fastmon-files/"]

    spared = proxy | {"no_proxy": "example.org, .invalid"}
    for url in (f"http://127.0.0.1:{closed_port()}", f"http://localhost:{closed_port()}", "http://monitor.invalid"):
        with pytest.raises(LinkDown):
            Monitor(url, lambda: TOKEN, connections=1, environ=spared).register_tf(TF)
    assert len(server.asked) == 1


def test_a_proxy_that_is_not_there_shuts_the_gate() -> None:
    proxy = {"http_proxy": f"http://127.0.0.1:{closed_port()}"}

    with pytest.raises(LinkDown):
        Monitor("http://monitor.invalid", lambda: TOKEN, connections=1, environ=proxy).register_tf(TF)


@pytest.mark.parametrize("url", ["monitor:8002", "ftp://monitor", "http://"])
def test_a_base_url_that_is_none_holds_the_gate(url: str) -> None:
    with pytest.raises(LinkHeld, match="SWF_MONITOR_URL"):
        Monitor(url, lambda: TOKEN, connections=1).probe()


def test_a_password_in_the_base_url_is_not_shown() -> None:
    with pytest.raises(LinkDown) as caught:
        Monitor(f"http://me:hush@127.0.0.1:{closed_port()}", lambda: TOKEN, connections=1).probe()
    assert "hush" not in str(caught.value)


def test_every_call_lies_between_its_seams(server: Server, monitor: Monitor) -> None:
    met: list[str] = []
    server.script = [says(201, ROW)]
    set_hook(met.append)
    try:
        monitor.register_tf(TF)
    finally:
        set_hook(None)
    assert met == ["before_http", "after_http"]
