"""`reconcile` without a running daemon: takes the database lock and makes the calls one by one in this thread."""

from __future__ import annotations

from contextlib import closing

from loguru import logger

from fastmon_daemon.actions.operator_actions import ActionRequest, recorded, run_number_to_reconcile
from fastmon_daemon.base.clock import Clock, utcnow
from fastmon_daemon.base.errors import FastmonError, LinkDown
from fastmon_daemon.engine import BackgroundTask
from fastmon_daemon.engine.selection_fractions import SelectionFractions
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
    settings = context.settings
    with (
        DatabaseLock(context.database),
        closing(monitor_client(context)) as monitor,
        closing(open_outbox(context.database)) as outbox,
    ):
        config = ReconcilerConfig(
            monitor=monitor,
            database=context.database,
            charts=(load_statechart("stf"), load_statechart("run")),
            is_selected=SelectionFractions.load(outbox, settings.selection_fraction).selects,
            refuse_if_short=DiskSpaceGuard(context.database, settings.min_free_mb, Clock().monotonic).check,
            intervals=ReconcilerIntervals(lookups_per_s=0),
        )
        reconciler = Reconciler(config, TrackedRuns())
        run, namespace = request.run or "", settings.namespace
        listing = reconciler.list_run(run_number_to_reconcile(request), run, namespace, recovering=set())
        compare = reconciler.reconcile(run, namespace, listing, request.by)
        with outbox.transaction():
            result = recorded(compare, request)(outbox, utcnow())
        while reconciler.backfill.busy:
            for task in reconciler.backfill.tasks(outbox, utcnow()):
                _perform(task, outbox)
        logger.info("run {}: {} STFs ingested", result.run, len(result.recovered))
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
