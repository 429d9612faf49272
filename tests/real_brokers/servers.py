"""The three kinds of broker: `Embedded`, `Classic`, `Artemis`."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from pathlib import Path

from fastmon_daemon.testbed.stomp_broker import Broker, BrokerThread
from tests.real_brokers.certificates import Certificates
from tests.real_brokers.interface import Server
from tests.real_brokers.java_servers import Artemis, Classic

__all__ = ["KINDS", "Artemis", "Classic", "Embedded", "Server"]

_PAUSE_S = 3600.0


class Embedded(Server):
    """The embedded broker: an independent broker in its own thread for each port."""

    kind = "embedded"
    version = "of this checkout"

    def __init__(self, folder: Path, certificates: Certificates) -> None:
        super().__init__(folder, certificates)
        self.log.write_text("the embedded broker has no log\n")
        self._certificates = certificates
        self._threads: list[BrokerThread] = []
        self._stack = ExitStack()
        self._up = False

    def is_running(self) -> bool:
        return self._up

    def start(self) -> None:
        if not self._threads:
            servers = self._certificates.servers
            contexts = {port: servers[name].server_context() for name, port in self.tls_ports.items()}
            for port in (self.port, *self.tls_ports.values()):
                broker = Broker(user=self.user, password=self.password, duplicate_detection=True)
                thread = BrokerThread(broker, port=port, ssl=contexts.get(port))
                self._threads.append(self._stack.enter_context(thread))
        elif not self._up:
            for thread in self._threads:
                thread.start()
        self._up = True

    def stop(self) -> None:
        if self._up:
            for thread in self._threads:
                thread.stop()
        self._up = False

    def kill(self) -> None:
        self.stop()

    def pause(self) -> None:
        self._set_silence(_PAUSE_S)

    def resume(self) -> None:
        self._set_silence(0)

    def _set_silence(self, seconds: float) -> None:
        for thread in self._threads:
            thread.call(partial(thread.broker.silent, seconds))

    def close(self) -> None:
        """End the threads, after the last test."""
        self._stack.close()


KINDS: dict[str, type[Server]] = {server.kind: server for server in (Embedded, Classic, Artemis)}
