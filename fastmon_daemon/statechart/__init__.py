"""The statecharts: loads `statecharts/*.yaml`, answers which transitions they allow, and renders them as diagrams.

This package knows neither the outbox nor the engine.
"""

from fastmon_daemon.statechart.machine import StatechartName, StateMachine, load_statechart

__all__ = ["StateMachine", "StatechartName", "load_statechart"]
