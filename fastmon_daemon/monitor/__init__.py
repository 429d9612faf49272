"""The REST edge: asks the monitor, and says in our own errors what its answers mean.

It must not know the outbox, the chart or what a TF is drawn from. Only here is requests imported.
"""

from fastmon_daemon.monitor.answers import AnswerCount, OutcomeUnknown, Refused
from fastmon_daemon.monitor.desk import Desk
from fastmon_daemon.monitor.edge import Monitor
from fastmon_daemon.monitor.exchange import Exchange
from fastmon_daemon.monitor.neighbours import Agent, Neighbours
from fastmon_daemon.monitor.rows import StfFile, TfFile
from fastmon_daemon.monitor.stf_registry import NewStfFile, StfRegistry

__all__ = [
    "Agent",
    "AnswerCount",
    "Desk",
    "Exchange",
    "Monitor",
    "Neighbours",
    "NewStfFile",
    "OutcomeUnknown",
    "Refused",
    "StfFile",
    "StfRegistry",
    "TfFile",
]
