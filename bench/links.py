"""The bare libraries as the reference programs use them: one requests.Session, one stomp.py connection."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import requests
import stomp

from fastmon_daemon.testbed.testbed import TOPIC

TIMEOUT_S = 60.0


class Rest:
    """The monitor's REST interface over one `requests.Session`."""

    def __init__(self) -> None:
        self._base = f"{os.environ['SWF_MONITOR_URL']}/api/"
        self._session = requests.Session()
        self._session.trust_env = False  # saves a third of the CPU: no search for proxies and .netrc at each request
        self._session.headers["Authorization"] = f"Token {os.environ['SWF_API_TOKEN']}"

    def post(self, path: str, row: dict[str, Any]) -> dict[str, Any]:
        """POST *row*; return the monitor's answer. Raises: requests.RequestException."""
        response = self._session.post(self._base + path, json=row, timeout=TIMEOUT_S)
        response.raise_for_status()
        return dict(response.json())


class Receipts(stomp.ConnectionListener):
    """Counts receipts, so that several messages can be in flight."""

    def __init__(self) -> None:
        self._arrived = threading.Condition()
        self._count = 0

    def on_receipt(self, frame: stomp.utils.Frame) -> None:  # noqa: ARG002 (stomp.py's signature)
        with self._arrived:
            self._count += 1
            self._arrived.notify()

    def wait_for(self, count: int) -> None:
        """Wait until *count* receipts have come since the start. Raises: TimeoutError."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: self._count >= count, TIMEOUT_S):
                raise TimeoutError(f"{self._count} of {count} receipts")


class Topic:
    """The topic over one `stomp.py` connection."""

    def __init__(self, *listeners: stomp.ConnectionListener, environment: Mapping[str, str] = os.environ) -> None:
        self._receipts = Receipts()
        self._sent = 0
        self.connection = stomp.Connection12([(environment["ACTIVEMQ_HOST"], int(environment["ACTIVEMQ_PORT"]))])
        for listener in (self._receipts, *listeners):
            self.connection.set_listener(type(listener).__name__, listener)
        self.connection.connect(environment["ACTIVEMQ_USER"], environment["ACTIVEMQ_PASSWORD"], wait=True)

    def send(self, bodies: Sequence[str]) -> None:
        """Send persistent messages, all at once, and wait for their receipts."""
        for body in bodies:
            self._sent += 1
            self.connection.send(TOPIC, body, headers={"persistent": "true", "receipt": str(self._sent)})
        self._receipts.wait_for(self._sent)
