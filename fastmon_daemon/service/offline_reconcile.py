"""`reconcile` without a running daemon: takes the database lock and makes the calls one by one in this thread."""

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
from fastmon_daemon.service.clients import monitor_client
from fastmon_daemon.service.process import ProcessContext
from fastmon_daemon.statechart import load_statechart


def reconcile_offline(context: ProcessContext, request: ActionRequest) -> ReconcileResult:
    """Compare a run with the monitor and ingest the STFs that are missing.

    Raises: LinkDown, PermanentError from the monitor; StorageError from the database.
    """
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
    disk_space = DiskSpaceGuard(context.database, context.settings.min_free_mb, Clock().monotonic)
    reconciler = Reconciler(
        ReconcilerConfig(
            monitor=monitor,
            charts=charts,
            is_selected=selected,
            refuse_if_short=disk_space.check,
            intervals=ReconcilerIntervals(lookups_per_s=0),
        ),
        TrackedRuns(),
    )
    listing = monitor.stf_files(run_number_to_reconcile(request))
    with outbox.transaction():
        compare = reconciler.reconcile(request.run or "", context.settings.namespace, listing, request.by)
        result = compare(outbox, utcnow())
    while reconciler.backfill.busy:
        for task in reconciler.backfill.tasks(outbox, utcnow()):
            _perform(task, outbox)
    logger.info("run {}: {} STFs ingested", result.run, len(result.taken_in))
    return result


def _perform(task: BackgroundTask, outbox: Outbox) -> None:
    try:
        answer = task.call()
    except LinkDown:
        raise
    except FastmonError as exc:
        answer = exc
    with outbox.transaction():
        task.done(outbox, answer, utcnow())
