"""The DAQ's two links: messages are repeated until the broker confirms them, requests until the monitor answers."""

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

from fastmon_daemon.base.backoff import Backoff, retry_until_stopped
from fastmon_daemon.base.errors import ConfigError, PermanentError, TransientError
from fastmon_daemon.monitor.failures import reason_of
from fastmon_daemon.settings import Settings
from fastmon_daemon.testbed.daq_messages import WORKFLOW

TOPIC = "/topic/epictopic"
TIMEOUT_S = 5.0
"""How long broker or monitor may take to answer before the DAQ tries again."""
HEART_BEATS_MS = (10_000, 10_000)
VERSION = "1.0"
_PAUSES = Backoff(first_s=0.2, longest_s=1.0, shortest_s=0.1)
_TRANSIENT = {408, 425, 429}
_EXISTS = ("already exists", "must make a unique set")

T = TypeVar("T")


def retry_until_done(stopping: threading.Event, call: Callable[[], T]) -> T:
    """Return what *call* returns; repeat it after each `TransientError` until *stopping* is set."""
    return retry_until_stopped(stopping, pause_s=_PAUSES.pause_s, failed=_log_failure)(call)


def _log_failure(number: int, error: BaseException) -> None:
    """Log the first failure and then every tenth."""
    if number % 10 == 1:
        logger.warning("{}; retrying", error)


class _ReceiptWaiter(stomp.ConnectionListener):
    """Waits for one frame at a time; a lost connection ends the wait."""

    def __init__(self) -> None:
        self._expected: tuple[str, threading.Event] = ("", threading.Event())
        self._received = ""

    def expect(self, frame: str) -> None:
        """Expect *frame* from now on: ``connected``, or the id of a receipt."""
        self._received = ""
        self._expected = (frame, threading.Event())

    def wait(self) -> None:
        """Wait for the expected frame. Raises: TransientError if another one came, or none."""
        expected, arrived = self._expected
        arrived.wait(TIMEOUT_S)
        if self._received != expected:
            raise TransientError(self._received or f"broker: no answer within {TIMEOUT_S:.0f} s")

    def on_connected(self, frame: stomp.utils.Frame) -> None:  # noqa: ARG002 (stomp.py's signature)
        self._arrived("connected")

    def on_receipt(self, frame: stomp.utils.Frame) -> None:
        self._arrived(frame.headers["receipt-id"])

    def on_error(self, frame: stomp.utils.Frame) -> None:
        self._arrived(f"broker: {frame.headers.get('message') or frame.body}")

    def on_disconnected(self) -> None:
        self._arrived("broker: connection closed")

    def _arrived(self, frame: str) -> None:
        self._received = self._received or frame
        self._expected[1].set()


class Topic:
    """Sends messages to the topic. Only `close` may be called from another thread."""

    def __init__(self, settings: Settings, stopping: threading.Event) -> None:
        self._settings = settings
        self._stopping = stopping
        self._connection: stomp.StompConnection12 | None = None
        self._receipts = _ReceiptWaiter()

    def send(self, message: Mapping[str, Any]) -> None:
        """Send *message* until a receipt confirms it; the broker may then have it more than once.

        Raises: TransientError once *stopping* is set.
        """
        body = json.dumps(message)
        retry_until_done(self._stopping, lambda: self._send(body))

    def close(self) -> None:
        """Close the connection and end a wait for a receipt."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.remove_listener("daq")
            connection.transport.disconnect_socket()
        self._receipts.on_disconnected()

    def _send(self, body: str) -> None:
        receipt = str(uuid4())
        try:
            connection = self._connected()
            self._receipts.expect(receipt)
            connection.send(TOPIC, body, headers={"receipt": receipt})
            self._receipts.wait()
        except (StompException, OSError) as exc:
            self.close()
            raise TransientError(f"broker: {exc.strerror if isinstance(exc, OSError) else 'no connection'}") from exc
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
            timeout=TIMEOUT_S,
            heartbeats=HEART_BEATS_MS,
            heart_beat_receive_scale=2.5,
        )
        if settings.broker_use_ssl:
            self._secure(connection, address)
        self._connection, self._receipts = connection, _ReceiptWaiter()
        self._receipts.expect("connected")
        connection.set_listener("daq", self._receipts)
        connection.connect(settings.broker_user, settings.broker_password, wait=False)
        self._receipts.wait()
        return connection

    def _secure(self, connection: stomp.StompConnection12, address: tuple[str, int]) -> None:
        files = (self._settings.broker_ca_file, self._settings.broker_cert_file, self._settings.broker_key_file)
        ca, certificate, key = (str(file) if file else None for file in files)
        connection.set_ssl([address], ca_certs=ca, cert_file=certificate, key_file=key)
        if not connection.get_ssl(address):
            raise ConfigError(
                f"ACTIVEMQ_HOST={address[0]!r}: stomp.py cannot use TLS with this host: set the host's full name"
            )


class Registrar:
    """Registers workflow executions, runs and STFs in the monitor. Used by one thread at a time.

    All requests are repeated until the monitor answers. Raises: TransientError once *stopping* is set; PermanentError
    if the monitor rejects the request.
    """

    def __init__(self, settings: Settings, stopping: threading.Event) -> None:
        self._base = f"{settings.monitor_url}/api/"
        self._stopping = stopping
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers["Authorization"] = f"Token {settings.monitor_token}"
        if settings.monitor_ca:
            self._session.verify = str(settings.monitor_ca)

    def next_run_number(self) -> int:
        """Request an unused run number."""
        return int(self._request("POST", "state/next-run-number/", {})["run_number"])

    def register_execution(self, execution_id: str, namespace: str, start_time: str, *, stf: int) -> None:
        """Register a workflow execution for a run of *stf* STFs, unless it exists; agents ask for its parameters."""
        parameters = {
            "workflow": {"name": WORKFLOW, "version": VERSION},
            "testbed": {"namespace": namespace},
            "fast_processing": {"stf_count": stf},
        }
        body = {
            "execution_id": execution_id,
            "namespace": namespace,
            "workflow_definition": self._workflow_definition(),
            "parameter_values": parameters,
            "status": "running",
            "start_time": start_time,
            "executed_by": "testbed",
        }
        self._request("POST", "workflow-executions/", body, may_exist=True)

    def end_execution(self, execution_id: str, end_time: str) -> None:
        """Set the end time of the workflow execution."""
        body = {"status": "completed", "end_time": end_time}
        self._request("PATCH", f"workflow-executions/{execution_id}/", body)

    def _workflow_definition(self) -> int:
        """Return the primary key of the workflow's definition; register one if there is none."""
        body = {
            "workflow_name": WORKFLOW,
            "version": VERSION,
            "workflow_type": "data-taking",
            "definition": "fastmon-daemon daq",
            "created_by": "testbed",
        }
        path = "workflow-definitions/"
        named = [row for row in self._request("GET", path) if row["workflow_name"] == WORKFLOW]
        if not named:
            row = self._request("POST", path, body, may_exist=True)
            named = [row] if row else [row for row in self._request("GET", path) if row["workflow_name"] == WORKFLOW]
        return int(named[0]["id"])

    def register_run(self, run: int, start_time: str) -> int:
        """Register *run*, unless it exists, and return its primary key."""
        body = {"run_number": run, "start_time": start_time, "run_conditions": {}}
        row = self._request("POST", "runs/", body, may_exist=True)
        if row is None:
            rows = self._request("GET", "runs/")
            row = next(row for row in rows if row["run_number"] == run)
        return int(row["run_id"])

    def register_stf(self, run_key: int, filename: str, size: int | None) -> None:
        """Register the STF *filename* of *size* bytes, unless it exists."""
        body = {
            "run": run_key,
            "stf_filename": filename,
            "file_size_bytes": size,
            "machine_state": "physics",
            "status": "registered",
            "metadata": {"created_by": "testbed", "substate": "physics"},
        }
        self._request("POST", "stf-files/", body, may_exist=True)

    def end_run(self, run_key: int, end_time: str) -> None:
        """Set the end time of the run."""
        self._request("PATCH", f"runs/{run_key}/", {"end_time": end_time})

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def _request(self, method: str, path: str, body: object = None, *, may_exist: bool = False) -> Any:
        """Return the JSON of the response; with *may_exist*, None if the row exists already."""
        return retry_until_done(self._stopping, lambda: self._request_once(method, path, body, may_exist))

    def _request_once(self, method: str, path: str, body: object, may_exist: bool) -> Any:
        call = f"{method} {self._base}{path}"
        try:
            response = self._session.request(
                method, self._base + path, json=body, timeout=(TIMEOUT_S, TIMEOUT_S), allow_redirects=False
            )
        except requests.RequestException as exc:
            raise TransientError(f"{call}: {reason_of(exc)}") from exc
        if may_exist and response.status_code == 400 and any(text in response.text for text in _EXISTS):
            return None
        if response.status_code >= 500 or response.status_code in _TRANSIENT:
            raise TransientError(f"{call}: {response.status_code}")
        if not response.ok or response.is_redirect:
            hint = "check SWF_MONITOR_URL and SWF_API_TOKEN"
            raise PermanentError(f"{call}: {response.status_code}: {response.text[:200]}: {hint}")
        try:
            return response.json()
        except ValueError as exc:
            raise TransientError(f"{call}: the response is not JSON") from exc
