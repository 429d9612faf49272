"""Which messages are shown. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from fastmon_client.runs import STATE_AFTER
from fastmon_client.tffile import run_of

_RUN_EVENTS = tuple(STATE_AFTER)  # no dict: a message may have an unhashable msg_type
_ALWAYS_SUBSCRIBED = (*_RUN_EVENTS, "fastmon_status", "fastmon_run_summary")


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageFilter:
    """The operator's choice; empty or None: no restriction."""

    types: tuple[str, ...]
    """Run events are shown in addition to these."""
    agents: tuple[str, ...] = ()
    """Patterns of `processed_by`. Run events come from no agent and always match."""
    run_ids: tuple[str, ...] = ()
    """As by `run_name`."""
    namespace: str | None = None

    @property
    def subscribed_types(self) -> tuple[str, ...]:
        """The types to request from the server: more than are shown, to learn the end of a run."""
        return tuple(dict.fromkeys((*self.types, *_ALWAYS_SUBSCRIBED)))

    def matches(self, message: Mapping[str, Any]) -> bool:
        """Whether to show *message*."""
        kind, agent = message.get("msg_type"), str(message.get("processed_by"))
        return (
            (kind in self.types or kind in _RUN_EVENTS)
            and (not self.run_ids or run_of(message) in self.run_ids)
            and (self.namespace is None or message.get("namespace") == self.namespace)
            and (not self.agents or kind in _RUN_EVENTS or any(fnmatchcase(agent, pattern) for pattern in self.agents))
        )

    def matches_run(self, run: str, namespace: str | None) -> bool:
        """Whether to show the row of *run*; with a namespace filter, a run of unknown namespace does not match."""
        return (not self.run_ids or run in self.run_ids) and (self.namespace is None or self.namespace == namespace)
