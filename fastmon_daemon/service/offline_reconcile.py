"""A look at a run by hand while no daemon runs: with the database's lock, call after call in this thread.

It must not know argv, nor how what was found is shown.
"""

from __future__ import annotations

from functools import partial

from loguru import logger

from fastmon_daemon.actions.operator_actions import ActionRequest, run_number_to_reconcile
from fastmon_daemon.base.clock import Clock, utcnow
from fastmon_daemon.base.errors import FastmonError, LinkDown
from fastmon_daemon.engine.background_tasks import BackgroundTask
from fastmon_daemon.engine.sampling import is_selected
from fastmon_daemon.monitor import MonitorClient
from fastmon_daemon.outbox import DatabaseLock, DiskSpaceGuard, Outbox, open_outbox
from fastmon_daemon.reconciler.comparing import ReconcileResult
from fastmon_daemon.reconciler.config import ReconcilerConfig
from fastmon_daemon.reconciler.reconciler import Reconciler
from fastmon_daemon.runs.poll_state import ReconcilerIntervals
from fastmon_daemon.runs.tracked_runs import TrackedRuns
from fastmon_daemon.service.credentials import monitor_client
from fastmon_daemon.service.process import ProcessContext
from fastmon_daemon.statechart import load_statechart


def reconcile_offline(context: ProcessContext, request: ActionRequest) -> ReconcileResult:
    """Ask the monitor, take in what is missing. Raises as the monitor and the database do."""
    with DatabaseLock(context.database):
        monitor = monitor_client(context.settings, context.values, context.secrets)
        outbox = open_outbox(context.database)
        try:
            return _reconcile(context, request, monitor, outbox)
        finally:
            outbox.close()
            monitor.close()


def _reconcile(
    context: ProcessContext, request: ActionRequest, monitor: MonitorClient, outbox: Outbox
) -> ReconcileResult:
    charts = (load_statechart("stf"), load_statechart("run"))
    selected = partial(is_selected, context.settings.selection_fraction)
    room = DiskSpaceGuard(context.database, context.settings.min_free_mb, Clock().monotonic)
    ledger = Reconciler(
        ReconcilerConfig(
            monitor=monitor,
            charts=charts,
            is_selected=selected,
            refuse_if_short=room.check,
            intervals=ReconcilerIntervals(lookups_per_s=0),
        ),
        TrackedRuns(),
    )
    named = monitor.stf_files(run_number_to_reconcile(request))
    with outbox.transaction():
        found = ledger.reconcile(request.run or "", context.settings.namespace, named, request.by)(outbox, utcnow())
    while ledger.backfill.busy:
        for task in ledger.backfill.tasks(outbox, utcnow()):
            _do(task, outbox)
    logger.info("run {}: {} STFs taken in", found.run, len(found.taken_in))
    return found


def _do(task: BackgroundTask, outbox: Outbox) -> None:
    try:
        answer = task.call()
    except LinkDown:
        raise
    except FastmonError as exc:
        answer = exc
    with outbox.transaction():
        task.done(outbox, answer, utcnow())
