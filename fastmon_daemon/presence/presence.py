"""Class Presence: the lanes in which we tell of ourselves. None of them is waited for by the main job.

It must not know how anything is told.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fastmon_daemon.clock import Clock
from fastmon_daemon.logs import Secrets
from fastmon_daemon.monitor import Desk
from fastmon_daemon.presence.checkup import Checkup, Patient
from fastmon_daemon.presence.heartbeat import Heartbeat
from fastmon_daemon.presence.identity import Registration
from fastmon_daemon.presence.lane import Lane
from fastmon_daemon.presence.shipping import Shipping
from fastmon_daemon.presence.stages import Ask, StageReports, Trade
from fastmon_daemon.presence.status import Announce, Status
from fastmon_daemon.settings import Settings

GOODBYE_S = 1.0
"""So long a stopping daemon waits for its last words, in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Citizen:
    """Who tells of itself, and the ways that it may use."""

    name: str
    owner: str
    """The user whose process this is."""
    settings: Settings
    secrets: Secrets
    patient: Patient
    desk: Desk
    logs_desk: Desk
    announce: Announce | None
    """The way to the topic; None: there is none."""
    ask: Ask
    busy: Callable[[], bool]
    """Whether the main job has calls under way."""


class Presence:
    """All that is told of us beside the main job."""

    def __init__(self, citizen: Citizen) -> None:
        self._citizen = citizen
        self._clock: Clock = citizen.patient.clock
        self._stages = self._stage_reports() if citizen.settings.stages else None
        self._lanes: list[Lane] = [self._stages.lane] if self._stages else []
        self._patient_until = 0.0

    def start(self, *, alive: bool) -> None:
        """Begin to tell; where we are not *alive*, but only do what is due, no sign of life is given."""
        if alive:
            self._lanes.append(self._heartbeat())
            if self._citizen.announce:
                self._lanes.append(self._status(self._citizen.announce))
        if self._citizen.settings.rest_logging:
            self._lanes.append(self._shipping())
        for lane in self._lanes:
            lane.start()

    @property
    def in_hand(self) -> bool:
        """Whether the engine should turn on for a moment: an answer that is on its way cannot be asked for again."""
        waits = self._clock.monotonic() < self._patient_until
        return waits and self._stages is not None and self._stages.in_hand

    @property
    def settled(self) -> bool:
        """Whether no stage report can be made now (see `look_again`)."""
        return self._stages is None or self._stages.settled

    def look_again(self) -> None:
        """See whether there is a stage report to be made."""
        if self._stages:
            self._stages.look_again()

    def retire(self) -> None:
        """Begin nothing new; returns at once."""
        self._patient_until = self._clock.monotonic() + GOODBYE_S
        if self._stages:
            self._stages.lane.stop()

    def stop(self, deadline_s: float) -> None:
        """Say goodbye; returns within *deadline_s* seconds, or `GOODBYE_S`, whether it was heard or not."""
        until = self._clock.monotonic() + min(GOODBYE_S, deadline_s)
        for lane in self._lanes:
            lane.stop()
        for lane in self._lanes:
            lane.join(until - self._clock.monotonic())

    def _stage_reports(self) -> StageReports:
        citizen = self._citizen
        trade = Trade(
            desk=citizen.desk,
            agent_name=citizen.name,
            chart=citizen.patient.chart,
            ask=citizen.ask,
            busy=citizen.busy,
        )
        return StageReports(trade, Checkup(citizen.patient))

    def _status(self, announce: Announce) -> Lane:
        citizen = self._citizen
        status = Status(announce, citizen.name, citizen.settings.namespace, Checkup(citizen.patient))
        return Lane("status", status.turn, status.goodbye)

    def _heartbeat(self) -> Lane:
        citizen, settings = self._citizen, self._citizen.settings
        destination = settings.subscribe if settings.mode == "message" else ""
        registration = Registration(citizen.desk, citizen.name, settings.namespace, citizen.owner, destination)
        heartbeat = Heartbeat(citizen.desk, citizen.name, settings.namespace, Checkup(citizen.patient), registration)
        return Lane("heart-beat", heartbeat.turn, heartbeat.goodbye)

    def _shipping(self) -> Lane:
        citizen = self._citizen
        shipping = Shipping(
            citizen.logs_desk,
            citizen.name,
            citizen.secrets.blot,
            Checkup(citizen.patient).run,
            self._clock.monotonic,
        )
        shipping.begin(citizen.settings.log_level)
        return Lane("log-shipping", shipping.turn, shipping.goodbye)
