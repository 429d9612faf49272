"""The ledger of the runs: what was heard of each, what the monitor names that we never heard of, and when it is over.

It must not know STOMP or HTTP. Its errands run in the engine's pool; their answers come back in the engine's thread.
"""

from fastmon_daemon.reconciler.comparing import ReconcileResult
from fastmon_daemon.reconciler.config import ReconcilerConfig, SummaryRoute
from fastmon_daemon.reconciler.reconciler import Reconciler

__all__ = [
    "ReconcileResult",
    "Reconciler",
    "ReconcilerConfig",
    "SummaryRoute",
]
