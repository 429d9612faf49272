"""The outbox: one SQLite database; one row per STF is both its inbox and its outbox. All SQL is in this package.

It knows no names of states (a row with `due_at` null is finalized), no HTTP and no STOMP.
"""

from fastmon_daemon.outbox.backup import back_up
from fastmon_daemon.outbox.database import attach, check_exists, open_for_reading, open_outbox
from fastmon_daemon.outbox.disk_space import DiskSpaceGuard, free_bytes, shortage
from fastmon_daemon.outbox.file_checks import check_folder, check_local_file_system
from fastmon_daemon.outbox.integrity import check_database
from fastmon_daemon.outbox.lock import DatabaseLock, owner_of
from fastmon_daemon.outbox.models import (
    DAEMON_DOWNTIME,
    Act,
    Announced,
    Elsewhere,
    HistoryRow,
    Latency,
    NewStf,
    Origin,
    Outage,
    PendingReport,
    ReceiveOutcome,
    Registered,
    RunRow,
    Sampled,
    StageKeys,
    StepResult,
    Stf,
    Tf,
    TfCounts,
)
from fastmon_daemon.outbox.queries import DueQuery
from fastmon_daemon.outbox.reader import OutboxReader
from fastmon_daemon.outbox.runs import Runs
from fastmon_daemon.outbox.sqlite_errors import storage_errors
from fastmon_daemon.outbox.stage_reports import COALESCED_UPDATES, SINGLE_UPDATES, UNREPORTABLE
from fastmon_daemon.outbox.store import Outbox

__all__ = [
    "COALESCED_UPDATES",
    "DAEMON_DOWNTIME",
    "SINGLE_UPDATES",
    "UNREPORTABLE",
    "Act",
    "Announced",
    "DatabaseLock",
    "DiskSpaceGuard",
    "DueQuery",
    "Elsewhere",
    "HistoryRow",
    "Latency",
    "NewStf",
    "Origin",
    "Outage",
    "Outbox",
    "OutboxReader",
    "PendingReport",
    "ReceiveOutcome",
    "Registered",
    "RunRow",
    "Runs",
    "Sampled",
    "StageKeys",
    "StepResult",
    "Stf",
    "Tf",
    "TfCounts",
    "attach",
    "back_up",
    "check_database",
    "check_exists",
    "check_folder",
    "check_local_file_system",
    "free_bytes",
    "open_for_reading",
    "open_outbox",
    "owner_of",
    "shortage",
    "storage_errors",
]
