"""The STOMP edge: `Broker` keeps one link to the message broker up, hands over what arrives and confirms what leaves.

It must not know the outbox, the chart or the steps. Only here is stomp imported.
"""

from fastmon_daemon.broker.link import Broker, LinkChange
from fastmon_daemon.broker.login import BrokerLogin
from fastmon_daemon.broker.trial import log_in, reach, round_trip

__all__ = ["Broker", "BrokerLogin", "LinkChange", "log_in", "reach", "round_trip"]
