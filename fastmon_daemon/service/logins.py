"""Who we are at the monitor and the broker: names, secrets and logins, out of the settings.

Secrets that come from files are read again whenever they are asked for. It must not know what is done with them.
"""

from __future__ import annotations

import getpass
from collections.abc import Callable, Mapping
from pathlib import Path
from uuid import uuid4

from loguru import logger

from fastmon_daemon.broker import BrokerLogin
from fastmon_daemon.errands import AT_ONCE
from fastmon_daemon.logs import Secrets
from fastmon_daemon.monitor import Monitor
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


def secret_reader(values: Mapping[str, str], name: str, known: str, secrets: Secrets) -> Callable[[], str]:
    """A function that gives the secret *name*, read anew from its file where `NAME_FILE` names one.

    What it reads joins *secrets* before anybody has it.
    """
    path = values.get(f"{name}_FILE")
    if not path:
        return lambda: known

    def read() -> str:
        try:
            secret = Path(path).expanduser().read_text(encoding="utf-8").strip()
        except OSError as exc:
            logger.error("{}_FILE={}: {}: the secret read at the start is used", name, path, exc.strerror)
            return known
        secrets.add(secret)
        return secret

    return read


def monitor_of(settings: Settings, values: Mapping[str, str], secrets: Secrets) -> Monitor:
    """The monitor that the settings name, with our token."""
    return Monitor(
        settings.monitor_url,
        secret_reader(values, "SWF_API_TOKEN", settings.monitor_token, secrets),
        connections=settings.workers + AT_ONCE,
        ca=settings.monitor_ca,
        environ=values,
    )


def broker_login(
    settings: Settings, values: Mapping[str, str], secrets: Secrets, instance: str, *, subscribe: bool
) -> BrokerLogin:
    """How we log in at the broker; without *subscribe* only to announce."""
    password = "MQ_PASSWD" if "MQ_PASSWD_FILE" in values else "ACTIVEMQ_PASSWORD"
    return BrokerLogin(
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
