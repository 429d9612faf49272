"""The ledger of the runs: what was heard of each, what the monitor names that we never heard of, and when it is over.

It must not know STOMP or HTTP. Its errands run in the engine's pool; their answers come back in the engine's thread.
"""

from fastmon_daemon.ledger.comparing import Found
from fastmon_daemon.ledger.hearing import hear_run, hear_sequence, look_soon
from fastmon_daemon.ledger.ledger import Ledger
from fastmon_daemon.ledger.means import Means, Paces, SummaryRoute
from fastmon_daemon.ledger.runs import TrackedRuns

__all__ = [
    "Found",
    "Ledger",
    "Means",
    "Paces",
    "SummaryRoute",
    "TrackedRuns",
    "hear_run",
    "hear_sequence",
    "look_soon",
]
