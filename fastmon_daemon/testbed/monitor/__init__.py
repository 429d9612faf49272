"""The testbed's monitor: `MonitorServer` for asyncio, `MonitorThread` for everything else."""

from fastmon_daemon.testbed.monitor.faults import BadFaults, Faults, OnBroker
from fastmon_daemon.testbed.monitor.server import MonitorOptions, MonitorServer
from fastmon_daemon.testbed.monitor.thread import MonitorThread

__all__ = ["BadFaults", "Faults", "MonitorOptions", "MonitorServer", "MonitorThread", "OnBroker"]
