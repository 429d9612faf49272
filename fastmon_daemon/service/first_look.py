"""A look at the monitor at the start: without one, a wrong token would not be heard of before the first STF.

It must not know what becomes of the news.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from fastmon_daemon.engine import LinkNews
from fastmon_daemon.errors import LinkDown, LinkHeld
from fastmon_daemon.monitor import Monitor


def look_at(monitor: Monitor, tell: Callable[[LinkNews], None]) -> None:
    """Ask *monitor* whether it lets us write, in a thread that nobody waits for; only bad news is told."""

    def look() -> None:
        try:
            monitor.probe()
        except LinkDown as exc:
            tell(LinkNews("monitor", up=False, reason=str(exc), held=isinstance(exc, LinkHeld)))

    threading.Thread(target=look, name="first-look", daemon=True).start()
