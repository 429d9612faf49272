"""The broker in a thread of its own, for programs and tests that are not asyncio.

It must not know STOMP.
"""

from __future__ import annotations

import asyncio
import ssl

from fastmon_daemon.testbed.loop_thread import LoopThread
from fastmon_daemon.testbed.stomp_broker.broker import Broker


class BrokerThread(LoopThread):
    """Context manager: inside it the broker listens on 127.0.0.1 at `port`."""

    def __init__(self, broker: Broker, *, port: int = 0, ssl: ssl.SSLContext | None = None) -> None:
        self.broker = broker
        self._asked_port = port
        self._ssl = ssl
        super().__init__("stomp-broker", asyncio.new_event_loop())

    @property
    def port(self) -> int:
        """Where it listens; the same after a `stop` and `start`."""
        return self.broker.port

    def start(self) -> int:
        """ListenAddress (again) on the same port, and return it.

        Raises:
            OSError: the port is taken.
        """
        return self.run(self.broker.start(port=self._asked_port, ssl=self._ssl))

    def stop(self) -> None:
        """Begin an outage: connections are cut, the port is closed; `start` ends it."""
        self.run(self.broker.stop())
