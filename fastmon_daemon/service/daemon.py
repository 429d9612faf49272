"""The composition root: builds everything from the settings, runs it, and stops it in reverse order.

It owns the drain and the watchdog. It must not know argv.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

from loguru import logger

from fastmon_daemon.actions.control_socket import REQUEST_TIMEOUT_S, ControlServer
from fastmon_daemon.actions.operator_actions import RECONCILE, ActionRequest, OperatorActions, run_number_to_reconcile
from fastmon_daemon.base import sd_notify
from fastmon_daemon.base.backoff import in_process_retry
from fastmon_daemon.base.clock import Clock, utcnow
from fastmon_daemon.base.errors import LinkBlocked, LinkDown, TransientError
from fastmon_daemon.base.links import ANNOUNCE_STEP, links_for
from fastmon_daemon.broker import BrokerConnection, LinkStateChange
from fastmon_daemon.engine import CallPools, CircuitBreakers, Engine, EngineConfig, Inbox, LinkEvent
from fastmon_daemon.engine.concurrency_limits import PROBES_PER_LINK
from fastmon_daemon.engine.sampling import is_selected
from fastmon_daemon.engine.steps import make_steps
from fastmon_daemon.inspection.http_server import serve
from fastmon_daemon.inspection.liveness import Liveness
from fastmon_daemon.inspection.metrics import MetricsCollector
from fastmon_daemon.intake.handler import MessageHandler
from fastmon_daemon.monitor import MonitorClient
from fastmon_daemon.outbox import DatabaseLock, DiskSpaceGuard, Outbox, open_outbox
from fastmon_daemon.outbox.pruner import Pruner
from fastmon_daemon.presence.periodic_worker import WorkerErrors
from fastmon_daemon.reconciler.config import ReconcilerConfig, SummaryRoute
from fastmon_daemon.reconciler.reconciler import Reconciler
from fastmon_daemon.runs.tracked_runs import TrackedRuns
from fastmon_daemon.service.agent_factory import make_presence, registered_name, stuck_rule, switch_stages
from fastmon_daemon.service.credentials import broker_parameters, instance_of, monitor_client
from fastmon_daemon.service.process import ProcessContext, ShutdownRequest, signals
from fastmon_daemon.service.watcher_factory import make_watcher
from fastmon_daemon.statechart import StateMachine, load_statechart

DONE, WAITING, EXIT_NOT_DRAINED = 0, 1, 75
OVERTIME_S = 1.0
"""Seconds after the deadline of a drain at which the process ends, whatever is under way."""


def run(context: ProcessContext, *, once: bool) -> int:
    """Run the daemon until a signal ends it, or, with *once*, until nothing more can be done now.

    Returns the exit code: 0; with *once* 1 if something waits; 75 if the drain was not clean. Raises `StorageError`.
    """
    with DatabaseLock(context.database):
        outbox = open_outbox(context.database)
        try:
            with outbox.transaction():
                instance = instance_of(outbox)
                switch_stages(outbox, context.settings, utcnow())
            service = Daemon(context, outbox, instance, once=once)
            shutdown = ShutdownRequest(service.inbox.wake)
            listen = None if once else context.settings.http
            front = serve(listen, service.liveness, service.metrics(context).render, service.errors)
            with ControlServer(context.database, service.handle), front, signals(shutdown):
                return service.work_once(shutdown) if once else service.work(shutdown)
        finally:
            outbox.close()


class Daemon:
    """All the parts, built and connected."""

    def __init__(self, context: ProcessContext, outbox: Outbox, instance: str, *, once: bool) -> None:
        settings, self._values = context.settings, context.values
        self._settings = settings
        self._outbox = outbox
        self._clock = Clock()
        agent_name = registered_name(context, outbox, instance)
        stf_chart, run_chart = load_statechart("stf"), load_statechart("run")
        self._stopping = threading.Event()
        self.inbox = Inbox()
        self.monitor = monitor_client(settings, context.values, context.secrets)
        self._room = DiskSpaceGuard(context.database, settings.min_free_mb, self._clock.monotonic)
        runs = TrackedRuns()
        intake = MessageHandler(
            context.database,
            settings.namespace,
            agent_name,
            (stf_chart, run_chart),
            runs=runs,
            refuse_if_short=self._room.check,
            wake=self.inbox.wake,
            clock=self._clock,
        )
        self._acts = OperatorActions(stf_chart, intake, alone=False)
        self.broker = BrokerConnection(
            broker_parameters(
                settings, context.values, context.secrets, instance, subscribe=settings.mode == "message" and not once
            ),
            accept=intake.prepare,
            changed=self._broker_changed,
            stopping=self._stopping,
        )
        self._watcher = make_watcher(settings, intake, outbox, agent_name, self._clock)
        self.liveness = Liveness(self._clock.monotonic)
        self.errors = WorkerErrors({"watcher": self._watcher.failure} if self._watcher else {})
        self._needs_broker = self._watcher is None or settings.notify == "stomp"
        probes = self._probes()
        self._pools = CallPools.with_threads(settings.workers, links=len(probes))
        breakers = CircuitBreakers(
            outbox,
            links_for(settings.notify).values(),
            probes=probes,
            most_probes=1 if once else PROBES_PER_LINK,
            clock=self._clock,
        )
        self.ledger = Reconciler(self._config(agent_name, (stf_chart, run_chart), breakers), runs)
        self.engine = Engine(
            outbox,
            self._plant(agent_name, stf_chart),
            inbox=self.inbox,
            breakers=breakers,
            pools=self._pools,
            task_sources=[self.ledger],
            idle_work=Pruner(settings.keep_days, stf_chart, run_chart).prune,
        )
        broker = self.broker if self._needs_broker else None
        self.presence = make_presence(
            context, agent_name, self.engine, broker, self._clock, self.errors, sign_of_life=not once
        )
        logger.info("agent {} for namespace {}: database {}", agent_name, settings.namespace, context.database)
        logger.info("monitor {}, broker {}:{}", settings.monitor_url, settings.broker_host, settings.broker_port)

    def _probes(self) -> dict[str, Callable[[], None]]:
        """The calls that return when a link is back, for all links that the settings need."""
        needed = {"monitor", *links_for(self._settings.notify).values()} | ({"broker"} if self._needs_broker else set())
        probes = {
            "monitor": self.monitor.probe,
            "messages": self.monitor.probe_messages,
            "broker": self.broker.probe,
        }
        return {link: probe for link, probe in probes.items() if link in needed}

    def _plant(self, agent_name: str, stf_chart: StateMachine) -> EngineConfig:
        settings = self._settings
        announce = self._by_rest if settings.notify == "rest" else self.broker.announce
        return EngineConfig(
            chart=stf_chart,
            steps=make_steps(settings, agent_name, self.monitor, announce, self._clock),
            links=links_for(settings.notify),
            in_process_retry=lambda: in_process_retry(self._stopping),
            late_rate=settings.late_announce_rate,
            clock=self._clock,
        )

    def _config(
        self, agent_name: str, charts: tuple[StateMachine, StateMachine], breakers: CircuitBreakers
    ) -> ReconcilerConfig:
        settings = self._settings
        announce = self._by_rest if settings.notify == "rest" else self.broker.announce
        link = links_for(settings.notify).get(ANNOUNCE_STEP)  # FASTMON_NOTIFY=off: none
        return ReconcilerConfig(
            monitor=self.monitor,
            charts=charts,
            allows_calls=breakers.allows_calls,
            wake=self.inbox.wake,
            summary_route=SummaryRoute(sender=agent_name, link=link, announce=announce) if link else None,
            is_selected=partial(is_selected, settings.selection_fraction),
            polls_all_runs=settings.reconcile,
            refuse_if_short=self._room.check,
            clock=self._clock,
        )

    def metrics(self, context: ProcessContext) -> MetricsCollector:
        """What is told over HTTP."""
        return MetricsCollector(
            namespace=context.settings.namespace,
            database=context.database,
            stuck=stuck_rule(context.settings),
            liveness=self.liveness,
            answer_count=self.monitor.answer_count,
            buffered=lambda: self.broker.buffered,
            clock=self._clock,
        )

    def _by_rest(self, body: str, _event_id: str) -> None:
        self.monitor.post_message(body)

    def handle(self, request: dict[str, Any]) -> dict[str, Any]:
        """A request over the control socket, done in the engine's thread."""
        wish = ActionRequest.parse(request)
        logger.info("{} by {}", wish.action, wish.by)
        if wish.action == RECONCILE:
            return self._reconcile(wish)
        outcome = self.inbox.submit(partial(self._acts.perform, wish))
        return asdict(outcome.result(REQUEST_TIMEOUT_S - 1))  # before whoever asked gives up

    def _reconcile(self, request: ActionRequest) -> dict[str, Any]:
        """A look by hand: the monitor is asked in the socket's thread, the rest is the ledger's."""
        try:
            stfs = self.monitor.stf_files(run_number_to_reconcile(request))
        except TransientError as exc:
            return {"error": str(exc), "busy": True}
        act = self.ledger.reconcile(request.run or "", self._settings.namespace, stfs, request.by)
        return asdict(self.inbox.submit(act).result(REQUEST_TIMEOUT_S - 1))

    def _broker_changed(self, change: LinkStateChange) -> None:
        if change.up:
            self.ledger.link_restored()
        self.inbox.report_link(LinkEvent("broker", change.up, change.reason, change.blocked))

    def _start_links(self) -> None:
        if self._needs_broker:
            self.broker.start()

    def work(self, shutdown: ShutdownRequest) -> int:
        """Until a signal."""
        self.presence.start()
        self.ledger.begin_listening(self._outbox)
        self._start_links()
        _look_at(self.monitor, self.inbox.report_link)
        if self._watcher is not None:
            self._watcher.start()
        sd_notify.notify(self._values, "READY=1")
        while not shutdown.to_stop:
            self.engine.tick()
            self.liveness.beat()
            sd_notify.notify(self._values, "WATCHDOG=1")  # only a completed turn says that we are alive
        logger.info("{}: stopping; a second signal means now", shutdown.to_stop)
        return self._drain(DONE)

    def work_once(self, shutdown: ShutdownRequest) -> int:
        """Until nothing is due that could be done now."""
        self._start_links()
        self.presence.start()
        if self._watcher is not None:
            self._watcher.wait_until_stable(lambda: shutdown.to_stop)
        patience = self._clock.monotonic() + 10.0
        while not shutdown.to_stop:
            self.engine.tick(0.1)
            broker_known = self.broker.up or not self._needs_broker or self._clock.monotonic() > patience
            if broker_known and (self.engine.idle or self.engine.fault):
                break  # where the disk takes nothing, nothing can be done now
        self.presence.link_restored()
        while not (
            shutdown.to_stop or self.engine.fault or self.presence.settled or self._clock.monotonic() > patience
        ):
            self.engine.tick(0.1)
        waiting = self._outbox.unfinished()
        if waiting:
            logger.warning("{} STFs wait: see fastmon-daemon inspect", waiting)
        return self._drain(WAITING if waiting else DONE)

    def _drain(self, code: int) -> int:
        """Finish what is in flight, say goodbye to the broker, within FASTMON_DRAIN_S."""
        last = threading.Timer(self._settings.drain_s + OVERTIME_S, os._exit, [EXIT_NOT_DRAINED])
        last.daemon = True
        last.start()  # whatever a library waits for: the outbox is safe at every instant
        sd_notify.notify(self._values, "STOPPING=1")
        deadline = self._clock.monotonic() + self._settings.drain_s
        self.presence.announce_stop()
        self.engine.stopping.set()
        self._stopping.set()
        if self._watcher is not None:
            self._watcher.stop(1.0)
        while (self.engine.tick(0.1) or self.presence.is_reporting) and self._clock.monotonic() < deadline:
            pass
        clean = not self.engine.busy
        self.presence.stop(deadline - self._clock.monotonic())
        clean &= self.broker.stop(max(0.5, deadline - self._clock.monotonic()))
        self._pools.shutdown(wait=clean)
        self.monitor.close()
        self.ledger.end_listening(self._outbox)
        logger.info(
            "stopped{}", "" if clean else " at the deadline; what was in flight is done again at the next start"
        )
        return code if clean else EXIT_NOT_DRAINED


def _look_at(monitor: MonitorClient, tell: Callable[[LinkEvent], None]) -> None:
    """Ask *monitor* whether it lets us write, in a thread that nobody waits for; only bad news is told.

    Without it, a wrong token would not be heard of before the first STF.
    """

    def look() -> None:
        try:
            monitor.probe()
        except LinkDown as exc:
            tell(LinkEvent("monitor", up=False, reason=str(exc), blocked=isinstance(exc, LinkBlocked)))
        except Exception:  # noqa: BLE001 (nobody else would say it: the engine asks only where a link is down)
            logger.exception("the first look at the monitor: unexpected error")

    threading.Thread(target=look, name="first-look", daemon=True).start()
