"""The agent's identity: one name, kept in the database across restarts, and its registration at the monitor."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from loguru import logger

from fastmon_daemon.base.errors import FastmonError
from fastmon_daemon.monitor import AgentClient
from fastmon_daemon.outbox import Outbox

AGENT_TYPE = "fastmon"
"""Our agent type at the monitor; it rejects stages unless this is lower case."""

_KEY = "agent_name"
_NAME_MAX = 100


def agent_name(outbox: Outbox, given: str | None, user: str, instance: str, next_number: Callable[[], int]) -> str:
    """Return the agent name: *given*, else the stored one, else a new one with the monitor's *next_number*.

    If the monitor does not answer at the very first start, the name is made of *instance* and stays: a later change
    would make a second stage of each STF, and half of the announcements would carry the old name.
    """
    if name := given or outbox.recall(_KEY):
        return name
    try:
        number = str(next_number())
    except FastmonError as exc:
        number = instance
        logger.warning("agent name: the monitor assigned no number, using instance {} permanently: {}", number, exc)
    user = re.sub(r"[^\w.-]", "_", user, flags=re.ASCII)[: _NAME_MAX - len(f"{AGENT_TYPE}-agent--{number}")]
    name = f"{AGENT_TYPE}-agent-{user}-{number}"
    with outbox.transaction():
        outbox.remember(_KEY, name)
    return name


def registration_calls(
    client: AgentClient, name: str, namespace: str, owner: str, destination: str
) -> dict[str, Callable[[], Any]]:
    """Return the calls to make once, by name: ensure *namespace*, and subscribe to *destination* if any."""
    calls: dict[str, Callable[[], Any]] = {"namespace": lambda: client.ensure_namespace(namespace, owner)}
    if destination:
        subscriber = {
            "subscriber_name": f"{name}-{destination}"[:255],
            "description": f"{AGENT_TYPE} agent subscribing to {destination}",
            "is_active": True,
            "fraction": 1.0,  # of the messages; STFs are selected by us
        }
        calls["subscriber"] = lambda: client.subscribe(subscriber)
    return calls
