"""Clients of the monitor and the broker, made from the settings, and the secrets that they send.

A secret from a file (`NAME_FILE`) is read again each time it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from loguru import logger

from fastmon_daemon.base.logs import SecretRedactor
from fastmon_daemon.broker import ConnectionParameters
from fastmon_daemon.engine.concurrency_limits import monitor_connections
from fastmon_daemon.monitor import AgentClient, MonitorClient, RestClient
from fastmon_daemon.service.process import ProcessContext
from fastmon_daemon.settings import Settings, read_error, read_text

_AGENT_TIMEOUT_S = (3.05, 5.0)
"""Timeouts for connecting and for reading, in seconds."""
_AGENT_DEADLINE_S = 8.0
_AGENT_CONNECTIONS = 4  # one for each worker of `presence` that uses it, and one spare


def secret_reader(values: Mapping[str, str], name: str, known: str, secrets: SecretRedactor) -> Callable[[], str]:
    """Return a function that returns the secret *name*, read again from its file if `NAME_FILE` is set.

    *known* is its value at the start. Each value is added to *secrets* before it is returned.
    """
    path = values.get(f"{name}_FILE")
    return _SecretFile(f"{name}_FILE={path}", Path(path).expanduser(), known, secrets) if path else lambda: known


class _SecretFile:
    """A secret in a file. While the file is unreadable or empty, the last value is used; that is logged once."""

    def __init__(self, where: str, path: Path, known: str, secrets: SecretRedactor) -> None:
        self._where = where
        self._path = path
        self._known = known
        self._secrets = secrets
        self._problem = ""

    def __call__(self) -> str:
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


def monitor_client(settings: Settings, values: Mapping[str, str], secrets: SecretRedactor) -> MonitorClient:
    """Return a client of the monitor, with our token."""
    return MonitorClient(
        settings.monitor_url,
        secret_reader(values, "SWF_API_TOKEN", settings.monitor_token, secrets),
        connections=monitor_connections(settings.workers),
        ca=settings.monitor_ca,
        environ=values,
    )


def agent_client(context: ProcessContext, *, deadline_s: float = _AGENT_DEADLINE_S) -> AgentClient:
    """Return a client for agent calls, with its own connections: a hanging call delays no registration."""
    settings, values = context.settings, context.values
    connect_s, read_s = _AGENT_TIMEOUT_S
    return AgentClient(
        RestClient(
            settings.monitor_url,
            secret_reader(values, "SWF_API_TOKEN", settings.monitor_token, context.secrets),
            connections=_AGENT_CONNECTIONS,
            ca=settings.monitor_ca,
            environ=values,
            timeout_s=(min(deadline_s, connect_s), min(deadline_s, read_s)),
            deadline_s=deadline_s,
            max_retry_after_s=0.0,  # a Retry-After for one of the calls must not stop the heart-beats
        )
    )


def log_client(context: ProcessContext) -> AgentClient:
    """Return a client for log lines. A URL other than the monitor's gets no token: it may use plain HTTP."""
    settings = context.settings
    if settings.logs_url is None:
        return agent_client(context)
    return AgentClient(
        RestClient(
            settings.logs_url,
            lambda: "",
            connections=1,
            ca=settings.monitor_ca,
            environ=context.values,
            timeout_s=_AGENT_TIMEOUT_S,
            deadline_s=_AGENT_DEADLINE_S,
        )
    )


def broker_parameters(
    settings: Settings, values: Mapping[str, str], secrets: SecretRedactor, instance: str, *, subscribe: bool
) -> ConnectionParameters:
    """Return the parameters of our broker connection; without *subscribe* it is only for announcing."""
    password = "MQ_PASSWD" if "MQ_PASSWD_FILE" in values else "ACTIVEMQ_PASSWORD"
    return ConnectionParameters(
        host=settings.broker_host,
        port=settings.broker_port,
        user=settings.broker_user,
        password=secret_reader(values, password, settings.broker_password, secrets),
        subscribe=settings.subscribe if subscribe else "",
        announce=settings.announce,
        durable=settings.durable and subscribe,
        client_id=settings.client_id or f"fastmon-{settings.namespace}-{instance}",
        use_ssl=settings.broker_use_ssl,
        ca_file=settings.broker_ca_file,
        cert_file=settings.broker_cert_file,
        key_file=settings.broker_key_file,
    )
