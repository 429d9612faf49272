"""The STOMP edge: one connection to the broker that is kept up; it hands over what arrives and confirms what leaves.

It must not know the outbox, the chart or the steps. Only here is stomp imported.
"""

from fastmon_daemon.broker.connection import BrokerConnection, LinkStateChange
from fastmon_daemon.broker.parameters import ConnectionParameters
from fastmon_daemon.broker.probe import check_login, check_reachable, measure_round_trip

__all__ = [
    "BrokerConnection",
    "ConnectionParameters",
    "LinkStateChange",
    "check_login",
    "check_reachable",
    "measure_round_trip",
]
