"""Who we are to the other agents: one name, kept in the database, so that a restart is the same agent.

It must not know what is told under that name.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from loguru import logger

from fastmon_daemon.base.errors import FastmonError
from fastmon_daemon.monitor import AgentClient
from fastmon_daemon.outbox import Outbox

AGENT_TYPE = "fastmon"
"""What the monitor calls an agent of our kind; lower case, or it refuses stages."""

_KEY = "agent_name"
_LONGEST = 100


def agent_name(outbox: Outbox, given: str | None, user: str, instance: str, next_number: Callable[[], int]) -> str:
    """The agent's name: the one *given*, else the one kept, else one made of a number that the monitor gives.

    Where there is no monitor at the very first start, the name is made of *instance* and kept for good: one that
    changed later would make a second stage of each STF, and stand in half of the announcements.
    """
    if given:
        return given
    kept = outbox.recall(_KEY)
    if kept:
        return kept
    try:
        number = str(next_number())
    except FastmonError as exc:
        number = instance
        logger.warning("the monitor gives no agent number, so the name is made of the instance, for good: {}", exc)
    user = re.sub(r"[^\w.-]", "_", user, flags=re.ASCII)[: _LONGEST - len(f"{AGENT_TYPE}-agent--{number}")]
    name = f"{AGENT_TYPE}-agent-{user}-{number}"
    with outbox.transaction():
        outbox.remember(_KEY, name)
    return name


class Registration:
    """What is told once: our namespace, and that we subscribe."""

    def __init__(self, agent_client: AgentClient, name: str, namespace: str, owner: str, destination: str) -> None:
        self.owed: dict[str, Callable[[], None]] = {
            "namespace": lambda: agent_client.ensure_namespace(namespace, owner)
        }
        """Its name and its call."""
        if destination:
            subscriber = {
                "subscriber_name": f"{name}-{destination}"[:255],
                "description": f"{AGENT_TYPE} agent subscribing to {destination}",
                "is_active": True,
                "fraction": 1.0,  # of the messages: the selection of STFs is ours
            }
            self.owed["subscriber"] = lambda: agent_client.subscribe(subscriber)
