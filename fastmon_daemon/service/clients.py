"""Clients of the monitor and the broker, made from the settings, and the secrets that they send.

A secret from a file (`NAME_FILE`) is read again each time it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from loguru import logger

from fastmon_daemon.base.errors import LinkDown
from fastmon_daemon.base.logs import SecretRedactor
from fastmon_daemon.broker import ConnectionParameters
from fastmon_daemon.engine.concurrency_limits import monitor_connections
from fastmon_daemon.monitor import AgentClient, MonitorClient
from fastmon_daemon.service.process import ProcessContext
from fastmon_daemon.settings import MOST_WORKERS, read_error, read_text

_AGENT_TIMEOUT_S = (3.05, 5.0)
"""Timeouts for connecting and for reading, in seconds."""
_AGENT_DEADLINE_S = 8.0
_AGENT_CONNECTIONS = 3  # one for each worker of `presence` that uses it, and one spare


class SecretReader:
    """Returns the secret *name*, read again from its file if `NAME_FILE` is set.

    *known* is its value at the start. Each value is added to *secrets* before it is returned. While the file is
    unreadable or empty, the last value is used; that is logged once.
    """

    def __init__(self, values: Mapping[str, str], name: str, known: str, secrets: SecretRedactor) -> None:
        path = values.get(f"{name}_FILE")
        self._where = f"{name}_FILE={path}"
        self._path = Path(path).expanduser() if path else None
        self._known = known
        self._secrets = secrets
        self._problem = ""

    def __call__(self) -> str:
        """Return the secret."""
        if self._path is None:
            return self._known
        secret, problem = "", "the file is empty"
        try:
            secret = read_text(self._path).strip()
        except (OSError, ValueError) as exc:
            problem = read_error(exc)
        if secret:
            self._secrets.add(secret)
            self._known, self._problem = secret, ""
        elif problem != self._problem:
            self._problem = problem
            logger.error("{}: {}: using the last secret that was read", self._where, problem)
        return self._known


def monitor_client(context: ProcessContext) -> MonitorClient:
    """Return a client of the monitor, with our token."""
    settings = context.settings
    return MonitorClient(
        settings.monitor_url,
        _monitor_token(context),
        connections=monitor_connections(MOST_WORKERS),
        ca=settings.monitor_ca,
        environ=context.values,
        on_write=context.wrote.set,
        redact=context.secrets.redact,
    )


def _monitor_token(context: ProcessContext) -> Callable[[], str]:
    return SecretReader(context.values, "SWF_API_TOKEN", context.settings.monitor_token, context.secrets)


class _WatchedAgentClient(AgentClient):
    """An agent client that tells when a call found the monitor down."""

    def __init__(self, found_down: Callable[[], object], *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._found_down = found_down

    def request(self, *args: Any, **options: Any) -> Any:
        """As `RestClient.request`."""
        try:
            return super().request(*args, **options)
        except LinkDown:
            self._found_down()
            raise


def agent_client(
    context: ProcessContext,
    *,
    deadline_s: float = _AGENT_DEADLINE_S,
    logs_url: str | None = None,
    settles_name: bool = True,
    found_down: Callable[[], object] = lambda: None,
) -> AgentClient:
    """Return a client for agent calls, with its own connections: a hanging call delays no registration.

    Without *settles_name* what it sends does not make the agent name permanent. *logs_url* is that of another server
    for log lines. It gets no token: it may use plain HTTP. *found_down* is called when a call found the monitor down.
    """
    settings = context.settings
    connect_s, read_s = _AGENT_TIMEOUT_S
    return _WatchedAgentClient(
        found_down,
        logs_url or settings.monitor_url,
        (lambda: "") if logs_url else _monitor_token(context),
        connections=_AGENT_CONNECTIONS,
        ca=settings.monitor_ca,
        environ=context.values,
        timeout_s=(min(deadline_s, connect_s), min(deadline_s, read_s)),
        deadline_s=deadline_s,
        on_write=context.wrote.set if settles_name else lambda: None,
        redact=context.secrets.redact,
        max_retry_after_s=0.0,  # a Retry-After for one of the calls must not stop the heart-beats
    )


def broker_parameters(context: ProcessContext, instance: str, *, subscribe: bool) -> ConnectionParameters:
    """Return the parameters of our broker connection; without *subscribe* it is only for announcing."""
    settings, values = context.settings, context.values
    password = "MQ_PASSWD" if "MQ_PASSWD_FILE" in values else "ACTIVEMQ_PASSWORD"
    return ConnectionParameters(
        host=settings.broker_host,
        port=settings.broker_port,
        user=settings.broker_user,
        password=SecretReader(values, password, settings.broker_password, context.secrets),
        subscribe=settings.subscribe if subscribe else "",
        announce=settings.announce,
        shares_queue=bool(settings.shared_queue),
        durable=settings.durable and subscribe and not settings.shared_queue,  # a queue keeps its messages anyway
        client_id=settings.client_id or f"fastmon-{settings.namespace}-{instance}",
        unneeded_type="tf_file_registered",  # several for each STF, and our own would come back to us
        use_ssl=settings.broker_use_ssl,
        ca_file=settings.broker_ca_file,
        cert_file=settings.broker_cert_file,
        key_file=settings.broker_key_file,
        redact=context.secrets.redact,
    )
