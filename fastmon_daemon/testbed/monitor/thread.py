"""The monitor in a thread of its own, for programs and tests that are not asyncio.

It must not know what the monitor answers.
"""

from __future__ import annotations

from typing import Any

import uvloop

from fastmon_daemon.testbed.loop_thread import LoopThread
from fastmon_daemon.testbed.monitor.faults import OnBroker
from fastmon_daemon.testbed.monitor.server import MonitorOptions, MonitorServer


class MonitorThread(LoopThread):
    """Context manager: inside it a monitor listens on 127.0.0.1. Its methods are for other threads."""

    def __init__(
        self,
        token: str,
        options: MonitorOptions | None = None,
        on_broker: OnBroker | None = None,
        *,
        port: int = 0,
    ) -> None:
        self.server = MonitorServer(token, options, on_broker)
        self._asked_port = port
        super().__init__("monitor", uvloop.new_event_loop())

    @property
    def url(self) -> str:
        """The base URL, without a slash at its end."""
        return self.server.url

    @property
    def port(self) -> int:
        """Where it listens; the same after a `stop` and `start`."""
        return self.server.port

    @property
    def token(self) -> str:
        """The API token that it accepts."""
        return self.server.token

    def start(self) -> int:
        """ListenAddress (again), on the same port, and return it.

        Raises:
            OSError: the port is taken.
        """
        return self.run(self.server.start(port=self._asked_port))

    def stop(self) -> None:
        """Begin an outage without end: connections are cut, the port is closed; `start` ends it."""
        self.run(self.server.stop())

    def faults(self, **wanted: Any) -> dict[str, Any]:
        """Set faults and return those in force; without arguments clear all.

        Raises:
            BadFaults: a name or a value that is none; nothing was set.
        """
        return self.call(lambda: self.server.set_faults(wanted))

    def counts(self) -> dict[str, Any]:
        """The numbers of ``GET /_testbed/counts``."""
        return self.call(self.server.counts)

    def deliver(self, body: str) -> None:
        """Hand over a message of the topic, see `MonitorServer.deliver`."""
        self.call(lambda: self.server.deliver(body))
