"""The embedded monitor: `MonitorServer` for asyncio, `MonitorThread` for programs without asyncio."""

from fastmon_daemon.testbed.monitor.faults import BadFaults, Faults, OnBrokerFault
from fastmon_daemon.testbed.monitor.server import MonitorOptions, MonitorServer
from fastmon_daemon.testbed.monitor.thread import MonitorThread

__all__ = ["BadFaults", "Faults", "MonitorOptions", "MonitorServer", "MonitorThread", "OnBrokerFault"]
