"""The embedded testbed: broker and monitor in one event loop, and the .env file that connects daemon and client.

The monitor gets each message of the topic from the broker directly, without a subscription.
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
from fastmon_daemon.testbed.monitor.server import reserve_port
from fastmon_daemon.testbed.stomp_broker import Broker

HOST = "127.0.0.1"
TOPIC = "/topic/epictopic"
"""The only destination whose messages reach the monitor."""
NAMESPACE = "testbed"


@dataclass(frozen=True, kw_only=True)
class TestbedOptions:
    """Options of a testbed; port 0 is a free one."""

    broker_port: int = 0
    monitor_port: int = 0
    messages_endpoint: bool = False
    """Whether the monitor has ``/api/messages/``; the real one has not."""
    on_message: Callable[[str, str], None] | None = None
    """Called in the event loop with destination and body of each message that the broker accepts."""
    token: str = field(default_factory=lambda: secrets.token_hex(20), repr=False)
    password: str = field(default_factory=lambda: secrets.token_urlsafe(18), repr=False)


class EmbeddedTestbed:
    """Broker and monitor on 127.0.0.1 in the running event loop; all methods are called in that loop."""

    def __init__(self, options: TestbedOptions | None = None) -> None:
        self.options = options or TestbedOptions()
        self.broker = Broker(user="fastmon", password=self.options.password, on_send=self._on_send)
        publish = self._publish if self.options.messages_endpoint else None
        self.monitor = MonitorServer(self.options.token, MonitorOptions(publish=publish), self._on_broker_fault)
        self._reserved_port: socket.socket | None = None
        self._outage: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen; on return, both accept connections. Raises: OSError if a port is taken."""
        self._reserved_port = reserve_port(HOST, self.options.broker_port)
        try:
            await self.broker.start(HOST, self._reserved_port.getsockname()[1])
            await self.monitor.start(HOST, self.options.monitor_port)
        except OSError:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop both and cut all connections."""
        if self._outage:
            self._outage.cancel()
            await asyncio.gather(self._outage, return_exceptions=True)
        await self.broker.stop()
        await self.monitor.stop()
        if self._reserved_port:
            self._reserved_port.close()

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables that connect daemon and client to this testbed."""
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
        if self.options.on_message:
            self.options.on_message(destination, body)

    def _publish(self, message: dict[str, Any]) -> None:
        self.broker.publish(TOPIC, json.dumps(message))

    def _on_broker_fault(self, fault: str, value: float | bool) -> None:
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
    """Context manager for programs without asyncio: inside it the testbed runs in its own thread."""

    def __init__(self, options: TestbedOptions | None = None) -> None:
        self.testbed = EmbeddedTestbed(options)
        super().__init__("testbed", uvloop.new_event_loop())

    @property
    def environment(self) -> dict[str, str]:
        """As `EmbeddedTestbed.environment`."""
        return self.testbed.environment

    def start(self) -> None:
        """Listen, after a `stop` on the same ports."""
        self.run(self.testbed.start())

    def stop(self) -> None:
        """Stop broker and monitor."""
        self.run(self.testbed.stop())

    def faults(self, **faults: Any) -> dict[str, Any]:
        """Set faults, as ``POST /_testbed/faults`` does, and return those in force; without arguments clear all."""
        return self.call(lambda: self.testbed.monitor.set_faults(faults))

    def counts(self) -> dict[str, Any]:
        """The numbers of ``GET /_testbed/counts``."""
        return self.call(self.testbed.monitor.counts)


async def serve(options: TestbedOptions, env_file: Path, until: asyncio.Event, say: Callable[[str], None]) -> None:
    """Run a testbed until *until* is set; *env_file* exists meanwhile.

    *say* gets a text for the terminal when it is ready.

    Raises: OSError if a port is taken or the file cannot be written.
    """
    testbed = EmbeddedTestbed(options)
    await testbed.start()
    try:
        with temporary_env_file(env_file, {**testbed.environment, "TESTBED_PID": str(os.getpid())}):
            say(
                f"monitor  {testbed.monitor.url}\nbroker   stomp://{HOST}:{testbed.broker.port}\n"
                f"settings {env_file}  (to stop: Ctrl-C or kill {os.getpid()})"
            )
            await until.wait()
    finally:
        await testbed.stop()


@contextmanager
def temporary_env_file(path: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """Write *environment* to *path* (atomically, mode 0600) and remove the file at the end, unless it was changed.

    Raises: OSError, also if somebody else has put a file or a link where the new file is written first.
    """
    text = "".join(f"{name}={value}\n" for name, value in environment.items())
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(file, "w", encoding="utf-8") as writing:  # noqa: PTH123 (an open descriptor)
        os.fchmod(file, 0o600)
        writing.write(text)
    draft.replace(path)
    try:
        yield
    finally:
        if path.is_file() and not path.is_symlink() and path.read_text(encoding="utf-8") == text:
            path.unlink()
