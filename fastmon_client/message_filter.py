"""Which messages are shown. Pure; it must not know how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from fastmon_client.runs import STATE_AFTER
from fastmon_client.tffile import run_of

RUN_TYPES = tuple(STATE_AFTER)
_ALWAYS_HEARD = (*RUN_TYPES, "fastmon_status", "fastmon_run_summary")


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageFilter:
    """What a person asked to see; empty or None: no restriction."""

    types: tuple[str, ...]
    """Besides these, the messages of a run are always shown."""
    agents: tuple[str, ...] = ()
    """Patterns of `processed_by`; the run control is no agent and passes."""
    run_ids: tuple[str, ...] = ()
    namespace: str | None = None

    @property
    def heard_types(self) -> tuple[str, ...]:
        """What the server is asked for: more than is shown, else the end of a run is never known."""
        return tuple(dict.fromkeys((*self.types, *_ALWAYS_HEARD)))

    def takes(self, message: Mapping[str, Any]) -> bool:
        """Whether *message* is shown."""
        kind, agent = message.get("msg_type"), str(message.get("processed_by"))
        return (
            (kind in self.types or kind in RUN_TYPES)
            and (not self.run_ids or run_of(message) in self.run_ids)
            and (self.namespace is None or message.get("namespace") == self.namespace)
            and (not self.agents or kind in RUN_TYPES or any(fnmatchcase(agent, pattern) for pattern in self.agents))
        )

    def shows_run(self, run: str, namespace: str | None) -> bool:
        """Whether the row of a run is shown; a run whose namespace nobody told is in none that was asked for."""
        return (not self.run_ids or run in self.run_ids) and (self.namespace is None or self.namespace == namespace)
