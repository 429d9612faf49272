"""The agent's identity: one name, kept in the database across restarts, and its registration at the monitor."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from fastmon_daemon.monitor import AgentClient
from fastmon_daemon.monitor.directory import AGENT_TYPE
from fastmon_daemon.outbox import Outbox

_KEY = "agent_name"
_NAME_MAX = 100


class AgentName:
    """The agent's name: *given*, else the one that is stored, else a new one.

    A name with a number of the monitor is stored at once. One that is made of *instance*, because the monitor gave no
    number, is stored when something was told under it: then a change would make a second stage of each STF, and half of
    the announcements would carry the old name. Until then each start asks the monitor again.
    """

    def __init__(self, outbox: Outbox, given: str | None, user: str, instance: str) -> None:
        self._outbox = outbox
        self._user = user
        self._instance = instance
        known = given or outbox.recall(_KEY)
        self._is_settled = known is not None
        self._text = known or self._made_of(instance)

    def __str__(self) -> str:
        return self._text

    @property
    def is_settled(self) -> bool:
        """Whether the name stays: it is given or stored."""
        return self._is_settled

    def use_number(self, number: int) -> None:
        """Take a name with the monitor's *number*, and store it."""
        self._text = self._made_of(str(number))
        self.settle()

    def settle(self) -> None:
        """Store the name, unless it is settled. Raises: StorageUnavailable."""
        if self._is_settled:
            return
        with self._outbox.transaction():
            self._outbox.remember(_KEY, self._text)
        self._is_settled = True

    def _made_of(self, number: str) -> str:
        longest = _NAME_MAX - len(f"{AGENT_TYPE}-agent--{number}")
        user = re.sub(r"[^\w.-]", "_", self._user, flags=re.ASCII)[:longest]
        return f"{AGENT_TYPE}-agent-{user}-{number}"


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
