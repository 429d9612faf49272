"""The STOMP edge: keeps one connection to the broker up, hands over incoming messages and sends announcements.

Only this package imports stomp. It must not know the outbox, the statecharts or the steps.
"""

from fastmon_daemon.broker.connection import BrokerConnection, LinkStateChange
from fastmon_daemon.broker.parameters import ConnectionParameters
from fastmon_daemon.broker.probe import check_login, check_reachable, check_sending, measure_round_trip

__all__ = [
    "BrokerConnection",
    "ConnectionParameters",
    "LinkStateChange",
    "check_login",
    "check_reachable",
    "check_sending",
    "measure_round_trip",
]
