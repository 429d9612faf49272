"""The ledger of the runs: what was heard of each, what the monitor names that we never heard of, and when it is over.

It must not know STOMP or HTTP. Its errands run in the engine's pool; their answers come back in the engine's thread.
"""

from fastmon_daemon.ledger.comparing import ReconcileResult
from fastmon_daemon.ledger.hearing import record_run_event, record_sequence, schedule_poll
from fastmon_daemon.ledger.ledger import Reconciler
from fastmon_daemon.ledger.means import ReconcilerConfig, ReconcilerIntervals, SummaryRoute
from fastmon_daemon.ledger.runs import TrackedRuns

__all__ = [
    "ReconcileResult",
    "Reconciler",
    "ReconcilerConfig",
    "ReconcilerIntervals",
    "SummaryRoute",
    "TrackedRuns",
    "record_run_event",
    "record_sequence",
    "schedule_poll",
]
