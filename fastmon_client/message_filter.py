"""Which messages are shown. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from fastmon_client.runs import STATE_AFTER
from fastmon_client.tffile import run_of

MIN_UNMATCHED = 3
"""TF files of agents that `--agents` excludes, before the alarm `agents_unmatched`."""
MAX_NAMED = 5

_RUN_EVENTS = tuple(STATE_AFTER)  # no dict: a message may have an unhashable msg_type
STF_GENERATED = "stf_gen"
"""The DAQ's message for each STF: tells its silence from the data agent's."""
RUN_SUMMARY = "fastmon_run_summary"
_ALWAYS_SUBSCRIBED = (*_RUN_EVENTS, STF_GENERATED, "fastmon_status", RUN_SUMMARY)


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
    def restricts(self) -> bool:
        """Whether messages of a type in `types` may be hidden."""
        return bool(self.agents or self.run_ids or self.namespace is not None)

    @property
    def subscribed_types(self) -> tuple[str, ...]:
        """The types to request from the server: more than are shown, to learn the end of a run."""
        return tuple(dict.fromkeys((*self.types, *_ALWAYS_SUBSCRIBED)))

    def matches(self, message: Mapping[str, Any]) -> bool:
        """Whether to show *message*."""
        kind = message.get("msg_type")
        return (
            (kind in self.types or kind in _RUN_EVENTS)
            and (not self.run_ids or run_of(message) in self.run_ids)
            and (self.namespace is None or message.get("namespace") == self.namespace)
            and (kind in _RUN_EVENTS or self.matches_agent(message))
        )

    def matches_agent(self, message: Mapping[str, Any]) -> bool:
        """Whether the agent of *message* is one of `agents`."""
        agent = str(message.get("processed_by"))
        return not self.agents or any(fnmatchcase(agent, pattern) for pattern in self.agents)

    def matches_run(self, run: str, namespace: str | None) -> bool:
        """Whether to show the row of *run*; with a namespace filter, a run of unknown namespace does not match."""
        return (not self.run_ids or run in self.run_ids) and (self.namespace is None or self.namespace == namespace)


class UnmatchedAgents:
    """The agents that announce TF files while `--agents` matches none of them."""

    def __init__(self, filter_: MessageFilter) -> None:
        self._filter = filter_
        self._tf_files = 0
        self._names: set[str] = set()
        self._is_matched = False

    def record(self, announcement: Mapping[str, Any]) -> None:
        """Record who announced a TF file."""
        self._is_matched = self._is_matched or self._filter.matches_agent(announcement)
        self._tf_files += 1
        if len(self._names) < MAX_NAMED:
            self._names.add(str(announcement.get("processed_by"))[:100])

    def evidence(self) -> str | None:
        """Evidence for the alarm `agents_unmatched`, or None."""
        if self._is_matched or self._tf_files < MIN_UNMATCHED:
            return None
        return (
            f"--agents {','.join(self._filter.agents)} matches none of the {self._tf_files} TF files announced: "
            f"their agents are {', '.join(sorted(self._names))}"
        )
