"""A look at a run by hand while no daemon runs: with the database's lock, call after call in this thread.

It must not know argv, nor how what was found is shown.
"""

from __future__ import annotations

from functools import partial

from loguru import logger

from fastmon_daemon.acts import Wish, number_to_reconcile
from fastmon_daemon.clock import Clock, utcnow
from fastmon_daemon.errands import Errand
from fastmon_daemon.errors import FastmonError, LinkDown
from fastmon_daemon.ledger import Found, Ledger, Means, Paces, TrackedRuns
from fastmon_daemon.lifecycle import load_chart
from fastmon_daemon.monitor import Monitor
from fastmon_daemon.outbox import Lock, Outbox, Room, open_outbox
from fastmon_daemon.sampling import is_selected
from fastmon_daemon.service.logins import monitor_of
from fastmon_daemon.service.process import World


def reconcile_alone(world: World, wish: Wish) -> Found:
    """Ask the monitor, take in what is missing. Raises as the monitor and the database do."""
    with Lock(world.database):
        monitor = monitor_of(world.settings, world.values, world.secrets)
        outbox = open_outbox(world.database)
        try:
            return _reconcile(world, wish, monitor, outbox)
        finally:
            outbox.close()
            monitor.close()


def _reconcile(world: World, wish: Wish, monitor: Monitor, outbox: Outbox) -> Found:
    charts = (load_chart("stf"), load_chart("run"))
    selected = partial(is_selected, world.settings.selection_fraction)
    room = Room(world.database, world.settings.min_free_mb, Clock().monotonic)
    ledger = Ledger(
        Means(
            monitor=monitor,
            charts=charts,
            selected=selected,
            refuse_if_short=room.refuse_if_short,
            paces=Paces(lookups_per_s=0),
        ),
        TrackedRuns(),
    )
    named = monitor.stf_files(number_to_reconcile(wish))
    with outbox.transaction():
        found = ledger.reconcile(wish.run or "", world.settings.namespace, named, wish.by)(outbox, utcnow())
    while ledger.recovery.busy:
        for errand in ledger.recovery.errands(outbox, utcnow()):
            _do(errand, outbox)
    logger.info("run {}: {} STFs taken in", found.run, len(found.taken_in))
    return found


def _do(errand: Errand, outbox: Outbox) -> None:
    try:
        answer = errand.call()
    except LinkDown:
        raise
    except FastmonError as exc:
        answer = exc
    with outbox.transaction():
        errand.done(outbox, answer, utcnow())
