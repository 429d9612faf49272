"""The agents that the monitor lists, what a daemon says of itself there, and what else `check` reads; read-only.

Every call with a client raises LinkDown, LinkBlocked or PermanentError. This module must not know what is concluded
from the responses.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from fastmon_daemon.base.errors import LinkDown
from fastmon_daemon.base.network import resolve
from fastmon_daemon.monitor.client import MonitorClient
from fastmon_daemon.monitor.responses import TF_FILES
from fastmon_daemon.monitor.rows import description_in, text_in, time_in
from fastmon_daemon.monitor.transport import proxies

LOOKUP_TIMEOUT_S = 10.0
"""Seconds after which a lookup of the monitor's host counts as failed."""
_MOST_AGENTS = 10_000
_UNUSED_NAME = "fastmon-check-of-a-name-that-nobody-uses"


AGENT_TYPE = "fastmon"
"""Our agent type at the monitor; it rejects stages unless this is lower case."""


@dataclass(frozen=True, slots=True)
class Statement:
    """What a daemon tells the others in the description of its heart-beats."""

    done_before: str
    """ISO 8601, UTC, by its clock: it has finished every STF that it received before."""
    reconcile: str
    """Its FASTMON_RECONCILE."""
    destination: str
    """What it is subscribed to; empty without a subscription."""

    def __str__(self) -> str:
        heard = f" Subscribed to {self.destination}." if self.destination else ""
        return f"STFs received before {self.done_before} are done. Reconciles: {self.reconcile}.{heard}"

    @classmethod
    def parse(cls, description: str) -> Statement | None:
        """The statement in a description; None if there is none."""
        found = _STATEMENT.search(description)
        return cls(done_before=found[1], reconcile=found[2], destination=found[3] or "") if found else None


_STATEMENT = re.compile(r"STFs received before (\S+) are done\. Reconciles: (\w+)\.(?: Subscribed to (\S+)\.(?=\s|$))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """An agent as the monitor lists it."""

    name: str
    kind: str
    namespace: str | None
    status: str
    host: str | None
    beat_at: datetime | None
    statement: Statement | None = None

    @property
    def is_daemon(self) -> bool:
        """Whether it is a fast monitoring agent, of whichever version."""
        return self.kind.lower() == AGENT_TYPE


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
    monitor.get_rows(TF_FILES, {"limit": "1", "tf_filename": _UNUSED_NAME}, lambda _: None, most=1)
    return monitor.response_clock.date()


def list_agents(monitor: MonitorClient) -> list[Agent]:
    """All agents that ever sent a heart-beat."""
    agents: list[Agent] = []
    monitor.get_rows("systemagents/", {}, lambda row: agents.append(_agent(row)), most=_MOST_AGENTS)
    return agents


def _agent(row: Any) -> Agent:
    return Agent(
        name=text_in(row, "instance_name") or "",
        kind=text_in(row, "agent_type") or "",
        namespace=text_in(row, "namespace"),
        status=text_in(row, "status") or "",
        host=text_in(row, "hostname"),
        beat_at=time_in(row, "last_heartbeat"),
        statement=Statement.parse(description_in(row)),
    )
