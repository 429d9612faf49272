"""The engine's configuration."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tenacity import Retrying

from fastmon_daemon.base.clock import Clock
from fastmon_daemon.engine.steps import Step
from fastmon_daemon.statechart import StateMachine


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """The rules for every STF, and the clock. Raises: StatechartError if *chart* and *steps* differ."""

    chart: StateMachine
    steps: Mapping[str, Step]
    links: Mapping[str, str]
    """Step -> the link that its calls need; a step that is missing here needs none."""
    in_process_retry: Callable[[], Retrying]
    """The immediate retries of a call before its failure counts."""
    late_rate: float = 0.0
    """Announcements of late STFs per second; 0: no limit."""
    clock: Clock = field(default_factory=Clock)
    jitter: Callable[[], float] = random.random

    def __post_init__(self) -> None:
        self.chart.check_steps(set(self.steps))
