"""The testbed's STOMP broker: `BrokerConnection` for asyncio, `BrokerThread` for everything else."""

from fastmon_daemon.testbed.stomp_broker.broker import Broker
from fastmon_daemon.testbed.stomp_broker.destinations import DEAD_LETTERS, Subscription
from fastmon_daemon.testbed.stomp_broker.frames import Frame, ProtocolError
from fastmon_daemon.testbed.stomp_broker.session import Counters, Hook, Session, Verdict
from fastmon_daemon.testbed.stomp_broker.thread import BrokerThread

__all__ = [
    "DEAD_LETTERS",
    "Broker",
    "BrokerThread",
    "Counters",
    "Frame",
    "Hook",
    "ProtocolError",
    "Session",
    "Subscription",
    "Verdict",
]
