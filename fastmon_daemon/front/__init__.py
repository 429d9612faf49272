"""What monitoring systems ask over HTTP, read-only: `/healthz` and `/metrics`.

It must not know the engine, and is never in its way: a thread of its own, and short reads of the database.
"""

from fastmon_daemon.front.metrics import MetricsCollector
from fastmon_daemon.front.pulse import Liveness
from fastmon_daemon.front.server import serve

__all__ = ["Liveness", "MetricsCollector", "serve"]
