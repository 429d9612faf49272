"""The monitor in its own thread, for programs and tests without asyncio."""

from __future__ import annotations

from typing import Any

import uvloop

from fastmon_daemon.testbed.loop_thread import LoopThread
from fastmon_daemon.testbed.monitor.faults import OnBrokerFault
from fastmon_daemon.testbed.monitor.server import MonitorOptions, MonitorServer


class MonitorThread(LoopThread):
    """Context manager: inside it a monitor listens on 127.0.0.1."""

    def __init__(
        self,
        token: str,
        options: MonitorOptions | None = None,
        on_broker_fault: OnBrokerFault | None = None,
        *,
        port: int = 0,
    ) -> None:
        self.server = MonitorServer(token, options, on_broker_fault)
        self._requested_port = port
        super().__init__("monitor", uvloop.new_event_loop())

    @property
    def url(self) -> str:
        """The base URL, without a trailing slash."""
        return self.server.url

    @property
    def port(self) -> int:
        """The port; the same after `stop` and `start`."""
        return self.server.port

    @property
    def token(self) -> str:
        """The API token that the monitor accepts."""
        return self.server.token

    def start(self) -> int:
        """Listen, after a `stop` on the same port, and return the port. Raises: OSError if the port is taken."""
        return self.run(self.server.start(port=self._requested_port))

    def stop(self) -> None:
        """Begin an outage: cut the connections and close the port until `start`."""
        self.run(self.server.stop())

    def faults(self, **faults: Any) -> dict[str, Any]:
        """Set faults and return those in force; without arguments clear all. Raises: BadFaults."""
        return self.call(lambda: self.server.set_faults(faults))

    def counts(self) -> dict[str, Any]:
        """The numbers of ``GET /_testbed/counts``."""
        return self.call(self.server.counts)

    def deliver(self, body: str) -> None:
        """See `MonitorServer.deliver`."""
        self.call(lambda: self.server.deliver(body))
