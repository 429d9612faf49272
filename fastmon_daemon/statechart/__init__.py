"""The statecharts: reads `statecharts/*.yaml`, answers which transitions they allow, and renders them as diagrams.

It must not know the outbox or the engine: a chart is asked, it does not act.
"""

from fastmon_daemon.statechart.machine import (
    MachineError,
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
