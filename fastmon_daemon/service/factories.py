"""Factories: make the agent's name, its presence and the file watcher from the settings."""

from __future__ import annotations

import getpass
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from datetime import datetime
from functools import partial
from queue import Empty, SimpleQueue
from uuid import uuid4

from loguru import logger

from fastmon_daemon.base.backoff import retry_for
from fastmon_daemon.base.clock import Clock
from fastmon_daemon.base.errors import FastmonError
from fastmon_daemon.engine import Engine
from fastmon_daemon.intake.found_files import FoundFile
from fastmon_daemon.intake.handler import MessageHandler
from fastmon_daemon.intake.seen_file_cache import SeenFileCache
from fastmon_daemon.intake.watcher import Watcher
from fastmon_daemon.messages import Announce
from fastmon_daemon.monitor.directory import Statement
from fastmon_daemon.outbox import Outbox, ReceiveOutcome, Stf, attach
from fastmon_daemon.presence.agent import Presence
from fastmon_daemon.presence.assessment import Assessor
from fastmon_daemon.presence.health import HealthChecker
from fastmon_daemon.presence.heartbeat import Heartbeat
from fastmon_daemon.presence.identity import AgentName, registration_calls
from fastmon_daemon.presence.log_shipping import LogShipper
from fastmon_daemon.presence.periodic_worker import PeriodicWorker, WorkerErrors
from fastmon_daemon.presence.stages import StageReporter
from fastmon_daemon.presence.status import StatusPublisher
from fastmon_daemon.service.brokers import Brokers
from fastmon_daemon.service.clients import agent_client
from fastmon_daemon.service.process import ProcessContext
from fastmon_daemon.settings import Settings

NAME_TIMEOUT_S = 3.0
"""Seconds that the first start waits for the monitor to assign an agent number."""
SIGNAL_DELAY_S = 0.5
"""Most seconds between a signal and its handling."""


def instance_id(outbox: Outbox) -> str:
    """Return the random id of this installation; it is made once and kept in the database."""
    instance = outbox.recall("instance")
    if instance is None:
        instance = uuid4().hex[:8]
        outbox.remember("instance", instance)
    return instance


def user_name(values: Mapping[str, str]) -> str:
    """Return the name of the user that runs this process."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a service user without a name
        return values.get("USER", "daemon")


def switch_stages(outbox: Outbox, settings: Settings, now: datetime) -> None:
    """Record whether stages are reported. STFs finalized while reporting was off are not reported later."""
    before = outbox.recall("stages")
    outbox.remember("stages", "on" if settings.stages else "off")
    if settings.stages and before == "off":
        outbox.stages.discard_pending(now)


def find_agent_name(
    context: ProcessContext, outbox: Outbox, instance: str, answers: SimpleQueue[int | None]
) -> AgentName:
    """Return the agent name. Until it is settled, a start requests a number from the monitor, and waits for it shortly.

    *answers* gets the number, or None if there is none; None from others ends the wait.
    """
    name = AgentName(outbox, context.settings.agent_name, user_name(context.values), instance)
    if name.is_settled:
        return name

    def ask() -> None:
        number = None
        with closing(agent_client(context, deadline_s=NAME_TIMEOUT_S, settles_name=False)) as client:
            try:
                number = retry_for(NAME_TIMEOUT_S)(client.next_agent_id)
            except FastmonError as exc:
                logger.warning("agent name: the monitor assigned no number: {}", exc)
        answers.put(number)

    threading.Thread(target=ask, name="agent-number", daemon=True).start()
    number = _wait_for(answers, NAME_TIMEOUT_S)
    if number is not None:
        name.use_number(number)
    else:
        logger.warning("agent name: {}, made without the monitor: it is kept once the monitor has seen it", name)
    return name


def _wait_for(answers: SimpleQueue[int | None], timeout_s: float) -> int | None:
    """Return the first answer, or None after *timeout_s* seconds.

    In short waits: Python handles a signal that arrives just before a wait only after it.
    """
    monotonic = Clock().monotonic
    until = monotonic() + timeout_s
    while (left_s := until - monotonic()) > 0:
        with suppress(Empty):
            return answers.get(timeout=min(left_s, SIGNAL_DELAY_S))
    return None


def make_presence(  # noqa: PLR0913 (the parts of the daemon)
    context: ProcessContext,
    name: str,
    engine: Engine,
    brokers: Brokers,
    announce: Announce,
    errors: WorkerErrors,
    assessor: Assessor,
    *,
    row_was_read: Callable[[Stf, int | None], object],
    statement: Callable[[str], Statement],
    heartbeats: bool,
) -> Presence:
    """Make the reporters that the settings enable; heart-beats and status messages only with *heartbeats*.

    *row_was_read* is that of `StageReporter`, *statement* that of `Heartbeat`.

    Status messages go the same way as announcements: by REST, or else by the connection that announces. Log shipping
    starts at once.
    """
    settings, namespace = context.settings, context.settings.namespace

    def suspect_monitor() -> None:
        """No STF may need the monitor now: only a probe finds out that it is down."""
        if heartbeats:
            engine.inbox.submit(lambda _outbox, _now: engine.breakers.suspect("monitor"))

    client = agent_client(context, found_down=suspect_monitor)
    clock = Clock()
    checker = partial(
        HealthChecker,
        database=context.database,
        assessor=assessor,
        connected=(lambda: brokers.connected) if brokers.in_use else None,
        clock=clock,
    )
    workers: list[PeriodicWorker] = []
    status: StatusPublisher | None = None
    shipper: LogShipper | None = None
    if heartbeats:
        destination = settings.subscribe if settings.mode == "message" else ""
        registration = registration_calls(client, name, namespace, user_name(context.values), destination)
        health = checker()
        heartbeat = Heartbeat(client, name, namespace, health, registration, statement)
        workers.append(
            PeriodicWorker("heart-beat", heartbeat.tick, _and_close(heartbeat.on_stop, health), errors=errors)
        )
    if heartbeats and (brokers.can_send or settings.notify == "rest"):
        health = checker()
        status = StatusPublisher(announce, name, namespace, health)
        workers.append(PeriodicWorker("status", status.tick, _and_close(status.on_stop, health), errors=errors))
    if settings.rest_logging:
        health = checker()
        logs_client = agent_client(context, logs_url=settings.logs_url, settles_name=False)
        shipper = LogShipper(logs_client, name, context.secrets.redact, health.run, clock.monotonic)
        shipper.begin(settings.log_level)
        workers.append(PeriodicWorker("log-shipping", shipper.tick, _and_close(shipper.on_stop, health), errors=errors))
    stages = None
    if settings.stages:
        stages = StageReporter(
            client,
            name,
            checker(),
            submit=partial(engine.inbox.submit, may_wait=True),
            busy=lambda: engine.busy > 0,
            row_was_read=row_was_read,
            errors=errors,
        )
    return Presence(workers, stages, clock.monotonic, status, shipper)


def _and_close(on_stop: Callable[[], object], health: HealthChecker) -> Callable[[], None]:
    """Return a function that calls *on_stop* and closes the database connection of the same thread."""

    def stop() -> None:
        with closing(health):
            on_stop()

    return stop


def make_watcher(
    settings: Settings, handler: MessageHandler, outbox: Outbox, agent_name: str, clock: Clock
) -> Watcher | None:
    """Make the watcher of continuous mode; None in message mode."""
    if settings.mode != "continuous":
        return None

    def ingest(file: FoundFile) -> ReceiveOutcome:
        return handler.handle_file(file.message(settings.namespace, agent_name), str(file.fingerprint))

    def evict(fingerprints: Sequence[str]) -> None:
        with closing(attach(outbox.path)) as own, own.transaction():
            own.files.remove(fingerprints)

    return Watcher(settings, ingest, SeenFileCache(outbox.files.all(), evict, clock.monotonic()), clock)
