"""One and two daemons on one shared queue of Artemis, with a monitor that is far."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import stomp

from bench.daemon import BenchError, running_daemon
from bench.links import Topic
from bench.recorder import Recorder, stf_per_s
from bench.testbed import FIRST_RUN, STF_BYTES, measured_testbed
from fastmon_daemon.base.clock import utcnow
from fastmon_daemon.testbed.daq_messages import RunMessages, stf_name
from fastmon_daemon.testbed.testbed import NAMESPACE, TOPIC
from tests.real_brokers.certificates import make_certificates
from tests.real_brokers.install import NotInstalledError
from tests.real_brokers.java_servers import Artemis

LATENCY_MS = 50
CALLS = 2
"""Calls at once of each daemon: the round trips limit it, and not the two cores that it shares with all others here."""
SHARED_QUEUE = f"{TOPIC}::fastmon.bench"
RUN = FIRST_RUN
WARM_UP = 10
DEADLINE_S = 300.0


class Listener(stomp.ConnectionListener):
    """Passes what is heard on the topic to a recorder."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def on_message(self, frame: stomp.utils.Frame) -> None:
        self._recorder.hear(frame.body)


def measure(stfs: int) -> tuple[float, float] | None:
    """STF/s of two daemons and of one, for a burst of *stfs*; None without Artemis."""
    with tempfile.TemporaryDirectory(prefix="fastmon-artemis-") as name, suppress(NotInstalledError):
        folder = Path(name)
        server = Artemis(folder, make_certificates(folder, utcnow()))
        server.start()
        try:
            burst(server, 1, WARM_UP)  # Java is slow until it has compiled what it runs
            one = burst(server, 1, stfs)
            return burst(server, 2, stfs), one
        finally:
            server.stop()
    return None


def burst(server: Artemis, daemons: int, stfs: int) -> float:
    """STF/s of *daemons* that share the queue. Raises: BenchError if one of them had nothing to do."""
    broker = {
        "ACTIVEMQ_HOST": server.host, "ACTIVEMQ_PORT": str(server.port), "ACTIVEMQ_USER": server.user,
        "ACTIVEMQ_PASSWORD": server.password,
    }  # fmt: skip
    with measured_testbed(latency_ms=LATENCY_MS) as testbed, ExitStack() as stack:
        testbed.register(RUN, 1, stfs)
        running = []
        for _ in range(daemons):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fastmon-bench-")))
            settings = {"FASTMON_SUBSCRIBE": SHARED_QUEUE, "FASTMON_RECONCILE": "auto", "FASTMON_WORKERS": str(CALLS)}
            running.append(stack.enter_context(running_daemon(testbed, folder, **broker, **settings)))
        recorder = Recorder()
        with _topic(recorder, broker) as topic:
            messages = RunMessages(namespace=NAMESPACE, run=RUN, size=STF_BYTES, began=utcnow(), now=utcnow)
            topic.send([json.dumps(messages.start_run())])
            names = [stf_name(RUN, sequence) for sequence in range(1, stfs + 1)]
            for name in names:
                recorder.publish(name)
            topic.send([json.dumps(messages.stf_ready(sequence)) for sequence in range(1, stfs + 1)])
            times = recorder.wait(names, DEADLINE_S)
        shares = [daemon.query("select count(*) from stf") for daemon in running]
        if min(shares) < stfs / daemons / 4:
            raise BenchError(f"the daemons had unequal shares of {stfs} STFs: {shares}")
    return stf_per_s(times)


@contextmanager
def _topic(recorder: Recorder, broker: dict[str, str]) -> Iterator[Topic]:
    topic = Topic(Listener(recorder), environment=broker)
    topic.connection.subscribe(TOPIC, id="1", ack="auto")
    try:
        yield topic
    finally:
        topic.connection.disconnect()
