"""Who we are at the monitor and the broker: names, secrets and logins, out of the settings.

SecretRedactor that come from files are read again whenever they are asked for. It must not know what is done with them.
"""

from __future__ import annotations

import getpass
from collections.abc import Callable, Mapping
from pathlib import Path
from uuid import uuid4

from loguru import logger

from fastmon_daemon.base.logs import SecretRedactor
from fastmon_daemon.broker import ConnectionParameters
from fastmon_daemon.engine.concurrency_limits import monitor_connections
from fastmon_daemon.monitor import MonitorClient
from fastmon_daemon.outbox import Outbox
from fastmon_daemon.settings import Settings


def instance_of(outbox: Outbox) -> str:
    """A name that is made once and kept in the database, so that a restart is the same agent."""
    instance = outbox.recall("instance")
    if instance is None:
        instance = uuid4().hex[:8]
        outbox.remember("instance", instance)
    return instance


def user_name(values: Mapping[str, str]) -> str:
    """The name of the user whose process this is."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a service user without a name
        return values.get("USER", "daemon")


def secret_reader(values: Mapping[str, str], name: str, known: str, secrets: SecretRedactor) -> Callable[[], str]:
    """A function that gives the secret *name*, read anew from its file where `NAME_FILE` names one.

    What it reads joins *secrets* before anybody has it.
    """
    path = values.get(f"{name}_FILE")
    return _SecretFile(f"{name}_FILE={path}", Path(path).expanduser(), known, secrets) if path else lambda: known


class _SecretFile:
    """While its file cannot be read, or is being written, a secret stays what it was; that is said once."""

    def __init__(self, where: str, path: Path, known: str, secrets: SecretRedactor) -> None:
        self._where = where
        self._path = path
        self._known = known
        self._secrets = secrets
        self._problem = ""

    def __call__(self) -> str:
        """The secret as it is now."""
        secret, problem = "", "the file is empty"
        try:
            secret = self._path.read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as exc:
            problem = getattr(exc, "strerror", None) or "the file is no text"
        if secret:
            self._secrets.add(secret)
            self._known, self._problem = secret, ""
        elif problem != self._problem:
            self._problem = problem
            logger.error("{}: {}: the secret that was read last is used", self._where, problem)
        return self._known


def monitor_client(settings: Settings, values: Mapping[str, str], secrets: SecretRedactor) -> MonitorClient:
    """The monitor that the settings name, with our token."""
    return MonitorClient(
        settings.monitor_url,
        secret_reader(values, "SWF_API_TOKEN", settings.monitor_token, secrets),
        connections=monitor_connections(settings.workers),
        ca=settings.monitor_ca,
        environ=values,
    )


def broker_parameters(
    settings: Settings, values: Mapping[str, str], secrets: SecretRedactor, instance: str, *, subscribe: bool
) -> ConnectionParameters:
    """How we log in at the broker; without *subscribe* only to announce."""
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
