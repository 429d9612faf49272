"""How we stand among the other agents, out of the settings: our name, and the ways by which we tell of ourselves.

It must not know what is told.
"""

from __future__ import annotations

from datetime import datetime
from functools import partial

from fastmon_daemon.broker import Broker
from fastmon_daemon.clock import Clock
from fastmon_daemon.engine import Engine
from fastmon_daemon.lifecycle import load_chart
from fastmon_daemon.monitor import Desk, Exchange
from fastmon_daemon.outbox import Outbox
from fastmon_daemon.presence import Citizen, Patient, Presence, agent_name
from fastmon_daemon.retrying import for_a_while
from fastmon_daemon.service.logins import secret_reader, user_name
from fastmon_daemon.service.world import World
from fastmon_daemon.settings import Settings
from fastmon_daemon.steps import links_for
from fastmon_daemon.watching import Watcher

_PATIENCE_S = 3.0
"""So long the very first start waits for the monitor to give us a number."""
_TIMEOUT_S = (3.05, 5.0)
_DEADLINE_S = 8.0
_CONNECTIONS = 4  # the lanes that use it, and one to spare


def desk_for(world: World, *, deadline_s: float = _DEADLINE_S) -> Desk:
    """A desk with connections of its own: what hangs there holds up no registration."""
    settings, values = world.settings, world.values
    return Desk(
        Exchange(
            settings.monitor_url,
            secret_reader(values, "SWF_API_TOKEN", settings.monitor_token, world.secrets),
            connections=_CONNECTIONS,
            ca=settings.monitor_ca,
            environ=values,
            timeout_s=(min(deadline_s, _TIMEOUT_S[0]), min(deadline_s, _TIMEOUT_S[1])),
            deadline_s=deadline_s,
            patience_s=0.0,  # what one of its calls is asked for must not silence the heart-beats
        )
    )


def logs_desk_for(world: World) -> Desk:
    """The desk that takes log lines. Another URL than the monitor's gets no token: it may be a plain one."""
    settings = world.settings
    if settings.logs_url is None:
        return desk_for(world)
    return Desk(
        Exchange(
            settings.logs_url,
            lambda: "",
            connections=1,
            ca=settings.monitor_ca,
            environ=world.values,
            timeout_s=_TIMEOUT_S,
            deadline_s=_DEADLINE_S,
        )
    )


def switch_stages(outbox: Outbox, settings: Settings, now: datetime) -> None:
    """Note whether stages are reported; what came to rest while they were not need not be told later."""
    before = outbox.recall("stages")
    outbox.remember("stages", "on" if settings.stages else "off")
    if settings.stages and before == "off":
        outbox.stages.forgive(now)


def name_of(world: World, outbox: Outbox, instance: str) -> str:
    """Our agent name; at the very first start the monitor is asked, but not waited for."""
    desk = desk_for(world, deadline_s=_PATIENCE_S)
    try:
        user = user_name(world.values)
        ask = partial(for_a_while(_PATIENCE_S), desk.next_agent_id)
        return agent_name(outbox, world.settings.agent_name, user, instance, ask)
    finally:
        desk.close()


def presence_of(
    world: World, name: str, engine: Engine, broker: Broker | None, watcher: Watcher | None, clock: Clock
) -> Presence:
    """All that is told of us; status messages go by REST where announcements do, else by the *broker* if any."""
    settings, values = world.settings, world.values
    chart = load_chart("stf")
    desk = desk_for(world)
    by_broker = broker.announce if broker else None
    return Presence(
        Citizen(
            name=name,
            owner=user_name(values),
            settings=settings,
            secrets=world.secrets,
            patient=Patient(
                database=world.database,
                chart=chart,
                links=links_for(settings.notify),
                stuck_after_s=settings.stuck_after_s,
                connected=(lambda: broker.up) if broker else None,
                clock=clock,
                watcher_failure=watcher.failure if watcher else None,
            ),
            desk=desk,
            logs_desk=logs_desk_for(world),
            announce=desk.announce if settings.notify == "rest" else by_broker,
            ask=engine.ask,
            busy=lambda: engine.busy > 0,
        )
    )
