"""The embedded STOMP broker: `Broker` for asyncio, `BrokerThread` for programs without asyncio."""

from fastmon_daemon.testbed.stomp_broker.broker import Broker, BrokerThread
from fastmon_daemon.testbed.stomp_broker.destinations import DEAD_LETTERS, Subscription
from fastmon_daemon.testbed.stomp_broker.frames import Frame, ProtocolError
from fastmon_daemon.testbed.stomp_broker.session import Counters, Hook, HookResult, Session

__all__ = [
    "DEAD_LETTERS",
    "Broker",
    "BrokerThread",
    "Counters",
    "Frame",
    "Hook",
    "HookResult",
    "ProtocolError",
    "Session",
    "Subscription",
]
