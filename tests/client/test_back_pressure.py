"""A reader of the output that stands still: memory is bounded, the run becomes UNKNOWN and recovers."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import suppress
from queue import Empty
from typing import Any

import pytest

from fastmon_client.arrivals import LATE_S, ArrivalQueue
from fastmon_daemon.testbed.stomp_broker import Broker, BrokerThread
from tests.client.client_process import QUICK, RUN, Client, Experiment
from tests.client.scripted_server import DEADLINE_S, OPEN, ScriptedServer, event, status_response
from tests.processes import wait_until


@pytest.mark.field("31")
def test_put_waits_for_room_and_says_so() -> None:
    queue: ArrivalQueue[str] = ArrivalQueue(limit=10, late_s=0.1)
    queue.put("a", 8)
    writer = threading.Thread(target=queue.put, args=("b", 8))
    writer.start()
    queue.put_at_once("c")
    threading.Event().wait(1.0)
    assert queue.get(DEADLINE_S) == ("a", 8, False)
    writer.join(DEADLINE_S)
    assert queue.get(DEADLINE_S) == ("c", 0, False)
    assert queue.get(DEADLINE_S) == ("b", 8, True)
    with pytest.raises(Empty):
        queue.get(0.0)


def test_item_above_the_limit_fits_alone_and_close_ends_a_wait() -> None:
    queue: ArrivalQueue[str] = ArrivalQueue(limit=10)
    queue.put("long", 1000)
    writer = threading.Thread(target=queue.put, args=("dropped", 1))
    writer.start()
    queue.close()
    writer.join(DEADLINE_S)
    assert not writer.is_alive()
    assert queue.get(0.0) == ("long", 1000, False)


class Flood:
    """A monitor without tables whose stream sends as much as the client takes."""

    def __init__(self) -> None:
        self.sent = 0
        self.server = ScriptedServer(*[self._answer] * 3)
        self._events = event(json.dumps({"msg_type": "fastmon_status", "status": "ok", "message": "x" * 10_000})) * 100

    def _answer(self, connection: socket.socket) -> None:
        if "/stream/" not in self.server.requests[-1]:
            connection.sendall(status_response("404 Not Found")[0])
            return
        connection.sendall(OPEN)
        connection.settimeout(0.1)
        while not self.server.over.is_set():
            with suppress(TimeoutError):
                self.sent += connection.send(self._events)  # a cut event is skipped with a warning

    def wait_until_it_stalls(self) -> None:
        """Wait until a second passed without a byte, or far too much was taken."""
        pause = threading.Event()
        before = -1
        while before != self.sent < 300_000_000:
            before = self.sent
            pause.wait(1.0)


@pytest.mark.field("31")
def test_client_with_blocked_output_stops_reading() -> None:
    flood = Flood()
    with flood.server as server, Client(server.url, "--json") as client:
        client.wait_until_blocked()
        flood.wait_until_it_stalls()
    assert flood.sent < 100_000_000


@pytest.mark.field("31")
@pytest.mark.parametrize("transport", ["sse", "stomp"])
def test_run_is_unknown_after_blocked_output_and_recovers(transport: str) -> None:
    with Experiment() as experiment, BrokerThread(Broker(user="daq", password="secret-word")) as broker:
        environ = {"ACTIVEMQ_PORT": str(broker.port), "ACTIVEMQ_USER": "daq", "ACTIVEMQ_PASSWORD": "secret-word"}
        more = ("--json", "--until", "end_run", "--run-ids", str(RUN), "--transport", transport)

        def send(kind: str, **more: object) -> None:
            text = json.dumps({"msg_type": kind, "namespace": "epic", "run_id": str(RUN), **more})
            if transport == "sse":
                experiment.monitor.deliver(text)
            else:
                broker.call(lambda: broker.broker.publish("/topic/epictopic", text))

        with Client(experiment.monitor.url, *more, environ=environ, **QUICK) as client:
            client.wait_for_log("connected to")
            send("start_run")
            for _ in range(99):  # more than pipe and queue hold
                send("fastmon_status", status="ok", details=["x" * 100] * 1000)
                client.wait_until_blocked()
            threading.Event().wait(2 * LATE_S)
            experiment.publish(1)
            lines: list[str] = []
            reader = threading.Thread(target=lambda: lines.extend(iter(client.line, "")))
            reader.start()
            client.wait_for_log("output was blocked: messages may have been lost, runs are UNKNOWN until compared")
            wait_until(lambda: rows(lines) and rows(lines)[-1]["verified"] == "VERIFIED", "the run is VERIFIED")
            send("end_run", total_stf_files=1)
            assert client.exit_code() == 0
            reader.join(DEADLINE_S)
    doubts = [row["doubt"] for row in rows(lines) if row["verified"] == "UNKNOWN"]
    assert any(doubt.startswith(("output was blocked", "stream lost")) for doubt in doubts), doubts
    [run] = [row for row in json.loads(lines[-1])["runs"] if row["run"] == str(RUN)]
    assert (run["verified"], run["state"], run["tf_files"]) == ("VERIFIED", "complete", 7)


def rows(lines: list[str]) -> list[dict[str, Any]]:
    """The rows of the run."""
    found = [json.loads(line) for line in lines.copy() if '"kind": "run"' in line and '"fastmon_status"' not in line]
    return [row for row in found if row["kind"] == "run" and row["run"] == str(RUN)]
