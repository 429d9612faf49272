"""The outbox: one SQLite database, in which one row per STF is inbox and outbox at once. All SQL stands here.

It must not know the names of states (a row with `due_at` null is resting), HTTP or STOMP.
"""

from fastmon_daemon.outbox.backup import back_up
from fastmon_daemon.outbox.checking import Finding, check_database
from fastmon_daemon.outbox.faults import storage_errors
from fastmon_daemon.outbox.fitness import refuse_network_file_system
from fastmon_daemon.outbox.opening import attach, connect, open_for_reading, open_outbox
from fastmon_daemon.outbox.owning import Lock, owner_of
from fastmon_daemon.outbox.reports import Reports
from fastmon_daemon.outbox.retention import PrunedRun
from fastmon_daemon.outbox.room import Room, free_bytes, shortage
from fastmon_daemon.outbox.rows import (
    ABSENCE,
    Announced,
    Arrival,
    Due,
    Fact,
    HistoryRow,
    NewStf,
    Origin,
    Outage,
    Registered,
    RunRow,
    Sampled,
    Stf,
    Tf,
)
from fastmon_daemon.outbox.runs import Latency, RunReports, Runs, TfCounts
from fastmon_daemon.outbox.stages import UNREPORTABLE, Debt
from fastmon_daemon.outbox.store import Outbox

__all__ = [
    "ABSENCE",
    "UNREPORTABLE",
    "Announced",
    "Arrival",
    "Debt",
    "Due",
    "Fact",
    "Finding",
    "HistoryRow",
    "Latency",
    "Lock",
    "NewStf",
    "Origin",
    "Outage",
    "Outbox",
    "PrunedRun",
    "Registered",
    "Reports",
    "Room",
    "RunReports",
    "RunRow",
    "Runs",
    "Sampled",
    "Stf",
    "Tf",
    "TfCounts",
    "attach",
    "back_up",
    "check_database",
    "connect",
    "free_bytes",
    "open_for_reading",
    "open_outbox",
    "owner_of",
    "refuse_network_file_system",
    "shortage",
    "storage_errors",
]
