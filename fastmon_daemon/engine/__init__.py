"""The engine: finds due STFs, runs the calls of their steps in pools, and stores the results.

Only the engine's thread moves STFs. This package knows no STOMP, HTTP or signals: the statechart names the states, and
the steps name the calls.
"""

from fastmon_daemon.engine.circuit_breakers import CircuitBreakers
from fastmon_daemon.engine.concurrency_limits import CallPools
from fastmon_daemon.engine.engine import Engine
from fastmon_daemon.engine.inbox import Inbox, LinkEvent
from fastmon_daemon.engine.steps import EngineConfig
from fastmon_daemon.engine.tasks import BackgroundTask

__all__ = [
    "BackgroundTask",
    "CallPools",
    "CircuitBreakers",
    "Engine",
    "EngineConfig",
    "Inbox",
    "LinkEvent",
]
