"""How we stand among the other agents, out of the settings: our name, and the ways by which we tell of ourselves.

It must not know what is told.
"""

from __future__ import annotations

from datetime import datetime
from functools import partial

from fastmon_daemon.base.backoff import retry_for
from fastmon_daemon.base.clock import Clock
from fastmon_daemon.base.links import links_for
from fastmon_daemon.broker import BrokerConnection
from fastmon_daemon.engine import Engine
from fastmon_daemon.monitor import AgentClient, RestClient
from fastmon_daemon.outbox import Outbox
from fastmon_daemon.presence.agent import Presence
from fastmon_daemon.presence.health import HealthCheckConfig, HealthChecker
from fastmon_daemon.presence.heartbeat import Heartbeat
from fastmon_daemon.presence.identity import Registration, agent_name
from fastmon_daemon.presence.log_shipping import LogShipper
from fastmon_daemon.presence.periodic_worker import PeriodicWorker, WorkerErrors
from fastmon_daemon.presence.stages import StageReporter, StageReporterConfig
from fastmon_daemon.presence.status import StatusPublisher
from fastmon_daemon.presence.stuck import StuckRule
from fastmon_daemon.service.credentials import secret_reader, user_name
from fastmon_daemon.service.process import ProcessContext
from fastmon_daemon.settings import Settings
from fastmon_daemon.statechart import load_statechart

_PATIENCE_S = 3.0
"""So long the very first start waits for the monitor to give us a number."""
_TIMEOUT_S = (3.05, 5.0)
_DEADLINE_S = 8.0
_CONNECTIONS = 4  # the lanes that use it, and one to spare


def agent_client(context: ProcessContext, *, deadline_s: float = _DEADLINE_S) -> AgentClient:
    """A desk with connections of its own: what hangs there holds up no registration."""
    settings, values = context.settings, context.values
    return AgentClient(
        RestClient(
            settings.monitor_url,
            secret_reader(values, "SWF_API_TOKEN", settings.monitor_token, context.secrets),
            connections=_CONNECTIONS,
            ca=settings.monitor_ca,
            environ=values,
            timeout_s=(min(deadline_s, _TIMEOUT_S[0]), min(deadline_s, _TIMEOUT_S[1])),
            deadline_s=deadline_s,
            patience_s=0.0,  # what one of its calls is asked for must not silence the heart-beats
        )
    )


def log_client(context: ProcessContext) -> AgentClient:
    """The desk that takes log lines. Another URL than the monitor's gets no token: it may be a plain one."""
    settings = context.settings
    if settings.logs_url is None:
        return agent_client(context)
    return AgentClient(
        RestClient(
            settings.logs_url,
            lambda: "",
            connections=1,
            ca=settings.monitor_ca,
            environ=context.values,
            timeout_s=_TIMEOUT_S,
            deadline_s=_DEADLINE_S,
        )
    )


def switch_stages(outbox: Outbox, settings: Settings, now: datetime) -> None:
    """Note whether stages are reported; what came to rest while they were not need not be told later."""
    before = outbox.recall("stages")
    outbox.remember("stages", "on" if settings.stages else "off")
    if settings.stages and before == "off":
        outbox.stages.discard_pending(now)


def registered_name(context: ProcessContext, outbox: Outbox, instance: str) -> str:
    """Our agent name; at the very first start the monitor is asked, but not waited for."""
    desk = agent_client(context, deadline_s=_PATIENCE_S)
    try:
        user = user_name(context.values)
        ask = partial(retry_for(_PATIENCE_S), desk.next_agent_id)
        return agent_name(outbox, context.settings.agent_name, user, instance, ask)
    finally:
        desk.close()


def stuck_rule(settings: Settings) -> StuckRule:
    """When an STF counts as stuck."""
    return StuckRule(
        chart=load_statechart("stf"), links=links_for(settings.notify), stuck_after_s=settings.stuck_after_s
    )


def make_presence(
    context: ProcessContext,
    name: str,
    engine: Engine,
    broker: BrokerConnection | None,
    clock: Clock,
    errors: WorkerErrors,
    *,
    sign_of_life: bool,
) -> Presence:
    """All that is told of us; heart-beats and status messages where a *sign_of_life* is to be given.

    Status messages go by REST where announcements do, else by the *broker* if any. Log lines are taken from now on.
    """
    settings, namespace, desk = context.settings, context.settings.namespace, agent_client(context)
    announce = desk.announce if settings.notify == "rest" else broker.announce if broker else None
    config = HealthCheckConfig(
        database=context.database,
        stuck=stuck_rule(settings),
        errors=errors,
        connected=(lambda: broker.up) if broker else None,
        clock=clock,
    )
    lanes = []
    if sign_of_life:
        destination = settings.subscribe if settings.mode == "message" else ""
        registration = Registration(desk, name, namespace, user_name(context.values), destination)
        heartbeat = Heartbeat(desk, name, namespace, HealthChecker(config), registration)
        lanes.append(PeriodicWorker("heart-beat", heartbeat.tick, heartbeat.on_stop, errors=errors))
    if sign_of_life and announce:
        status = StatusPublisher(announce, name, namespace, HealthChecker(config))
        lanes.append(PeriodicWorker("status", status.tick, status.on_stop, errors=errors))
    if settings.rest_logging:
        run = HealthChecker(config).run
        shipping = LogShipper(log_client(context), name, context.secrets.redact, run, clock.monotonic)
        shipping.begin(settings.log_level)
        lanes.append(PeriodicWorker("log-shipping", shipping.tick, shipping.on_stop, errors=errors))
    trade = StageReporterConfig(
        agent_client=desk,
        agent_name=name,
        chart=config.stuck.chart,
        ask=engine.inbox.submit,
        busy=lambda: engine.busy > 0,
    )
    stages = StageReporter(trade, HealthChecker(config), errors) if settings.stages else None
    return Presence(lanes, stages, clock.monotonic)
