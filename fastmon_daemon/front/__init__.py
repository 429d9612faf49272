"""What monitoring systems ask over HTTP, read-only: `/healthz` and `/metrics`.

It must not know the engine, and is never in its way: a thread of its own, and short reads of the database.
"""

from fastmon_daemon.front.metrics import Gauges
from fastmon_daemon.front.pulse import Pulse
from fastmon_daemon.front.server import served

__all__ = ["Gauges", "Pulse", "served"]
