"""What `fastmon-daemon check` tries, each thing once and within its time, beside a daemon at work as well.

Nothing here writes to the database, to the monitor, or to a destination that somebody else listens to.
"""

from fastmon_daemon.checks.trying import Check, Line, Outcome, Subject, attempt
from fastmon_daemon.checks.whole import checks_of

__all__ = ["Check", "Line", "Outcome", "Subject", "attempt", "checks_of"]
