"""The embedded monitor as a server: what it remembers outlives its outages, its port stays its own.

Owns listening, cutting off and coming back, and puts the parts together. It must not know the broker: the world hands
each message of the topic to `MonitorServer.deliver` and takes the broker's faults through a callback.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from fastmon_daemon.base.clock import Clock
from fastmon_daemon.testbed.monitor.agents import heartbeat_on_topic
from fastmon_daemon.testbed.monitor.app import Application, AuthMiddleware
from fastmon_daemon.testbed.monitor.counts import Counts
from fastmon_daemon.testbed.monitor.fault_middleware import FaultMiddleware
from fastmon_daemon.testbed.monitor.faults import Faults, OnBroker
from fastmon_daemon.testbed.monitor.rest import Rest
from fastmon_daemon.testbed.monitor.sse import SseBroadcaster, heard, is_heartbeat, is_relayed
from fastmon_daemon.testbed.monitor.store import Store
from fastmon_daemon.testbed.ports import hold_port

REBIND_EVERY_S = 0.05

Publish = Callable[[dict[str, Any]], None]
"""Takes the body of a POST to ``/api/messages/`` and puts it on the topic."""


@dataclass(frozen=True, kw_only=True)
class MonitorOptions:
    """How this monitor differs from the usual one. *publish* makes ``/api/messages/`` exist."""

    publish: Publish | None = None
    heartbeat_s: float = 30.0
    """Seconds between two heart-beats of the stream."""
    seed: int = 1
    """Decides which requests the rates of the faults hit."""
    clock: Clock = field(default_factory=Clock)


class _Protocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol, whose requests carry a way to cut their connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {"abort": transport.abort}


class MonitorServer:
    """A monitor on 127.0.0.1 in the running event loop; all its methods are called in that loop.

    *on_broker* is told the faults that are the broker's: ``(name, value)``, see `faults.OnBroker`.
    """

    def __init__(self, token: str, options: MonitorOptions | None = None, on_broker: OnBroker | None = None) -> None:
        options = options or MonitorOptions()
        self.token = token
        self.port = 0
        self.store = Store(options.clock.now)
        self.counted = Counts(self.store)
        self.faults = Faults(options.clock.monotonic, Random(options.seed), on_broker)  # noqa: S311 (no secret)
        self.hub = SseBroadcaster(options.clock.now, options.heartbeat_s, self.faults.take_cut)
        rest = Rest(self.store, self.counted, self._token_for, options.publish)
        self._gate = FaultMiddleware(AuthMiddleware(rest, self.hub, self._token_for), self.faults)
        self._app = Application(self._gate, self.faults, self.counted, self._follow_outage)
        self._state = ServerState()
        self._host = ""
        self._port_holder: socket.socket | None = None
        self._listener: asyncio.Server | None = None
        self._outage: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """The base URL, without a slash at its end."""
        return f"http://{self._host}:{self.port}"

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """ListenAddress and return the port; 0 means the port of last time, or any free one.

        Raises:
            OSError: the port is taken.
        """
        self._host = host
        self._port_holder = hold_port(host, port or self.port)
        self.port = self._port_holder.getsockname()[1]
        try:
            await self._open()
        except OSError:
            self._port_holder.close()
            raise
        return self.port

    async def stop(self) -> None:
        """Stop listening and cut all connections. Runs, files, counts and faults are kept for the next `start`."""
        if self._outage:
            self._outage.cancel()
            await asyncio.gather(self._outage, return_exceptions=True)
            self._outage = None
        self._shut()
        if self._port_holder:
            self._port_holder.close()
            self._port_holder = None
        await asyncio.gather(*self._state.tasks, return_exceptions=True)

    def deliver(self, body: str) -> None:
        """Take *body*, a message on the topic: count it, and do with it what the monitor's listener does."""
        self.counted.on_topic(body)
        message = heard(body)
        if message is None:
            return
        if is_heartbeat(message):
            heartbeat_on_topic(self.store, message)
        elif is_relayed(message) and not self.faults.left("sse_deaf_s"):
            self.hub.offer(message)

    def counts(self) -> dict[str, Any]:
        """The numbers of ``GET /_testbed/counts``."""
        return self.counted.report()

    def set_faults(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """As ``POST /_testbed/faults``: returns the faults in force.

        Raises:
            BadFaults: a name or a value that is none; nothing was set.
        """
        in_force = self.faults.set(wanted)
        self._follow_outage()
        return in_force

    def _token_for(self, path: str) -> str:
        revoked = self.faults.on("revoked") and self.faults.concerns(path)
        return "" if revoked else self.token

    def _follow_outage(self) -> None:
        """Go down, stay down longer, or come back at once, as ``down_s`` now says."""
        left = self.faults.left("down_s")
        if not self._port_holder or (self._listener and not left):
            return
        self._shut()
        if self._outage:
            self._outage.cancel()
        self._outage = asyncio.get_running_loop().create_task(self._come_back(left))

    async def _come_back(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        while True:
            try:
                await self._open()
            except OSError:
                await asyncio.sleep(REBIND_EVERY_S)
            else:
                return

    async def _open(self) -> None:
        config = Config(
            self._app,
            http=_Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            proxy_headers=False,
        )
        config.load()
        self._gate.open()
        loop = asyncio.get_running_loop()
        sock = hold_port(self._host, self.port)
        try:
            self._listener = await loop.create_server(lambda: _Protocol(config, self._state, {}), sock=sock)
        except BaseException:
            sock.close()
            raise

    def _shut(self) -> None:
        if self._listener:
            self._listener.close()
            self._listener = None
        for connection in list(self._state.connections):
            connection.transport.abort()
        self._gate.cut()
