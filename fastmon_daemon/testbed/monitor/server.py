"""The embedded monitor as a server, whose data and port survive its outages.

It does not know the broker: the testbed passes each message of the topic to `MonitorServer.deliver`, and the broker's
faults leave by a callback.
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
from fastmon_daemon.testbed.monitor.faults import Faults, OnBrokerFault
from fastmon_daemon.testbed.monitor.rest import Rest
from fastmon_daemon.testbed.monitor.sse import SseBroadcaster, is_heartbeat, is_relayed, parse_message
from fastmon_daemon.testbed.monitor.store import Store

REBIND_EVERY_S = 0.05

Publish = Callable[[dict[str, Any]], None]
"""Publishes the body of a POST to ``/api/messages/`` on the topic."""


def reserve_port(host: str, port: int) -> socket.socket:
    """Bind *port* (0: a free one) without listening: connections are refused, and nobody else gets the port.

    Raises: OSError if the port is taken.
    """
    sock = socket.socket()
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
    except BaseException:
        sock.close()
        raise
    return sock


@dataclass(frozen=True, kw_only=True)
class MonitorOptions:
    """Options of a monitor. *publish* enables ``/api/messages/``."""

    publish: Publish | None = None
    heartbeat_s: float = 30.0
    """Seconds between heart-beats of the stream."""
    seed: int = 1
    """Seed of the draw that decides which requests a fault's rate hits."""
    clock: Clock = field(default_factory=Clock)


class _Protocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol; each request gets a function that cuts its connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {"abort": transport.abort}


class MonitorServer:
    """A monitor on 127.0.0.1 in the running event loop; all methods are called in that loop.

    *on_broker_fault* gets the faults that the broker has to carry out, see `faults.OnBrokerFault`.
    """

    def __init__(
        self, token: str, options: MonitorOptions | None = None, on_broker_fault: OnBrokerFault | None = None
    ) -> None:
        options = options or MonitorOptions()
        self.token = token
        self.port = 0
        self.store = Store(options.clock.now)
        self._counts = Counts(self.store)
        self.faults = Faults(options.clock.monotonic, Random(options.seed), on_broker_fault)  # noqa: S311 (no secret)
        self.broadcaster = SseBroadcaster(options.clock.now, options.heartbeat_s, self.faults.take_cut)
        rest = Rest(self.store, self._counts, self._token_for, options.publish)
        self._fault_middleware = FaultMiddleware(AuthMiddleware(rest, self.broadcaster, self._token_for), self.faults)
        self._app = Application(self._fault_middleware, self.faults, self._counts, self._follow_outage)
        self._state = ServerState()
        self._host = ""
        self._reserved_port: socket.socket | None = None
        self._listener: asyncio.Server | None = None
        self._outage: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """The base URL, without a trailing slash."""
        return f"http://{self._host}:{self.port}"

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Listen and return the port; 0 means the previous port, or any free one.

        Raises: OSError if the port is taken.
        """
        self._host = host
        self._reserved_port = reserve_port(host, port or self.port)
        self.port = self._reserved_port.getsockname()[1]
        try:
            await self._open()
        except OSError:
            self._reserved_port.close()
            raise
        return self.port

    async def stop(self) -> None:
        """Stop listening and cut all connections; data, counts and faults are kept."""
        if self._outage:
            self._outage.cancel()
            await asyncio.gather(self._outage, return_exceptions=True)
            self._outage = None
        self._shut()
        if self._reserved_port:
            self._reserved_port.close()
            self._reserved_port = None
        await asyncio.gather(*self._state.tasks, return_exceptions=True)

    def deliver(self, body: str) -> None:
        """Count *body*, a message on the topic, and process it like the monitor's listener."""
        self._counts.on_topic(body)
        message = parse_message(body)
        if message is None:
            return
        if is_heartbeat(message):
            heartbeat_on_topic(self.store, message)
        elif is_relayed(message) and not self.faults.left("sse_deaf_s"):
            self.broadcaster.publish(message)

    def counts(self) -> dict[str, Any]:
        """The numbers of ``GET /_testbed/counts``."""
        return self._counts.report()

    def set_faults(self, faults: dict[str, Any]) -> dict[str, Any]:
        """Set faults, as ``POST /_testbed/faults`` does, and return those in force. Raises: BadFaults."""
        in_force = self.faults.set(faults)
        self._follow_outage()
        return in_force

    def _token_for(self, path: str) -> str:
        revoked = self.faults.on("revoked") and self.faults.apply_to(path)
        return "" if revoked else self.token

    def _follow_outage(self) -> None:
        """Apply ``down_s``: go down, stay down longer, or come back at once."""
        left = self.faults.left("down_s")
        if not self._reserved_port or (self._listener and not left):
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
        self._fault_middleware.open()
        loop = asyncio.get_running_loop()
        sock = reserve_port(self._host, self.port)
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
        self._fault_middleware.cut()
