"""Heart-beats: four a minute, and one at each change. Each carries every field: the monitor resets those left out."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping

from fastmon_daemon import __version__
from fastmon_daemon.monitor import AgentClient
from fastmon_daemon.monitor.directory import AGENT_TYPE, Statement
from fastmon_daemon.monitor.rows import MAX_DESCRIPTION
from fastmon_daemon.presence.health import Health, HealthChecker, StfCounts
from fastmon_daemon.presence.periodic_worker import BestEffortCall

EVERY_S = 15.0
"""Seconds between two heart-beats without a change: they also show an idle daemon that its monitor is gone."""
MAX_PAUSE_S = 60.0
"""Seconds between two heart-beats that fail; the monitor declares an agent gone after 180."""
CHECK_S = 1.0
READY_AFTER_S = 5.0
"""Seconds without work until the state is READY: STFs that come one by one do not cost two heart-beats each."""
EXITED = "EXITED"


class Heartbeat:
    """Sends the heart-beats of one agent, then its registration and the STF counts of its row."""

    def __init__(
        self,
        client: AgentClient,
        name: str,
        namespace: str,
        health_checker: HealthChecker,
        registration: Mapping[str, Callable[[], object]],
        statement: Callable[[str], Statement],
    ) -> None:
        """*registration*: calls by name, each made once after the first heart-beat.

        *statement* returns what we tell other daemons, from the time before which all STFs are done.
        """
        self._client = client
        self._name = name
        self._namespace = namespace
        self._health_checker = health_checker
        self._monotonic = health_checker.clock.monotonic
        self._beat = BestEffortCall("heart-beat", self._monotonic, max_pause_s=MAX_PAUSE_S)
        self._count = BestEffortCall("counts", self._monotonic)
        self._register = [(BestEffortCall(name, self._monotonic), call) for name, call in registration.items()]
        """Calls that have not succeeded yet."""
        self._statement = statement
        self._sent: tuple[object, ...] = ()
        self._sent_counts: StfCounts | None = None
        self._sent_at = self._monotonic()
        self._busy_at: float | None = None
        self._has_started = False

    def tick(self) -> float:
        """Check the health and send a heart-beat if one is due; returns the seconds until the next tick."""
        health = self._health_checker.health()
        state = self._operational_state(health)
        content = (health.status, health.problems, health.connected, state)
        is_due = content != self._sent or self._monotonic() - self._sent_at >= EVERY_S
        if is_due and self._send(health, health.status, state):
            self._sent, self._sent_at = content, self._monotonic()
        if self._sent:
            self._register = [
                (registration, call) for registration, call in self._register if not registration.attempt(call)
            ]
        return CHECK_S

    def on_stop(self) -> None:
        """Send the last heart-beat."""
        self._send(self._health_checker.health(), EXITED, EXITED)

    def _operational_state(self, health: Health) -> str:
        """STARTING until the broker was connected, PROCESSING while there is work, else READY."""
        now = self._monotonic()
        self._has_started = self._has_started or not health.disconnected
        if health.busy:
            self._busy_at = now
        if not self._has_started:
            return "STARTING"
        return "PROCESSING" if self._busy_at is not None and now - self._busy_at < READY_AFTER_S else "READY"

    def _send(self, health: Health, status: str, state: str) -> bool:
        if self._beat.pause_s:
            return False
        counts = self._health_checker.counts()
        key = 0

        def send() -> None:
            nonlocal key
            key = self._client.heartbeat(self._row(health, status, state, counts))

        if not self._beat.attempt(send):
            return False
        if counts != self._sent_counts and self._count.attempt(lambda: self._send_counts(key, counts)):
            self._sent_counts = counts
        return True

    def _send_counts(self, key: int, counts: StfCounts) -> None:
        fields = {
            "workflow_enabled": True,
            "current_stf_count": counts.active,
            "total_stf_processed": counts.completed,
            "last_stf_processed": counts.last_completed,
        }
        self._client.update_agent(key, fields)

    def _row(self, health: Health, status: str, state: str, counts: StfCounts) -> dict[str, object]:
        connected = "connected" if health.connected else "disconnected" if health.disconnected else "not used"
        sentences = " ".join([
            f"Fast monitoring agent {__version__}. MQ: {connected}.",
            f"{counts.active} STFs active, {counts.completed} completed, {counts.failed} failed.",
            str(self._statement(self._health_checker.done_before())),
        ])  # fmt: skip
        line = f"{health.line}."[: MAX_DESCRIPTION - len(sentences) - 1]
        return {
            "instance_name": self._name,
            "agent_type": AGENT_TYPE,
            "description": f"{line} {sentences}",
            "status": status,
            "agent_url": None,
            "namespace": self._namespace,
            "pid": os.getpid(),
            "hostname": socket.gethostname()[:100],
            "operational_state": state,
            "workflow_enabled": True,
            "mq_connected": health.connected,
        }
