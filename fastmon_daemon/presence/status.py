"""Publishes `fastmon_status` on the topic: at start, stop, degradation, recovery and reload."""

from __future__ import annotations

from collections import deque

from loguru import logger

from fastmon_daemon.base.clock import format_timestamp
from fastmon_daemon.base.errors import FastmonError, LinkDown
from fastmon_daemon.messages import Announce, FastmonStatus, StatusWord, outbound_message, run_number
from fastmon_daemon.presence.health import Health, HealthChecker, HealthStatus

CHECK_S = 1.0
MIN_INTERVAL_S = 5.0
"""Least seconds between two messages; a flapping link causes no more."""
MAX_TEXTS = 20
"""Texts that wait to be published; more replace the oldest."""
REJECTED_PAUSE_S = 60.0
"""Seconds to wait after a rejection or a `Retry-After`: some monitors take no messages over REST."""


class StatusPublisher:
    """Publishes the status of one agent."""

    def __init__(self, announce: Announce, name: str, namespace: str, health_checker: HealthChecker) -> None:
        self._announce = announce
        self._name = name
        self._namespace = namespace
        self._health_checker = health_checker
        self._status: HealthStatus | None = None
        self._has_started = False
        self._is_pending = False
        self._not_before = health_checker.clock.monotonic()
        self._texts: deque[str] = deque(maxlen=MAX_TEXTS)

    def tell(self, text: str) -> None:
        """Publish *text* at the next tick that may publish. For any thread."""
        self._texts.append(text)

    def tick(self) -> float:
        """Check the health and publish a change; a change that cannot be sent is replaced by later ones."""
        health = self._health_checker.health()
        if health.status is not self._status:
            self._status, self._is_pending = health.status, True
        if self._is_pending and self._health_checker.clock.monotonic() >= self._not_before:
            is_ok = health.status is HealthStatus.OK
            word: StatusWord = ("recovered" if is_ok else "degraded") if self._has_started else "started"
            if self._publish(word, health):
                self._is_pending = not (self._has_started or is_ok)  # "started" with a problem: "degraded" follows
                self._has_started = True
                self._not_before = self._health_checker.clock.monotonic() + MIN_INTERVAL_S
        elif self._texts and self._has_started and self._health_checker.clock.monotonic() >= self._not_before:
            self._publish_texts(health)
        return CHECK_S

    def _publish_texts(self, health: Health) -> None:
        """Publish what happened; the status beside it is the present one, so that nobody takes it for a change."""
        texts = list(self._texts)
        if self._publish("running" if health.status is HealthStatus.OK else "degraded", health, "; ".join(texts)):
            for _ in texts:
                self._texts.popleft()
            self._not_before = self._health_checker.clock.monotonic() + MIN_INTERVAL_S

    def on_stop(self) -> None:
        """Publish "stopped"."""
        if self._has_started:
            self._publish("stopped", self._health_checker.health())

    def _publish(self, status: StatusWord, health: Health, text: str = "") -> bool:
        run = self._health_checker.run()
        now = format_timestamp(self._health_checker.clock.now())
        fields: FastmonStatus = {
            "namespace": self._namespace,
            "status": status,
            "message": "; ".join(filter(None, (health.why, text))) or status,  # the fields beside it say who sends it
            "run_number": run_number(run.run_id) if run else None,
        }
        try:
            self._announce(*outbound_message("fastmon_status", f"{self._name} {status} {now}", self._name, now, fields))
        except FastmonError as exc:
            logger.debug("status {}: not published: {}", status, exc)
            if not isinstance(exc, LinkDown) or exc.retry_after_s:
                self._not_before = self._health_checker.clock.monotonic() + REJECTED_PAUSE_S
            return False
        return True
