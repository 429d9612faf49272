"""Heart-beats: every minute, and at once when something changes; every field each time, for what is left out is reset.

It must not know how we are, only how to say it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

from fastmon_daemon import __version__
from fastmon_daemon.base.errors import FastmonError
from fastmon_daemon.monitor import AgentClient
from fastmon_daemon.presence.health import Health, HealthChecker, HealthStatus, StfCounts
from fastmon_daemon.presence.identity import AGENT_TYPE, Registration
from fastmon_daemon.presence.periodic_worker import BestEffortCall

EVERY_S = 60.0
"""Between two heart-beats without news, in seconds; after 180 the monitor declares an agent gone."""
LOOK_S = 1.0
READY_AFTER_S = 5.0
"""Without work for so long we are READY again: STFs that come one by one are not worth two heart-beats each."""
EXITED = "EXITED"
_DESCRIPTION_MAX = 500


class Heartbeat:
    """The heart-beats of one agent, and what is told beside them: the registration, the counts of the agent's row."""

    def __init__(
        self,
        agent_client: AgentClient,
        name: str,
        namespace: str,
        health_checker: HealthChecker,
        registration: Registration,
    ) -> None:
        self._client = agent_client
        self._name = name
        self._namespace = namespace
        self._health_checker = health_checker
        self._owed = dict(registration.owed)
        """What was not told yet."""
        self._monotonic = health_checker.clock.monotonic
        self._courtesies = {what: BestEffortCall(what, self._monotonic) for what in ("counts", *registration.owed)}
        self._courtesies["heart-beat"] = BestEffortCall("heart-beat", self._monotonic, patience_s=EVERY_S)
        self._told: tuple[object, ...] = ()
        self._counted: StfCounts | None = None
        self._beat_at = self._monotonic()
        self._busy_at: float | None = None
        self._begun = False

    def tick(self) -> float:
        """Look, and beat where it is time."""
        health = self._health_checker.health()
        state = self._operational(health)
        event = (health.level, health.problems, health.connected, state)
        beat_due = event != self._told or self._monotonic() - self._beat_at >= EVERY_S
        if beat_due and self._beat(health, health.level, state):
            self._told, self._beat_at = event, self._monotonic()
        for what, tell in list(self._owed.items()) if self._told else []:
            if self._attempt(what, tell):
                del self._owed[what]
        return LOOK_S

    def on_stop(self) -> None:
        """The last one."""
        self._beat(self._health_checker.health(), EXITED, EXITED)

    def _operational(self, health: Health) -> str:
        """STARTING until the broker was reached, PROCESSING while there is work, else READY."""
        now = self._monotonic()
        self._begun = self._begun or not health.disconnected
        if health.busy:
            self._busy_at = now
        if not self._begun:
            return "STARTING"
        return "PROCESSING" if self._busy_at is not None and now - self._busy_at < READY_AFTER_S else "READY"

    def _beat(self, health: Health, status: str, state: str) -> bool:
        if self._courtesies["heart-beat"].pause_s:
            return False
        counts = self._health_checker.counts()
        key = 0

        def beat() -> None:
            nonlocal key
            key = self._client.heartbeat(self._row(health, status, state, counts))

        if not self._attempt("heart-beat", beat):
            return False
        if counts != self._counted and self._attempt("counts", lambda: self._count(key, counts)):
            self._counted = counts
        return True

    def _count(self, key: int, counts: StfCounts) -> None:
        fields = {
            "workflow_enabled": True,
            "current_stf_count": counts.active,
            "total_stf_processed": counts.completed,
            "last_stf_processed": counts.last_completed,
        }
        self._client.update_agent(key, fields)

    def _attempt(self, what: str, call: Callable[[], object]) -> bool:
        courtesy = self._courtesies[what]
        if courtesy.pause_s:
            return False
        try:
            call()
        except FastmonError as exc:
            courtesy.failed(exc)
            return False
        courtesy.succeeded()
        return True

    def _row(self, health: Health, status: str, state: str, counts: StfCounts) -> dict[str, object]:
        connected = "connected" if health.connected else "disconnected" if health.disconnected else "not used"
        words = [
            f"Fast monitoring agent {__version__}. MQ: {connected}.",
            f"{counts.active} STFs active, {counts.completed} completed, {counts.failed} failed.",
            f"{health.why}." if health.level is not HealthStatus.OK else "",
        ]
        return {
            "instance_name": self._name,
            "agent_type": AGENT_TYPE,
            "description": " ".join(filter(None, words))[:_DESCRIPTION_MAX],
            "status": status,
            "agent_url": None,
            "namespace": self._namespace,
            "pid": os.getpid(),
            "hostname": socket.gethostname()[:100],
            "operational_state": state,
            "workflow_enabled": True,
            "mq_connected": health.connected,
        }
