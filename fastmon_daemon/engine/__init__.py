"""The engine: what is due -> its effects in the pool -> facts back -> move, postpone or fail.

Its thread alone moves STFs. It must not know STOMP, HTTP or signals; it asks the chart for names and the steps for
what is owed.
"""

from fastmon_daemon.engine.circuit_breakers import CircuitBreakers
from fastmon_daemon.engine.concurrency_limits import CallPools
from fastmon_daemon.engine.config import EngineConfig
from fastmon_daemon.engine.engine import Engine
from fastmon_daemon.engine.inbox import Inbox, LinkEvent
from fastmon_daemon.engine.transitions import BUDGET_S

__all__ = ["BUDGET_S", "CallPools", "CircuitBreakers", "Engine", "EngineConfig", "Inbox", "LinkEvent"]
