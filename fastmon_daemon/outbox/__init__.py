"""The outbox: one SQLite database, in which one row per STF is inbox and outbox at once. All SQL stands here.

It must not know the names of states (a row with `due_at` null is resting), HTTP or STOMP.
"""

from fastmon_daemon.outbox.opening import Lock, attach, open_for_reading, open_outbox, owner_of
from fastmon_daemon.outbox.reports import Reports
from fastmon_daemon.outbox.rows import (
    ABSENCE,
    Announced,
    Arrival,
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
from fastmon_daemon.outbox.run_reports import Latency, RunReports, TfCounts
from fastmon_daemon.outbox.runs import Runs
from fastmon_daemon.outbox.stages import UNREPORTABLE, Debt
from fastmon_daemon.outbox.store import Outbox

__all__ = [
    "ABSENCE",
    "UNREPORTABLE",
    "Announced",
    "Arrival",
    "Debt",
    "Fact",
    "HistoryRow",
    "Latency",
    "Lock",
    "NewStf",
    "Origin",
    "Outage",
    "Outbox",
    "Registered",
    "Reports",
    "RunReports",
    "RunRow",
    "Runs",
    "Sampled",
    "Stf",
    "Tf",
    "TfCounts",
    "attach",
    "open_for_reading",
    "open_outbox",
    "owner_of",
]
