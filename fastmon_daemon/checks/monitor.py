"""What can be checked at the monitor: its address, its answers, the token, its clock, and the agents beside us.

It only reads; the one POST is the probe of the daemon, which registers nothing. It must not know HTTP.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from fastmon_daemon.base.clock import Clock
from fastmon_daemon.base.errors import PermanentError
from fastmon_daemon.checks.runner import Check, CheckResult, CheckStatus
from fastmon_daemon.monitor import Agent, AgentDirectory, MonitorClient
from fastmon_daemon.service import ProcessContext

SKEW_S = 5.0
"""So far two clocks may be apart; a heart-beat that is later than 3 minutes counts as gone."""
_GONE_AFTER = timedelta(minutes=3)
_KIND = "fastmon"


def monitor_checks(world: ProcessContext, monitor: MonitorClient, own_name: str, clock: Clock) -> Iterator[Check]:
    """Those that apply; *own_name* is the agent name of the daemon that is checked."""
    settings = world.settings
    around = AgentDirectory(monitor, settings.monitor_url, world.values)
    looks = _MonitorProbe(world, around, own_name, clock)
    base = "is it running, and is SWF_MONITOR_URL its base URL?"
    yield Check(name="monitor address", call=lambda: CheckResult(CheckStatus.OK, around.addresses()), hint=base)
    yield Check(name="monitor", call=looks.answers, needs=("monitor address",), hint=base)
    yield Check(name="token", call=lambda: _token(monitor), needs=("monitor",))
    yield Check(name="clock", call=looks.clock, needs=("monitor",))
    if settings.notify == "rest":
        yield Check(name="messages", call=looks.messages, needs=("monitor",))
    yield Check(name="namespace", call=looks.namespace, needs=("monitor",))
    yield Check(name="other daemons", call=looks.others, needs=("monitor",))
    yield Check(name="selection", call=looks.selection)


def _token(monitor: MonitorClient) -> CheckResult:
    monitor.probe()
    return CheckResult(CheckStatus.OK, "SWF_API_TOKEN may write")


class _MonitorProbe:
    """What is seen of the monitor; the list of agents is asked for once."""

    def __init__(self, world: ProcessContext, around: AgentDirectory, own_name: str, clock: Clock) -> None:
        self._settings = world.settings
        self._around = around
        self._own_name = own_name
        self._clock = clock
        self._agents: list[Agent] | None = None
        """None: not listed (yet)."""

    def answers(self) -> CheckResult:
        self._around.date()
        return CheckResult(CheckStatus.OK, f"{self._settings.monitor_url} answers as a monitor does")

    def clock(self) -> CheckResult:
        began, mark = self._clock.now(), self._clock.monotonic()
        theirs = self._around.date()
        took = self._clock.monotonic() - mark
        if theirs is None:
            return CheckResult(CheckStatus.SKIPPED, "the monitor's answers tell no time")
        ours = began + timedelta(seconds=took / 2)
        apart = (ours - theirs).total_seconds() - 0.5  # it tells whole seconds
        if abs(apart) <= SKEW_S + took / 2:
            return CheckResult(CheckStatus.OK, f"ours and the monitor's are less than {SKEW_S:g} s apart")
        which = "ahead of" if apart > 0 else "behind"
        return CheckResult(
            CheckStatus.WARNING, f"ours is {abs(apart):.0f} s {which} the monitor's", "run an NTP client on both"
        )

    def messages(self) -> CheckResult:
        self._around.takes_messages()
        return CheckResult(CheckStatus.OK, "FASTMON_NOTIFY=rest: the monitor takes messages")

    def namespace(self) -> CheckResult:
        name = self._settings.namespace
        try:
            self._agents = self._around.agents()
        except PermanentError as exc:
            return CheckResult(
                CheckStatus.WARNING, f"{name}: the monitor does not list its agents: {exc}", "ask its operator"
            )
        strangers = [each for each in self._agents or () if each.name != self._own_name]
        here = [each.name for each in strangers if each.namespace == name]
        if here:
            return CheckResult(CheckStatus.OK, f"{name}: {len(here)} other agents are known in it, {here[0]} for one")
        if strangers:
            found = f"{name}: none of the {len(strangers)} other agents that the monitor knows is in it"
            return CheckResult(CheckStatus.WARNING, found, "is FASTMON_NAMESPACE spelt as theirs is?")
        return CheckResult(CheckStatus.OK, f"{name}: the monitor knows no other agent yet")

    def others(self) -> CheckResult:
        if self._agents is None:
            return CheckResult(CheckStatus.SKIPPED, "not known without the list of agents, see namespace")
        alive = [each for each in self._rivals() if self._is_alive(each)]
        if not alive:
            return CheckResult(CheckStatus.OK, "no other fastmon agent is alive in the namespace")
        names = ", ".join(f"{each.name} on {each.host or 'an unknown host'}" for each in alive)
        hint = "stop one, unless they share a queue; on a topic each STF would be announced twice"
        return CheckResult(CheckStatus.WARNING, f"alive in the namespace: {names}", hint)

    def selection(self) -> CheckResult:
        fraction = self._settings.selection_fraction
        if fraction == 1:
            return CheckResult(CheckStatus.OK, "every STF is sampled")
        found = f"{fraction:g} of the STFs are sampled (FASTMON_SELECTION_FRACTION)"
        before = [each.name for each in self._rivals()]
        if not before:
            return CheckResult(CheckStatus.OK, f"{found}; 1.0 takes every one, as the older agent did")
        hint = "set FASTMON_SELECTION_FRACTION=1.0 to take its place"
        return CheckResult(CheckStatus.WARNING, f"{found}; if {before[0]} is the older agent, it took every one", hint)

    def _rivals(self) -> list[Agent]:
        namespace = self._settings.namespace
        return [
            each
            for each in self._agents or ()
            if each.kind.lower() == _KIND and each.namespace == namespace and each.name != self._own_name
        ]

    def _is_alive(self, agent: Agent) -> bool:
        recent = agent.beat_at is not None and self._clock.now() - agent.beat_at < _GONE_AFTER
        return recent and agent.status != "EXITED"
