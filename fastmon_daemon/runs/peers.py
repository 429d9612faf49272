"""The other daemons that share our work: what each says of itself, and whose an STF is that we did not receive.

Nothing coordinates the daemons: each reads what the others tell the monitor, in their heart-beats and in the metadata
of TF files. Thread-safe; only `PeerDirectory.current` uses the network.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from fastmon_daemon.base.clock import Clock, format_timestamp
from fastmon_daemon.base.errors import LinkBlocked, LinkDown, PermanentError, TransientError
from fastmon_daemon.monitor import TfFile
from fastmon_daemon.monitor.directory import Agent, Statement

GONE_AFTER = timedelta(minutes=3)
"""A daemon without a heart-beat for this time is gone for good: others finish its work. The monitor's rule, too."""
SILENT_AFTER = timedelta(seconds=40)
"""A daemon without a heart-beat for this time does not reconcile now: it sends four a minute."""
_FRESH_S = 10.0
"""Seconds for which a list of the agents is used."""
_JOINED_S = 2.0
"""The same, if another daemon may have joined."""
_NEVER = datetime.min.replace(tzinfo=UTC)


class Ownership(StrEnum):
    """Whose an STF is that the monitor lists and that we did not receive."""

    OURS = "ours"
    """Nobody else's."""
    WORKING = "working"
    """Another daemon has it, or may have it."""
    FINISHED = "finished"
    """Another daemon has registered and announced its TF files."""
    ABANDONED = "abandoned"
    """Another daemon has begun it, cannot be shown to have announced it, and is gone for good."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Another daemon has an STF, or may have it: no lookup can say more before *settled_at* (see `Peers.is_done`)."""

    agent: str
    """Empty: any daemon that shares the queue."""
    settled_at: str
    """ISO 8601: once the daemon has finished what it received until then, it has finished this STF, or does not have
    it."""
    is_whole: bool = False
    """All of its TF files are registered."""

    @property
    def names_stf(self) -> bool:
        """Whether some daemon has begun it, and not only may have received it."""
        return bool(self.agent) or self.is_whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Peers:
    """The agents of our namespace but ourselves, at one moment."""

    agents: Mapping[str, Agent] = field(default_factory=dict)
    at: datetime = _NEVER
    destination: str = ""
    """The queue that we share; empty without one."""
    strangers: tuple[str, ...] = ()
    """The daemons of other namespaces on our queue: each would take the others' messages."""

    def is_gone(self, agent: Agent) -> bool:
        """Whether it has sent no heart-beat for `GONE_AFTER`."""
        return self.at - (agent.beat_at or _NEVER) >= GONE_AFTER

    @property
    def sharing(self) -> list[Agent]:
        """The daemons that share our queue and are not gone."""
        return [
            agent
            for agent in self.agents.values()
            if self.destination and agent.statement is not None
            and agent.statement.destination == self.destination and not self.is_gone(agent)
        ]  # fmt: skip

    @property
    def may_have_more(self) -> list[Agent]:
        """The daemons that may have received what we did not: also one that starts, and is not subscribed yet."""
        return [
            agent
            for agent in self.agents.values()
            if self.destination and agent.statement is not None
            and agent.statement.destination in ("", self.destination) and not self.is_gone(agent)
        ]  # fmt: skip

    def reconcilers(self, own: str, reconcile: str) -> list[str]:
        """The daemons of the queue that process missed STFs; *reconcile* is our own FASTMON_RECONCILE.

        Those that are told to; else one of those that may.
        """
        modes = {
            agent.name: agent.statement.reconcile
            for agent in self.sharing
            if agent.statement and agent.status != "EXITED" and self.at - (agent.beat_at or _NEVER) < SILENT_AFTER
        } | {own: reconcile}
        told = sorted(name for name, mode in modes.items() if mode == "on")
        return told or sorted(name for name, mode in modes.items() if mode == "auto")[:1]

    def is_done(self, claim: Claim) -> bool:
        """Whether the daemon of *claim*, or every one that may have the STF, has finished what it had until then."""
        named = self.agents.get(claim.agent)
        asked = [named] if named else self.may_have_more
        return all(agent.statement is None or agent.statement.done_before > claim.settled_at for agent in asked)

    def holds(self, claim: Claim) -> bool:
        """Whether *claim* still holds: its daemon lives, and has work of that time."""
        named = self.agents.get(claim.agent)
        return not (self.is_done(claim) or (named is not None and self.is_gone(named)))

    def judge(
        self, tfs: Iterable[TfFile], own: str, claim: Claim | None, now: datetime
    ) -> tuple[Ownership, Claim | None]:
        """Whose an STF with the TF files *tfs* is, by our agent name *own*; *claim* is what was known before."""
        rows = list(tfs)
        others = {agent.name: agent for tf in rows if (agent := self._owner(tf, own)) is not None}
        if not others:
            if rows or not self.may_have_more:
                return Ownership.OURS, None
            claim = claim or Claim("", format_timestamp(now + _CLOCKS_DIFFER))
            return (Ownership.OURS, None) if self.is_done(claim) else (Ownership.WORKING, claim)
        agent = max(others.values(), key=lambda each: each.beat_at or _NEVER)
        return self._judge_agent(agent, rows)

    def _owner(self, tf: TfFile, own: str) -> Agent | None:
        name = str((tf.metadata or {}).get("agent_name") or "")
        return self.agents.get(name) if name != own else None

    def _judge_agent(self, agent: Agent, rows: list[TfFile]) -> tuple[Ownership, Claim | None]:
        facts = [tf.metadata or {} for tf in rows if (tf.metadata or {}).get("agent_name") == agent.name]
        expected = max((number for each in facts if isinstance(number := each.get("tf_files_per_stf"), int)), default=1)
        received = max((str(at) for each in facts if (at := each.get("received_at"))), default="")
        claim = Claim(agent.name, received, is_whole=len(rows) >= expected)
        if agent.statement is None:  # an older version: it says nothing
            return (Ownership.OURS if self.is_gone(agent) else Ownership.FINISHED), claim
        if claim.is_whole and self.is_done(claim):
            return Ownership.FINISHED, claim
        return (Ownership.ABANDONED if self.is_gone(agent) else Ownership.WORKING), claim


_CLOCKS_DIFFER = timedelta(seconds=5)
"""How far the clocks of two daemons may differ."""


class PeerDirectory:
    """The agents of the monitor, read again when they are needed."""

    def __init__(
        self,
        read: Callable[[], tuple[list[Agent], datetime | None]],
        own: str,
        namespace: str,
        *,
        destination: str = "",
        reconcile: str = "on",
        clock: Clock | None = None,
    ) -> None:
        """*read* returns the agents and the time of the monitor; it may raise what calls of the monitor raise.

        *destination* is the queue that this daemon shares, if any, and *reconcile* its FASTMON_RECONCILE.
        """
        self._read = read
        self._own = own
        self._namespace = namespace
        self._reconcile = reconcile
        self._clock = clock or Clock()
        self._lock = threading.Lock()
        self._read_at: float | None = None
        self.latest = Peers(destination=destination)
        """As last read."""
        self._is_subscribed = False

    @property
    def shares(self) -> bool:
        """Whether this daemon shares a queue with others."""
        return bool(self.latest.destination)

    def statement(self, done_before: str) -> Statement:
        """What we tell the others; before we are subscribed, we take no message from them."""
        destination = self.latest.destination if self._is_subscribed else ""
        return Statement(done_before, self._reconcile, destination)

    def may_subscribe(self) -> None:
        """Return if we may consume from the queue. Raises: LinkBlocked if daemons of another namespace do."""
        if not self.shares:
            return
        self._is_subscribed = False
        with suppress(TransientError):  # without the monitor nobody can tell, and nothing is processed
            self.current()
        if self.latest.strangers:
            raise LinkBlocked(self._strangers())
        self._is_subscribed = True

    def recovers(self) -> bool:
        """Whether we process missed STFs now."""
        if not self.shares or self._reconcile != "auto":
            return self._reconcile != "off"
        return self._read_at is not None and self.reconcilers == [self._own]

    @property
    def reconcilers(self) -> list[str]:
        """The daemons of the queue that process missed STFs, as far as we know."""
        return self.latest.reconcilers(self._own, self._reconcile)

    def fault(self) -> str:
        """What is wrong with the daemons of our queue, for an operator; empty if nothing is. For any thread."""
        if not self.shares or self._read_at is None:
            return ""
        if self.latest.strangers:
            return self._strangers()
        found = self.reconcilers
        if len(found) == 1:
            return ""
        queue = self.latest.destination
        return (
            f"{len(found)} daemons of {queue} reconcile: {', '.join(found)}"
            if found
            else (f"no daemon of {queue} that runs reconciles: missed STFs are not processed")
        )

    def _strangers(self) -> str:
        names = ", ".join(self.latest.strangers)
        return (
            f"daemons of other namespaces take messages from {self.latest.destination}: {names}: give each namespace a "
            "queue of its own (FASTMON_SUBSCRIBE)"
        )

    def refresh(self) -> None:
        """Read the agents again, if that was some time ago; what was read last counts until the next time."""
        with suppress(TransientError):
            self.current()

    def naming(self, tfs: Iterable[TfFile]) -> Peers:
        """The agents now, if *tfs* name others or we share a queue. Raises: TransientError if they cannot be read.

        An agent that is not in the list that was read last may have joined since.
        """
        named = {str(name) for tf in tfs if (name := (tf.metadata or {}).get("agent_name"))} - {self._own}
        if not named and not self.shares:
            return self.latest
        return self.current(_FRESH_S if named and named <= self.latest.agents.keys() else _JOINED_S)

    def current(self, max_age_s: float = _FRESH_S) -> Peers:
        """The agents, as they were *max_age_s* ago at most. Raises: TransientError if they cannot be read."""
        with self._lock:
            if self._read_at is None or self._clock.monotonic() - self._read_at >= max_age_s:
                try:
                    agents, at = self._read()
                except PermanentError:
                    agents, at = [], None  # this monitor does not list its agents
                except LinkDown as exc:  # this optional call must not trip the circuit breaker
                    raise TransientError(str(exc)) from exc
                self.latest = self._peers([agent for agent in agents if agent.name != self._own], at)
                self._read_at = self._clock.monotonic()
            return self.latest

    def _peers(self, agents: list[Agent], at: datetime | None) -> Peers:
        def is_here(agent: Agent) -> bool:
            return agent.namespace in (None, "", self._namespace)

        destination = self.latest.destination
        found = Peers(
            agents={agent.name: agent for agent in agents}, at=at or self._clock.now(), destination=destination
        )
        strangers = tuple(f"{agent.name} ({agent.namespace})" for agent in found.sharing
                          if not is_here(agent) and agent.status != "EXITED")  # fmt: skip
        return replace(found, agents={agent.name: agent for agent in agents if is_here(agent)}, strangers=strangers)
