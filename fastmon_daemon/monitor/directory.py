"""What `check` reads from a monitor besides the calls of the daemon; read-only.

Every call with a client raises LinkDown, LinkBlocked or PermanentError. This module must not know what is concluded
from the responses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from fastmon_daemon.base.clock import parse_timestamp
from fastmon_daemon.base.errors import LinkDown
from fastmon_daemon.base.network import resolve
from fastmon_daemon.monitor.client import MonitorClient
from fastmon_daemon.monitor.responses import TF_FILES
from fastmon_daemon.monitor.rows import rows_of
from fastmon_daemon.monitor.transport import proxies

LOOKUP_TIMEOUT_S = 10.0
"""Seconds after which a lookup of the monitor's host counts as failed."""
_UNUSED_NAME = "fastmon-check-of-a-name-that-nobody-uses"


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """An agent as the monitor lists it."""

    name: str
    kind: str
    namespace: str | None
    status: str
    host: str | None
    beat_at: datetime | None


def describe_address(monitor: MonitorClient, base_url: str, environ: Mapping[str, str]) -> str:
    """A text that names the addresses of the monitor's host and, with TLS, the CA certificates that are trusted.

    Raises: LinkDown if the name cannot be resolved.
    """
    trusted = f"; trusted certificates: {monitor.trust}" if urlsplit(base_url).scheme == "https" else ""
    return f"{_addresses(base_url, environ)}{trusted}"


def _addresses(base_url: str, environ: Mapping[str, str]) -> str:
    parts = urlsplit(base_url)
    if proxies(base_url, environ):
        return f"{parts.hostname}, through the proxy of the environment"
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        found = resolve(parts.hostname or "", port, LOOKUP_TIMEOUT_S)
    except OSError as exc:
        raise LinkDown(f"{parts.hostname}: {exc.strerror or exc}") from exc
    return f"{parts.hostname} is {', '.join(dict.fromkeys(str(address[0]) for _, address in found))}, port {port}"


def current_date(monitor: MonitorClient) -> datetime | None:
    """The monitor's clock, to the second; None if its responses have no `Date`."""
    monitor.get(TF_FILES, {"limit": "1", "tf_filename": _UNUSED_NAME}, lambda _: None)
    return monitor.response_clock.date()


def list_agents(monitor: MonitorClient) -> list[Agent]:
    """All agents that ever sent a heart-beat."""
    return monitor.get("systemagents/", {}, lambda answer: [_agent(row) for row in rows_of(answer)])


def _agent(row: Mapping[str, Any]) -> Agent:
    return Agent(
        name=str(row["instance_name"]),
        kind=str(row.get("agent_type")),
        namespace=row.get("namespace"),
        status=str(row.get("status")),
        host=row.get("hostname"),
        beat_at=parse_timestamp(row["last_heartbeat"]) if row.get("last_heartbeat") else None,
    )
