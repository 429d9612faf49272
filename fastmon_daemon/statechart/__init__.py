"""The statecharts: loads `statecharts/*.yaml`, answers which transitions they allow, and renders them as diagrams.

This package knows neither the outbox nor the engine.
"""

from transitions import MachineError

from fastmon_daemon.statechart.machine import (
    StatechartError,
    StatechartName,
    StateMachine,
    Transition,
    load_statechart,
    parse_statechart,
)

__all__ = [
    "MachineError",
    "StateMachine",
    "StatechartError",
    "StatechartName",
    "Transition",
    "load_statechart",
    "parse_statechart",
]
