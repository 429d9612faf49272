"""The REST edge: asks the monitor, and says in our own errors what its answers mean.

It must not know the outbox, the chart or what a TF is drawn from. Only here is requests imported.
"""

from fastmon_daemon.monitor.answers import Refused
from fastmon_daemon.monitor.desk import Desk
from fastmon_daemon.monitor.edge import Monitor
from fastmon_daemon.monitor.exchange import Exchange
from fastmon_daemon.monitor.neighbours import Agent, Neighbours
from fastmon_daemon.monitor.rows import StfFile, TfFile
from fastmon_daemon.monitor.stf_registry import NewStfFile, StfRegistry
from fastmon_daemon.monitor.tally import Tally

__all__ = [
    "Agent",
    "Desk",
    "Exchange",
    "Monitor",
    "Neighbours",
    "NewStfFile",
    "Refused",
    "StfFile",
    "StfRegistry",
    "Tally",
    "TfFile",
]
