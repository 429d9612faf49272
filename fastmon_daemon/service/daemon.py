"""The daemon: makes all parts from the settings, runs them, and drains. It feeds the service manager's watchdog."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import closing, suppress
from dataclasses import asdict
from datetime import datetime
from functools import partial
from queue import SimpleQueue
from typing import Any

from loguru import logger

from fastmon_daemon import __version__
from fastmon_daemon.actions.control_socket import REQUEST_TIMEOUT_S, ControlServer
from fastmon_daemon.actions.daemon_state import STATE, state_answer
from fastmon_daemon.actions.operator_actions import (
    RECONCILE,
    ActionRequest,
    OperatorActions,
    recorded,
    run_number_to_reconcile,
)
from fastmon_daemon.base import sd_notify
from fastmon_daemon.base.backoff import in_process_retry
from fastmon_daemon.base.clock import Clock, format_timestamp, utcnow
from fastmon_daemon.base.errors import ConfigError, LinkBlocked, LinkDown, StorageUnavailable, TransientError
from fastmon_daemon.base.links import ANNOUNCE_STEP, INTAKE, links_for
from fastmon_daemon.broker import LinkStateChange
from fastmon_daemon.engine import CallPools, CircuitBreakers, Engine, EngineConfig, Inbox, LinkEvent
from fastmon_daemon.engine.concurrency_limits import PROBES_PER_LINK
from fastmon_daemon.engine.parents import Parents
from fastmon_daemon.engine.selection_fractions import SelectionFractions
from fastmon_daemon.engine.steps import make_steps
from fastmon_daemon.inspection.endpoints import Endpoints
from fastmon_daemon.inspection.http_server import serve
from fastmon_daemon.inspection.inspector import InspectionContext, Inspector, View, with_metadata
from fastmon_daemon.inspection.liveness import Liveness
from fastmon_daemon.inspection.metrics import MetricsCollector
from fastmon_daemon.intake.handler import MessageHandler
from fastmon_daemon.messages import Send
from fastmon_daemon.monitor import MonitorClient
from fastmon_daemon.monitor.directory import list_agents
from fastmon_daemon.outbox import DatabaseLock, DiskSpaceGuard, Outbox, open_outbox
from fastmon_daemon.outbox.counting import count_committed
from fastmon_daemon.outbox.pruner import Pruner
from fastmon_daemon.presence.assessment import Assessor, ProcessState, assessment_rule
from fastmon_daemon.presence.identity import AgentName
from fastmon_daemon.presence.periodic_worker import PeriodicWorker, WorkerErrors
from fastmon_daemon.reconciler.config import ReconcilerConfig
from fastmon_daemon.reconciler.reconciler import Reconciler
from fastmon_daemon.runs.peers import PeerDirectory
from fastmon_daemon.runs.tracked_runs import TrackedRuns
from fastmon_daemon.service.brokers import make_brokers
from fastmon_daemon.service.clients import monitor_client
from fastmon_daemon.service.factories import (
    NAME_TIMEOUT_S,
    find_agent_name,
    instance_id,
    make_presence,
    make_watcher,
    switch_stages,
)
from fastmon_daemon.service.live_settings import RELOAD, LiveSettings
from fastmon_daemon.service.process import ProcessContext, SignalRequests, has_terminal, signals
from fastmon_daemon.service.status_line import StatusLine, status_line
from fastmon_daemon.settings import MOST_WORKERS, exposures
from fastmon_daemon.statechart import load_statechart

DONE, WORK_REMAINS, EXIT_NOT_DRAINED = 0, 1, 75
STARTUP_S = 5.0
"""Seconds that making all parts may take, before a request for the metrics is given up."""
FORCED_EXIT_S = 1.0
"""Seconds after the drain's deadline at which the process exits, whatever is in flight."""


def run(context: ProcessContext, *, once: bool) -> int:
    """Run the daemon until a signal, or, with *once*, until no more work can be done now.

    Returns the exit code: 0; with *once* 1 if work remains; 75 if the drain was not clean.
    Raises: StorageError.
    """
    with DatabaseLock(context.database), closing(open_outbox(context.database, count_committed)) as outbox:
        with outbox.transaction():
            instance = instance_id(outbox)
            switch_stages(outbox, context.settings, utcnow())
        inbox, numbers, made = Inbox(), SimpleQueue[int | None](), Future[Daemon]()
        liveness, errors = Liveness(time.monotonic), WorkerErrors()

        def wake() -> None:
            if shutdown.to_stop:  # a reload does not end the wait for the number of the agent name
                numbers.put(None)
            inbox.wake()

        def metrics() -> bytes:
            return made.result(NAME_TIMEOUT_S + STARTUP_S).metrics.render()

        endpoints = Endpoints(
            liveness=liveness,
            errors=errors,
            assess=lambda: made.result().assessor.assess() if made.done() else None,
            readiness=lambda: made.result().readiness() if made.done() else None,
            status=lambda: made.result().status() if made.done() else None,
            metrics=metrics,
        )
        shutdown = SignalRequests(wake, hup_reloads=not (once or has_terminal()))
        listen = None if once else context.settings.http
        # Before anything is asked of the monitor or of the broker: neither may delay a signal or the service manager.
        with serve(listen, endpoints.by_path(), errors, context.settings.http_token), signals(shutdown):
            if not once:
                sd_notify.notify(context.values, "READY=1")
            name = find_agent_name(context, outbox, instance, numbers)
            if shutdown.to_stop:
                logger.info("{}: stopped before the first STF", shutdown.to_stop)
                return DONE
            daemon = Daemon(context, outbox, instance, name, inbox, liveness, errors, once=once)
            made.set_result(daemon)
            with ControlServer(context.database, daemon.handle):
                return daemon.run_once(shutdown) if once else daemon.run(shutdown)


class Daemon:
    """All parts, made and connected."""

    def __init__(  # noqa: PLR0913 (made before it, because it takes the monitor to know its name)
        self,
        context: ProcessContext,
        outbox: Outbox,
        instance: str,
        name: AgentName,
        inbox: Inbox,
        liveness: Liveness,
        errors: WorkerErrors,
        *,
        once: bool,
    ) -> None:
        settings, self._values = context.settings, context.values
        self._settings = settings
        self._outbox = outbox
        self._clock = Clock()
        self._started_at = self._clock.now()
        self._name, self._wrote = name, context.wrote
        self._agent_name = str(name)
        self._charts = load_statechart("stf"), load_statechart("run")
        self._stopping = threading.Event()
        self.inbox = inbox
        self.monitor = monitor_client(context)
        self._disk_space = DiskSpaceGuard(context.database, settings.min_free_mb, self._clock.monotonic)
        self._parents = Parents(self.monitor, self._agent_name)
        self._peers = PeerDirectory(
            lambda: (list_agents(self.monitor), self.monitor.response_clock.date()),
            self._agent_name, settings.namespace, destination=settings.shared_queue, reconcile=settings.reconcile,
            clock=self._clock,
        )  # fmt: skip
        runs = TrackedRuns(purged=self._parents.forget)
        handler = MessageHandler(
            context.database,
            settings.namespace,
            self._agent_name,
            self._charts,
            runs=runs,
            submit=self.inbox.submit,
            refuse_if_short=self._disk_space.check,
            wake=self.inbox.wake,
            clock=self._clock,
            shares_queue=self._peers.shares,
        )
        self._queue_fault = handler.queue_fault
        self._actions = OperatorActions(self._charts[0], handler, alone=False)
        self._brokers = make_brokers(
            context, instance, accept=handler.prepare, accept_runs=handler.prepare_run_message,
            may_subscribe=self._peers.may_subscribe, changed=self._link_changed, stopping=self._stopping, once=once,
        )  # fmt: skip
        self._announce = self.monitor.announce if settings.notify == "rest" else self._brokers.announce
        self._send: Send = self.monitor.announce if settings.notify == "rest" else self._brokers.send
        self._links = links_for(settings.notify)
        self._fractions = SelectionFractions.load(outbox, settings.selection_fraction)
        self._watcher = make_watcher(settings, handler, outbox, self._agent_name, self._clock)
        self.errors = errors
        self._watching = (
            PeriodicWorker("watcher", self._watcher.tick, self._watcher.on_stop, errors=self.errors)
            if self._watcher
            else None
        )
        self.liveness = liveness
        rule = assessment_rule(partial(getattr, settings))
        self.assessor = Assessor(context.database, rule, self._process_state, self._clock)
        self._database_rule = context.database_rule
        self._status_line = StatusLine(
            context.values,
            lambda: status_line(outbox, rule.stuck, self._clock.now(), self._brokers.unconnected()),
            self._clock.monotonic,
        )
        probes = self._probes()
        self._pools = CallPools.with_threads(settings.workers, links=len(probes), most=MOST_WORKERS)
        breakers = CircuitBreakers(
            outbox,
            probes,
            max_probes=1 if once else PROBES_PER_LINK,
            clock=self._clock,
        )
        self.reconciler = Reconciler(self._reconciler_config(breakers), runs)
        self._pruner = Pruner(settings.keep_days, *self._charts)
        self.engine = Engine(
            outbox,
            self._engine_config(),
            inbox=self.inbox,
            breakers=breakers,
            pools=self._pools,
            background_tasks=self.reconciler.tasks,
            idle_work=self._clean_up,
        )
        self.metrics = MetricsCollector(
            namespace=settings.namespace,
            selection_fraction=lambda: self._fractions.current,
            database=context.database,
            assessor=self.assessor,
            liveness=self.liveness,
            buffered=lambda: self._brokers.buffered,
            clock=self._clock,
        )
        self.presence = make_presence(
            context,
            self._agent_name,
            self.engine,
            self._brokers,
            self._announce,
            self.errors,
            self.assessor,
            row_was_read=self._parents.row_was_read,
            statement=self._peers.statement,
            heartbeats=not once,
        )
        self._live = LiveSettings(
            settings,
            context.read_settings,
            {
                "selection_fraction": self._fractions.change,
                "late_announce_rate": lambda _, rate: partial(self.engine.set_late_rate, rate),
                "keep_days": lambda _, days: partial(self._pruner.keep_for, days),
                "workers": lambda _, most: partial(self.engine.set_most_calls, most),
                "log_level": lambda _, level: partial(self._set_log_level, context, level),
            },
            self.presence.tell,
        )
        logger.info("agent {} for namespace {}: database {}", self._agent_name, settings.namespace, context.database)
        logger.info("monitor {}, broker {}:{}", settings.monitor_url, settings.broker_host, settings.broker_port)
        for found, hint in exposures(settings):
            logger.warning("{}: {}", found, hint)

    def _probes(self) -> dict[str, Callable[[], None]]:
        """Link -> a call that returns when the link is up, for the links that the settings need."""
        probes = {"monitor": self.monitor.probe}
        if "messages" in self._links.values():
            probes["messages"] = self.monitor.probe_messages
        return probes | self._brokers.probes()

    def _engine_config(self) -> EngineConfig:
        return EngineConfig(
            chart=self._charts[0],
            steps=make_steps(
                self._settings, self._agent_name, self.monitor, self._send, self._clock, self._parents, self._fractions
            ),
            links=self._links,
            in_process_retry=in_process_retry(self._stopping),
            together=self._brokers.together,
            late_rate=self._settings.late_announce_rate,
            clock=self._clock,
        )

    def _reconciler_config(self, breakers: CircuitBreakers) -> ReconcilerConfig:
        return ReconcilerConfig(
            monitor=self.monitor,
            database=self._outbox.path,
            charts=self._charts,
            allows_calls=breakers.allows_calls,
            wake=self.inbox.wake,
            agent_name=self._agent_name,
            announce=self._announce,
            announce_link=self._links.get(ANNOUNCE_STEP),  # none with FASTMON_NOTIFY=off
            is_selected=self._fractions.selects,
            polls_all_runs=self._settings.reconcile != "off" or self._peers.shares,
            recovers=self._peers.recovers,
            peers=self._peers,
            refuse_if_short=self._disk_space.check,
            clock=self._clock,
        )

    def _clean_up(self, outbox: Outbox, now: datetime) -> None:
        self._pruner.prune(outbox, now)
        outbox.truncate_log()

    def handle(self, request: dict[str, Any]) -> dict[str, Any]:
        """Perform a request of the control socket in the engine's thread and return the result as JSON values."""
        if request.get("action") == STATE:
            return state_answer(self._live.current, self.assessor.process_state())
        if request.get("action") == RELOAD:
            return self._reload(str(request.get("by")))
        action = ActionRequest.parse(request)
        logger.info("{} by {}", action.action, action.by)
        if action.action == RECONCILE:
            return self._reconcile(action)
        result = self.inbox.submit(partial(self._actions.perform, action))
        return asdict(result.result(REQUEST_TIMEOUT_S - 1))  # before the client times out

    def _reload(self, by: str) -> dict[str, Any]:
        """Read the settings again, and return what the command `reload` prints. Not for the engine's thread."""
        try:
            result = self._live.reload(self.inbox, by)
            return {"invalid": "", **asdict(result), "lines": result.lines}
        except ConfigError as exc:
            logger.error("settings not changed: {}", exc)
            return {"invalid": str(exc)}

    def _reload_by_signal(self) -> None:
        try:
            self._reload("SIGHUP")
        except StorageUnavailable as exc:
            logger.error("settings not changed: {}", exc)
        except TimeoutError:
            logger.error("settings not changed yet: the daemon is busy and may still do it")

    def _set_log_level(self, context: ProcessContext, level: str) -> None:
        context.set_log_level(level)
        self.presence.ship_logs_from(level)

    def _process_state(self) -> ProcessState:
        return ProcessState(
            stalled_s=self.liveness.age_s if self.liveness.is_stalled else None,
            fault=self.engine.fault,
            intake_fault=self._brokers.intake_fault or (self._watcher.fault() if self._watcher else ""),
            worker_errors=self.errors.now(),
            unconnected=self._brokers.unconnected(),
            calls=self._calls(),
            shared_queue_fault=self._peers.fault() or self._queue_fault(),
            reconcilers=tuple(self._peers.reconcilers) if self._peers.shares else None,
        )

    def _calls(self) -> dict[str, dict[str, int]]:
        in_flight, limits = self.engine.calls_in_flight(), self.engine.call_limits()
        return {link: {"in_flight": in_flight[link], "limit": limit} for link, limit in limits.items()}

    def readiness(self) -> dict[str, str]:
        """Part of the daemon -> what is wrong with it, or an empty text. For any thread."""
        return self.assessor.assess().readiness(self.assessor.rule.stuck.needed_links)

    def status(self) -> View:
        """What `inspect --json` prints, and the version and the uptime of this process. For any thread."""
        now, process, reader = self._clock.now(), self.assessor.process_state(), self.assessor.reader
        context = InspectionContext(rule=self.assessor.rule, now=now, daemon=os.getpid(), process=process)
        with reader.open() as reports:
            inspector = Inspector(reports, context)
            view = with_metadata(inspector.overview(), inspector, context, (str(reader.path), self._database_rule))
        uptime_s = (now - self._started_at).total_seconds()
        return {**view, "version": __version__, "started_at": format_timestamp(self._started_at), "uptime_s": uptime_s}

    def _reconcile(self, request: ActionRequest) -> dict[str, Any]:
        """Fetch the listing in the socket's thread; the reconciler compares it in the engine's thread."""
        run, namespace = request.run or "", self._settings.namespace
        number, recovering = run_number_to_reconcile(request), self.reconciler.recovering(run, namespace)
        try:
            queued = self.inbox.submit(recovering).result(REQUEST_TIMEOUT_S - 1)
            listed = self.reconciler.list_run(number, run, namespace, queued)
        except TransientError as exc:
            return {"error": str(exc), "busy": True}
        compare = self.reconciler.reconcile(run, namespace, listed, request.by)
        return asdict(self.inbox.submit(recorded(compare, request)).result(REQUEST_TIMEOUT_S - 1))

    def _link_changed(self, link: str, change: LinkStateChange) -> None:
        if change.up and link == INTAKE:
            self.reconciler.link_restored()
        self.inbox.report_link(LinkEvent(link, change.up, change.reason, change.blocked, on_trial=change.on_trial))

    def run(self, shutdown: SignalRequests) -> int:
        """Run until a signal; returns the exit code."""
        self._log_shortage()
        self.presence.start()
        self.reconciler.listening.begin(self._outbox)
        self._brokers.start()
        _start_startup_probe(self.monitor, self.inbox.report_link)
        if self._watching is not None:
            self._watching.start()
        gc.freeze()  # what was made until now stays: a full collection would stop all threads for 30 ms to look at it
        while not shutdown.to_stop:
            self.engine.tick()
            if shutdown.take_reload():
                threading.Thread(target=self._reload_by_signal, name="reload", daemon=True).start()
            self._settle_name()
            self.presence.wake_stages()
            self.liveness.beat()
            sd_notify.notify(self._values, "WATCHDOG=1")  # sent after a completed tick only
            self._status_line.update()
        logger.info("{}: stopping; a second signal exits immediately", shutdown.to_stop)
        return self._drain(DONE)

    def _settle_name(self) -> None:
        """Store the agent name once the monitor has seen it."""
        if self._wrote.is_set():
            with suppress(StorageUnavailable):  # tried again after the next tick
                self._name.settle()

    def _log_shortage(self) -> None:
        """Log at the start that the disk is full: else nothing would, until the first message."""
        try:
            self._disk_space.check()
        except StorageUnavailable as exc:
            logger.error("intake stopped: {}", exc)

    def run_once(self, shutdown: SignalRequests) -> int:
        """Process pending work; returns the exit code: 1 if work remains."""
        self._brokers.start()
        self.presence.start()
        deadline = self._clock.monotonic() + 10.0
        while not shutdown.to_stop:
            self.engine.tick(0.1)
            self.presence.wake_stages()
            broker_known = self._brokers.up or self._clock.monotonic() > deadline
            may_find_more = self._watcher is not None and self._watcher.may_find_more()
            if broker_known and not may_find_more and (self.engine.idle or self.engine.fault):
                break  # a fault: the database is not writable, no work can be done now
        self.presence.report_now()
        while not (shutdown.to_stop or self.engine.fault or self.presence.is_settled):
            if self._clock.monotonic() > deadline:
                break
            self.engine.tick(0.1)
        unfinished = self._outbox.unfinished()
        if unfinished:
            logger.warning("{} STFs are unfinished: see fastmon-daemon inspect", unfinished)
        is_done = not unfinished and (self._watcher is None or self._watcher.can_store)
        return self._drain(DONE if is_done else WORK_REMAINS)

    def _drain(self, code: int) -> int:
        """Finish in-flight work and disconnect, within FASTMON_DRAIN_S; returns *code*, or 75 if not clean."""
        forced_exit = threading.Timer(self._settings.drain_s + FORCED_EXIT_S, os._exit, [EXIT_NOT_DRAINED])
        forced_exit.daemon = True
        forced_exit.start()  # in case a library blocks; the database is consistent at any time
        sd_notify.notify(self._values, "STOPPING=1")
        deadline = self._clock.monotonic() + self._settings.drain_s
        self.presence.announce_stop()
        self.engine.stopping.set()
        self._stopping.set()
        if self._watching is not None:
            self._watching.stop()
            self._watching.join(1.0)
        while (self.engine.tick(0.1) or self.presence.is_reporting) and self._clock.monotonic() < deadline:
            pass
        self.inbox.close()
        clean = not self.engine.busy
        self.presence.stop(deadline - self._clock.monotonic())
        clean &= self._brokers.stop(max(0.5, deadline - self._clock.monotonic()))
        self._pools.shutdown(wait=clean)
        self.monitor.close()
        self.reconciler.listening.end(self._outbox)
        self._settle_name()
        logger.info("stopped{}", "" if clean else " at the deadline; in-flight work is repeated at the next start")
        return code if clean else EXIT_NOT_DRAINED


def _start_startup_probe(monitor: MonitorClient, report_link: Callable[[LinkEvent], None]) -> None:
    """Probe *monitor* once in a thread of its own; report only failures. A bad token shows before the first STF."""

    def probe() -> None:
        try:
            monitor.probe()
        except LinkDown as exc:
            report_link(LinkEvent("monitor", up=False, reason=str(exc), blocked=isinstance(exc, LinkBlocked)))
        except Exception:  # noqa: BLE001 (nothing else would log it: the engine probes only a link that is down)
            logger.exception("startup probe of the monitor: unexpected error")

    threading.Thread(target=probe, name="startup-probe", daemon=True).start()
