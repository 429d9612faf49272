"""The embedded world: a broker and a monitor in one event loop, and the monitor's ear on the topic.

Owns how the two are put together, the broker's faults, and the environment file that tells daemon and client where
they are. It must not know who uses them.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop

from fastmon_daemon.testbed.loop_thread import LoopThread
from fastmon_daemon.testbed.monitor import MonitorOptions, MonitorServer
from fastmon_daemon.testbed.ports import hold_port
from fastmon_daemon.testbed.stomp_broker import Broker

HOST = "127.0.0.1"
TOPIC = "/topic/epictopic"
"""What the monitor listens to; it hears nothing else."""
NAMESPACE = "testbed"


@dataclass(frozen=True, kw_only=True)
class TestbedOptions:
    """How this world differs from the usual one; port 0 is a free one."""

    broker_port: int = 0
    monitor_port: int = 0
    messages_endpoint: bool = False
    """Whether the monitor has ``/api/messages/``; the real one has not."""
    overheard: Callable[[str, str], None] | None = None
    """Told destination and body of each message that the broker took, in the world's loop."""
    token: str = field(default_factory=lambda: secrets.token_hex(20), repr=False)
    password: str = field(default_factory=lambda: secrets.token_urlsafe(18), repr=False)


class EmbeddedTestbed:
    """Broker and monitor on 127.0.0.1 in the running event loop; all its methods are called in that loop."""

    def __init__(self, options: TestbedOptions | None = None) -> None:
        self.options = options or TestbedOptions()
        self.broker = Broker(user="fastmon", password=self.options.password, on_send=self._on_send)
        publish = self._publish if self.options.messages_endpoint else None
        self.monitor = MonitorServer(self.options.token, MonitorOptions(publish=publish), self._on_broker)
        self._port_holder: socket.socket | None = None
        self._outage: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """ListenAddress; when it returns, both accept.

        Raises:
            OSError: a port is taken.
        """
        self._port_holder = hold_port(HOST, self.options.broker_port)
        try:
            await self.broker.start(HOST, self._port_holder.getsockname()[1])
            await self.monitor.start(HOST, self.options.monitor_port)
        except OSError:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop both; connections are cut."""
        if self._outage:
            self._outage.cancel()
            await asyncio.gather(self._outage, return_exceptions=True)
        await self.broker.stop()
        await self.monitor.stop()
        if self._port_holder:
            self._port_holder.close()

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which daemon and client find this world."""
        return {
            "SWF_MONITOR_URL": self.monitor.url,
            "SWF_API_TOKEN": self.monitor.token,
            "ACTIVEMQ_HOST": HOST,
            "ACTIVEMQ_PORT": str(self.broker.port),
            "ACTIVEMQ_USER": self.broker.user,
            "ACTIVEMQ_PASSWORD": self.broker.password,
            "FASTMON_NAMESPACE": NAMESPACE,
            "FASTMON_DURABLE": "on",
            "FASTMON_LATE_ANNOUNCE_RATE": "0",
        }

    def _on_send(self, destination: str, body: str, _headers: dict[str, str]) -> None:
        if destination == TOPIC:
            self.monitor.deliver(body)
        if self.options.overheard:
            self.options.overheard(destination, body)

    def _publish(self, message: dict[str, Any]) -> None:
        self.broker.publish(TOPIC, json.dumps(message))

    def _on_broker(self, fault: str, value: float | bool) -> None:
        if fault == "no_receipts":
            self.broker.no_receipts = bool(value)
        elif fault == "broker_silent_s":
            self.broker.silent(value)
        elif value or (self._outage and not self._outage.done()):
            if self._outage:
                self._outage.cancel()
            self._outage = asyncio.get_running_loop().create_task(self._broker_outage(value))

    async def _broker_outage(self, seconds: float) -> None:
        await self.broker.stop()
        await asyncio.sleep(seconds)
        await self.broker.start(HOST)


class TestbedThread(LoopThread):
    """Context manager for programs that are not asyncio: inside it the world runs in a thread of its own."""

    def __init__(self, options: TestbedOptions | None = None) -> None:
        self.world = EmbeddedTestbed(options)
        super().__init__("world", uvloop.new_event_loop())

    @property
    def environment(self) -> dict[str, str]:
        """As `EmbeddedTestbed.environment`."""
        return self.world.environment

    def start(self) -> None:
        """ListenAddress (again), on the same ports."""
        self.run(self.world.start())

    def stop(self) -> None:
        """Everything goes away."""
        self.run(self.world.stop())

    def faults(self, **wanted: Any) -> dict[str, Any]:
        """Set faults, as ``POST /_testbed/faults`` does, and return those in force; without arguments clear all."""
        return self.call(lambda: self.world.monitor.set_faults(wanted))

    def counts(self) -> dict[str, Any]:
        """The numbers of ``GET /_testbed/counts``."""
        return self.call(self.world.monitor.counts)


async def serve(options: TestbedOptions, env_file: Path, until: asyncio.Event, say: Callable[[str], None]) -> None:
    """Run a world until *until* is set; *env_file* stands while both accept, and *say* gets lines for people.

    Raises:
        OSError: a port is taken, or the file cannot be written.
    """
    world = EmbeddedTestbed(options)
    await world.start()
    try:
        with temporary_env_file(env_file, world.environment):
            say(f"monitor  {world.monitor.url}")
            say(f"broker   stomp://{HOST}:{world.broker.port}")
            say(f"settings {env_file}  (Ctrl-C ends)")
            await until.wait()
    finally:
        await world.stop()


@contextmanager
def temporary_env_file(path: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """Write *environment* to *path* (mode 0600, whole at once), and remove it at the end if it is still ours."""
    text = "".join(f"{name}={value}\n" for name, value in environment.items())
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.touch(mode=0o600)
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
    try:
        yield
    finally:
        if path.exists() and path.read_text(encoding="utf-8") == text:
            path.unlink()
