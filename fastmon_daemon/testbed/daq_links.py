"""The DAQ's two ways out: messages that are sent until the broker has them, registrations until they are in.

Owns patience: a link that is away only takes time. It must not know runs and the order of things.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from uuid import uuid4

import requests
import stomp
from loguru import logger
from stomp.exception import StompException
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    sleep_using_event,
    stop_when_event_set,
    wait_exponential_jitter,
)

from fastmon_daemon.base.errors import ConfigError, PermanentError, TransientError
from fastmon_daemon.settings import Settings

TOPIC = "/topic/epictopic"
ANSWER_S = 5.0
"""Seconds that the other side has for an answer before it is asked again."""
HEART_BEATS_MS = (10_000, 10_000)
_LATER = {408, 425, 429}

T = TypeVar("T")


def keep_trying(stopping: threading.Event, act: Callable[[], T]) -> T:
    """What *act* returns, tried again after each `TransientError` until *stopping* is set."""
    policy = Retrying(
        retry=retry_if_exception_type(TransientError),
        stop=stop_when_event_set(stopping),
        wait=wait_exponential_jitter(multiplier=0.1, max=1.0, jitter=0.1),
        sleep=sleep_using_event(stopping),
        before_sleep=_complain,
        reraise=True,
    )
    return policy(act)


def _complain(call: RetryCallState) -> None:
    """Log the first failure and every tenth: a link that is away is no news."""
    if call.outcome and call.attempt_number % 10 == 1:
        logger.warning("{}; trying on", call.outcome.exception())


class _ReceiptWaiter(stomp.ConnectionListener):
    """Waits for one frame at a time on behalf of the sender; a lost connection ends the waiting."""

    def __init__(self) -> None:
        self._awaited: tuple[str, threading.Event] = ("", threading.Event())
        self._heard = ""

    def expect(self, answer: str) -> None:
        """Wait for *answer* from now on: ``connected``, or the id of a receipt."""
        self._heard = ""
        self._awaited = (answer, threading.Event())

    def wait(self) -> None:
        """Wait until the answer is there; TransientError says why not."""
        answer, arrived = self._awaited
        arrived.wait(ANSWER_S)
        if self._heard != answer:
            raise TransientError(self._heard or f"the broker gave no answer within {ANSWER_S:.0f} s")

    def on_connected(self, frame: stomp.utils.Frame) -> None:  # noqa: ARG002 (stomp.py's signature)
        self._note("connected")

    def on_receipt(self, frame: stomp.utils.Frame) -> None:
        self._note(frame.headers["receipt-id"])

    def on_error(self, frame: stomp.utils.Frame) -> None:
        self._note(f"the broker says: {frame.headers.get('message') or frame.body}")

    def on_disconnected(self) -> None:
        self._note("the broker closed the connection")

    def _note(self, heard: str) -> None:
        self._heard = self._heard or heard
        self._awaited[1].set()


class Topic:
    """The topic, seen by a sender. Used by one thread, but for `close`."""

    def __init__(self, settings: Settings, stopping: threading.Event) -> None:
        self._settings = settings
        self._stopping = stopping
        self._connection: stomp.StompConnection12 | None = None
        self._ear = _ReceiptWaiter()

    def send(self, message: Mapping[str, Any]) -> None:
        """Send *message* until a receipt confirms it; it may then have gone out more than once.

        Raises `TransientError` only when told to stop.
        """
        body = json.dumps(message)
        keep_trying(self._stopping, lambda: self._send(body))

    def close(self) -> None:
        """Leave; whoever waits for a receipt stops waiting."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.remove_listener("daq")
            connection.transport.disconnect_socket()
        self._ear.on_disconnected()

    def _send(self, body: str) -> None:
        receipt = str(uuid4())
        try:
            connection = self._connected()
            self._ear.expect(receipt)
            connection.send(TOPIC, body, headers={"receipt": receipt})
            self._ear.wait()
        except (StompException, OSError) as exc:
            self.close()
            raise TransientError(f"broker: {exc!r}") from exc
        except TransientError:
            self.close()
            raise

    def _connected(self) -> stomp.StompConnection12:
        if self._connection is not None and self._connection.is_connected():
            return self._connection
        settings = self._settings
        address = (settings.broker_host, settings.broker_port)
        connection = stomp.StompConnection12(
            [address],
            try_loopback_connect=False,
            prefer_localhost=False,
            reconnect_attempts_max=1,
            timeout=ANSWER_S,
            heartbeats=HEART_BEATS_MS,
            heart_beat_receive_scale=2.5,
        )
        if settings.broker_use_ssl:
            self._secure(connection, address)
        self._connection, self._ear = connection, _ReceiptWaiter()
        self._ear.expect("connected")
        connection.set_listener("daq", self._ear)
        connection.connect(settings.broker_user, settings.broker_password, wait=False)
        self._ear.wait()
        return connection

    def _secure(self, connection: stomp.StompConnection12, address: tuple[str, int]) -> None:
        files = (self._settings.broker_ca_file, self._settings.broker_cert_file, self._settings.broker_key_file)
        ca, certificate, key = (str(file) if file else None for file in files)
        connection.set_ssl([address], ca_certs=ca, cert_file=certificate, key_file=key)
        if not connection.get_ssl(address):
            raise ConfigError(
                f"ACTIVEMQ_HOST={address[0]!r}: TLS cannot be had there: name the host as it is connected"
            )


class Registrar:
    """The monitor, seen by an agent that registers runs and STFs. Used by one thread at a time."""

    def __init__(self, settings: Settings, stopping: threading.Event) -> None:
        self._base = f"{settings.monitor_url}/api/"
        self._stopping = stopping
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers["Authorization"] = f"Token {settings.monitor_token}"
        if settings.monitor_ca:
            self._session.verify = str(settings.monitor_ca)

    def next_run_number(self) -> int:
        """A run number that nobody else has."""
        return int(self._ask("POST", "state/next-run-number/", {})["run_number"])

    def register_run(self, run: int, start_time: str) -> int:
        """Make *run* stand in the monitor; gives its primary key."""
        body = {"run_number": run, "start_time": start_time, "run_conditions": {}}
        row = self._ask("POST", "runs/", body, known=True)
        if row is None:
            rows = self._ask("GET", "runs/")
            row = next(row for row in rows if row["run_number"] == run)
        return int(row["run_id"])

    def register_stf(self, run_key: int, filename: str, size: int | None) -> None:
        """Make the STF *filename* of *size* bytes stand in the monitor."""
        body = {
            "run": run_key,
            "stf_filename": filename,
            "file_size_bytes": size,
            "machine_state": "physics",
            "status": "registered",
            "metadata": {"created_by": "testbed", "substate": "physics"},
        }
        self._ask("POST", "stf-files/", body, known=True)

    def end_run(self, run_key: int, end_time: str) -> None:
        """Note the end of the run."""
        self._ask("PATCH", f"runs/{run_key}/", {"end_time": end_time})

    def close(self) -> None:
        """Leave."""
        self._session.close()

    def _ask(self, method: str, path: str, body: object = None, *, known: bool = False) -> Any:
        """The answer's JSON; with *known*, None where the row exists already."""
        return keep_trying(self._stopping, lambda: self._answer(method, path, body, known))

    def _answer(self, method: str, path: str, body: object, known: bool) -> Any:
        call = f"{method} {self._base}{path}"
        try:
            answer = self._session.request(
                method, self._base + path, json=body, timeout=(ANSWER_S, ANSWER_S), allow_redirects=False
            )
        except requests.RequestException as exc:
            raise TransientError(f"{call}: {exc}") from exc
        if known and answer.status_code == 400 and "already exists" in answer.text:
            return None
        if answer.status_code >= 500 or answer.status_code in _LATER:
            raise TransientError(f"{call}: answered {answer.status_code}")
        if not answer.ok or answer.is_redirect:
            remedy = "look at SWF_MONITOR_URL and SWF_API_TOKEN"
            raise PermanentError(f"{call}: answered {answer.status_code}: {answer.text[:200]}: {remedy}")
        try:
            return answer.json()
        except ValueError as exc:
            raise TransientError(f"{call}: answered something that is not JSON") from exc
