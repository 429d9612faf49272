"""`fastmon_status` on the topic: at start, stop, degradation and recovery. The latest is told, nothing is queued.

It must not know how we are, nor which link carries the message.
"""

from __future__ import annotations

from collections.abc import Callable

from loguru import logger

from fastmon_daemon.base.clock import format_timestamp
from fastmon_daemon.base.errors import FastmonError, LinkDown
from fastmon_daemon.messages import FastmonStatus, run_number
from fastmon_daemon.presence.health import Health, HealthChecker, HealthStatus

LOOK_S = 1.0
CALM_S = 5.0
"""Between two messages, in seconds at least: of a link that flaps only the latest is told."""
REFUSED_S = 60.0
"""After a refusal, or a request for patience: today's monitors take no messages over REST."""

Announce = Callable[[str, str], None]
"""Sends a body with its event id and returns when the other side has confirmed."""


class StatusPublisher:
    """What the topic hears of us."""

    def __init__(self, announce: Announce, name: str, namespace: str, health_checker: HealthChecker) -> None:
        self._announce = announce
        self._name = name
        self._namespace = namespace
        self._health_checker = health_checker
        self._level: HealthStatus | None = None
        self._begun = False
        self._untold = False
        self._not_before = health_checker.clock.monotonic()

    def tick(self) -> float:
        """Look, and say what is new; what cannot be said now is overtaken by what is true later."""
        health = self._health_checker.health()
        if health.level is not self._level:
            self._level, self._untold = health.level, True
        if self._untold and self._health_checker.clock.monotonic() >= self._not_before:
            good = health.level is HealthStatus.OK
            word = ("recovered" if good else "degraded") if self._begun else "started"
            if self._say(word, health):
                self._untold = not (self._begun or good)  # who starts with a fault says so once more
                self._begun = True
                self._not_before = self._health_checker.clock.monotonic() + CALM_S
        return LOOK_S

    def on_stop(self) -> None:
        """The last one."""
        if self._begun:
            self._say("stopped", self._health_checker.health())

    def _say(self, status: str, health: Health) -> bool:
        run = self._health_checker.run()
        message = FastmonStatus(
            namespace=self._namespace,
            processed_by=self._name,
            sender=self._name,
            status=status,
            message=f"{self._name} {status}{f': {health.why}' if health.why else ''}",
            timestamp=format_timestamp(self._health_checker.clock.now()),
            run_number=run_number(run.run_id) if run else None,
        )
        try:
            self._announce(message.as_json(), message.event_id)
        except FastmonError as exc:
            logger.debug("{} is not told on the topic: {}", status, exc)
            if not isinstance(exc, LinkDown) or exc.retry_after_s:
                self._not_before = self._health_checker.clock.monotonic() + REFUSED_S
            return False
        return True
