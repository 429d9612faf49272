"""The agents that report to the monitor: which daemons live, which are silent. Pure.

An agent is judged at the time of the last answer of the monitor: while the table cannot be read, nothing is known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from fastmon_client.intervals import Intervals
from fastmon_client.snapshot import AgentRow, TileState
from fastmon_client.tffile import MAX_TEXT, parse_timestamp

OUTDATED_AFTER = timedelta(seconds=60)
"""An older answer of the monitor says nothing about now."""
NAMED_BESIDE_A_LIVE_ONE = timedelta(minutes=10)
"""A silent daemon is named for this time if another one of its namespace lives."""
MAX_AGENTS = 1000
MAX_SHOWN = 20
"""Daemons that matter at a time, those of the monitor's table first: whoever may publish can invent others."""

DAEMON = "fastmon"
DATA_AGENTS = ("data",)
DAQ_AGENTS = ("daqsim", "daq", "daq_simulator")
_EXITED = "EXITED"
HEALTHY = ("started", "ok", "running", "recovered")
STOPPED = ("stopped", "stopping")
"""States in a `fastmon_status`; a daemon in any other one is degraded."""
_STATES: dict[str, TileState] = {"OK": "good", "WARNING": "warning", "ERROR": "bad"}


@dataclass(slots=True)
class Agent:
    """One agent, by its last heart-beat and its later messages. Times are those of this host's clock."""

    name: str
    kind: str
    """The type in lower case: `fastmon`, `data`, `daqsim`."""
    namespace: str | None
    host: str | None
    status: str
    heartbeat_at: datetime
    line: str
    """Its verdict on itself, in one line."""
    backlog: int | None
    """Unfinished STFs."""
    completed: int | None
    """Completed STFs."""
    sign_at: datetime
    """Last heart-beat or message."""
    was_alive: bool = False
    """Whether it was alive while this client watched."""
    is_listed: bool = True
    """Whether it is in the monitor's table; else only a message named it."""

    @property
    def has_exited(self) -> bool:
        """Whether it said that it stops, or the monitor gave it up."""
        return self.status == _EXITED

    @property
    def where(self) -> str:
        """Its name and host."""
        return f"{self.name} on {self.host}" if self.host else self.name


class Agents:
    """All agents of the monitor's table."""

    def __init__(self, intervals: Intervals) -> None:
        self.read_at: datetime | None = None
        """Time of the last answer."""
        self.failure = ""
        """Why the monitor has no such table."""
        self._silent_after = timedelta(seconds=intervals.silent_after_s)
        self._agents: dict[str, Agent] = {}
        self._signs: dict[str, datetime] = {}
        """Time of the last announcement by each agent, the newest last."""

    def record_rows(self, rows: Iterable[Mapping[str, Any]], monitor_at: datetime | None, at: datetime) -> None:
        """Record the table; *monitor_at* is the monitor's clock at the time *at* of ours."""
        behind = at - monitor_at if monitor_at else timedelta()
        if abs(behind) < timedelta(seconds=2):  # the resolution of the header Date
            behind = timedelta()
        found: dict[str, Agent] = {}
        for row in rows:
            name, heartbeat_at = row.get("instance_name"), parse_timestamp(row.get("last_heartbeat"))
            if isinstance(name, str) and heartbeat_at and len(found) < MAX_AGENTS:
                found[name] = self._agent(name, row, heartbeat_at + behind, at)
        self._agents, self.read_at = found, at

    def record_sign(self, name: object, at: datetime) -> None:
        """Record an announcement by agent *name*."""
        if isinstance(name, str):
            self._signs.pop(name, None)
            self._signs[name] = at
            if len(self._signs) > MAX_AGENTS:
                del self._signs[next(iter(self._signs))]

    def record_status(self, message: Mapping[str, Any], at: datetime) -> None:
        """Record a `fastmon_status`: it is known before the next heart-beat."""
        name, status = message.get("processed_by") or message.get("sender"), str(message.get("status"))
        if not isinstance(name, str):
            return
        agent = self._agents.get(name)
        if agent is None:
            if len(self._agents) >= MAX_AGENTS:
                return
            namespace = message.get("namespace")
            agent = Agent(
                name, DAEMON, namespace if isinstance(namespace, str) else None, None, "OK", at, "", None, None, at
            )
            agent.is_listed = False
            self._agents[name] = agent
        agent.status = _EXITED if status in STOPPED else "OK" if status in HEALTHY else "WARNING"
        agent.line = str(message.get("message") or status)[:MAX_TEXT]
        agent.sign_at, agent.was_alive = at, True

    def is_listed(self, name: str) -> bool:
        """Whether the monitor's table has the agent *name*."""
        return name in self._agents and self._agents[name].is_listed

    def daemons(self, namespaces: frozenset[str] | None) -> list[Agent]:
        """The daemons of *namespaces* that matter now: the live ones, and of each namespace without one the last.

        None: of all namespaces with a live daemon, else the last of all. At most `MAX_SHOWN`.
        """
        found = self._daemons(namespaces)
        if len(found) <= MAX_SHOWN:
            return found
        numbers = {name: number for number, name in enumerate(self._agents)}  # those of the table come first
        return sorted(found, key=lambda agent: numbers[agent.name])[:MAX_SHOWN]

    def _daemons(self, namespaces: frozenset[str] | None) -> list[Agent]:
        ours = [agent for agent in self._agents.values() if agent.kind == DAEMON]
        if namespaces is not None:
            return [each for name in sorted(namespaces) for each in self._of_namespace(ours, name)]
        live = {agent.namespace for agent in ours if self.is_alive(agent)}
        if live:
            return [each for name in sorted(live, key=str) for each in self._of_namespace(ours, name)]
        return sorted(ours, key=lambda agent: agent.sign_at)[-1:]

    def _of_namespace(self, agents: Iterable[Agent], namespace: str | None) -> list[Agent]:
        found = [agent for agent in agents if agent.namespace == namespace]
        live = [agent for agent in found if self.is_alive(agent)]
        if not live:
            return sorted(found, key=lambda agent: agent.sign_at)[-1:]
        newest = max(agent.sign_at for agent in live)
        lost = [
            agent for agent in found
            if not self.is_alive(agent) and agent.was_alive and not agent.has_exited
            and newest - agent.sign_at < NAMED_BESIDE_A_LIVE_ONE
        ]  # fmt: skip
        return [*live, *lost]

    def silent(self, kinds: tuple[str, ...], namespace: str | None) -> Agent | None:
        """The last agent of *kinds* in *namespace* if none of them lives; None also if there never was one."""
        found = [agent for agent in self._agents.values() if agent.kind in kinds and agent.namespace == namespace]
        if not found or any(map(self.is_alive, found)):
            return None
        return max(found, key=lambda agent: agent.sign_at)

    def is_alive(self, agent: Agent) -> bool:
        """Whether *agent* reported recently, at the time of the monitor's last answer."""
        return not agent.has_exited and (self.read_at or agent.sign_at) - agent.sign_at <= self._silent_after

    def is_outdated(self, at: datetime) -> bool:
        """Whether the table was not read yet, or too long ago."""
        return self.read_at is None or at - self.read_at > OUTDATED_AFTER

    def row(self, agent: Agent, at: datetime) -> AgentRow:
        """Plain data for the snapshot."""
        is_alive = self.is_alive(agent)
        if is_alive:
            state: TileState = "unknown" if self.is_outdated(at) else _STATES.get(agent.status, "warning")
            text = agent.line or "lives"
        else:
            state = "bad"
            text = "has stopped" if agent.has_exited else "is silent"
        return {
            "name": agent.name,
            "namespace": agent.namespace,
            "host": agent.host,
            "state": state,
            "status": agent.status if is_alive or agent.has_exited else "SILENT",
            "backlog": agent.backlog,
            "completed": agent.completed,
            "heartbeat_at": agent.heartbeat_at.isoformat(),
            "heartbeat_age_s": max(0.0, (at - agent.heartbeat_at).total_seconds()),
            "since": None if is_alive else agent.sign_at.isoformat(),
            "text": text,
        }

    def _agent(self, name: str, row: Mapping[str, Any], heartbeat_at: datetime, at: datetime) -> Agent:
        known = self._agents.get(name)
        exited = _EXITED in (row.get("status"), row.get("operational_state"))
        sign_at = max(heartbeat_at, self._signs.get(name, heartbeat_at))
        agent = Agent(
            name=name,
            kind=str(row.get("agent_type")).lower(),
            namespace=_text(row.get("namespace")),
            host=_text(row.get("hostname")),
            status=_EXITED if exited else str(row.get("status"))[:20],
            heartbeat_at=heartbeat_at,
            line=str(row.get("description") or "").partition(". Fast monitoring agent")[0][:MAX_TEXT],
            backlog=_count(row.get("current_stf_count")),
            completed=_count(row.get("total_stf_processed")),
            sign_at=sign_at,
        )
        if known and known.sign_at > heartbeat_at:  # a message is newer than the heart-beat
            agent.status, agent.line, agent.sign_at = known.status, known.line, max(sign_at, known.sign_at)
        if known and agent.has_exited and not known.has_exited and at - heartbeat_at > self._silent_after:
            agent.status = known.status  # given up by the monitor because of its silence: it did not say that it stops
        agent.was_alive = (known is not None and known.was_alive) or (not exited and at - sign_at <= self._silent_after)
        return agent


def _count(value: object) -> int | None:
    return value if type(value) is int and value >= 0 else None


def _text(value: object) -> str | None:
    return value[:MAX_TEXT] if isinstance(value, str) and value else None
