"""Checks of the monitor: its address, responses, token, clock, and the other agents.

The checks are read-only; the one POST is the daemon's own probe, which registers nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from functools import partial

from fastmon_daemon.actions.daemon_state import DaemonState
from fastmon_daemon.base.clock import Clock
from fastmon_daemon.base.errors import PermanentError
from fastmon_daemon.checks.runner import Check, CheckResult, ok, skipped, warning
from fastmon_daemon.monitor import MonitorClient
from fastmon_daemon.monitor.directory import Agent, current_date, describe_address, list_agents
from fastmon_daemon.runs.peers import PeerDirectory
from fastmon_daemon.service import ProcessContext

SKEW_S = 5.0
"""Tolerated difference between the two clocks, in seconds."""
_ALIVE_FOR = timedelta(minutes=3)
"""Age of the last heart-beat up to which an agent counts as alive."""


def monitor_checks(
    context: ProcessContext, monitor: MonitorClient, agent_name: str, clock: Clock, running: DaemonState | None
) -> Iterator[Check]:
    """Yield the checks that apply.

    *agent_name* is that of the checked daemon, empty if it has none yet; *running* is its state, if it runs.
    """
    settings = context.settings
    probe = _MonitorProbe(context, monitor, agent_name, clock)
    url_hint = "start the monitor, or set SWF_MONITOR_URL to its base URL"
    yield Check(
        name="monitor address",
        call=lambda: ok(describe_address(monitor, settings.monitor_url, context.values)),
        hint=url_hint,
    )
    yield Check(name="monitor", call=probe.answers, needs=("monitor address",), hint=url_hint)
    yield Check(name="token", call=lambda: _token(monitor), needs=("monitor",))
    yield Check(name="clock", call=probe.clock, needs=("monitor",))
    if settings.notify == "rest":
        yield Check(name="messages", call=probe.messages, needs=("monitor",))
    yield Check(name="namespace", call=probe.namespace, needs=("monitor",))
    yield Check(name="other daemons", call=probe.others, needs=("monitor",))
    yield Check(name="selection", call=lambda: probe.selection(running))


def _token(monitor: MonitorClient) -> CheckResult:
    monitor.probe()
    return ok("SWF_API_TOKEN allows writing")


class _MonitorProbe:
    """The checks of the responses; the list of agents is requested once."""

    def __init__(self, context: ProcessContext, monitor: MonitorClient, agent_name: str, clock: Clock) -> None:
        self._settings = context.settings
        self._monitor = monitor
        self._agent_name = agent_name
        self._clock = clock
        self._agents: list[Agent] | None = None
        """None until it was requested successfully."""

    def answers(self) -> CheckResult:
        current_date(self._monitor)
        return ok(f"{self._settings.monitor_url} responds like a monitor")

    def clock(self) -> CheckResult:
        started_at, started = self._clock.now(), self._clock.monotonic()
        theirs = current_date(self._monitor)
        took = self._clock.monotonic() - started
        if theirs is None:
            return skipped("responses of the monitor have no Date header")
        ours = started_at + timedelta(seconds=took / 2)
        difference_s = (ours - theirs).total_seconds() - 0.5  # Date has whole seconds
        if abs(difference_s) <= SKEW_S + took / 2:
            return ok(f"clocks of this host and of the monitor differ by less than {SKEW_S:g} s")
        direction = "ahead of" if difference_s > 0 else "behind"
        return warning(f"this host is {abs(difference_s):.0f} s {direction} the monitor", "run NTP on both hosts")

    def messages(self) -> CheckResult:
        self._monitor.probe_messages()
        return ok("the monitor accepts messages (FASTMON_NOTIFY=rest)")

    def namespace(self) -> CheckResult:
        name = self._settings.namespace
        try:
            self._agents = list_agents(self._monitor)
        except PermanentError as exc:
            return warning(f"{name}: the monitor does not list its agents: {exc}", "ask the operator of the monitor")
        others = [each for each in self._agents or () if each.name != self._agent_name]
        here = [each.name for each in others if each.namespace == name]
        if here:
            return ok(f"{name}: other agents: {len(here)}, for example {here[0]}")
        if others:
            found = f"{name}: none of the {len(others)} other agents of the monitor is in this namespace"
            return warning(found, "check the spelling of FASTMON_NAMESPACE")
        return ok(f"{name}: the monitor knows no other agents yet")

    def others(self) -> CheckResult:
        if self._agents is None:
            return skipped("no list of agents, see namespace")
        if self._settings.shared_queue:
            return self._sharing(self._agents)
        alive = [each for each in self._other_daemons() if self._is_alive(each)]
        if not alive:
            return ok("no other fastmon agent is running in the namespace")
        names = ", ".join(f"{each.name} on {each.host or 'an unknown host'}" for each in alive)
        hint = "stop one, or let them share a queue: on a topic, each STF would be announced twice"
        return warning(f"running in the namespace: {names}", hint)

    def _sharing(self, agents: list[Agent]) -> CheckResult:
        settings = self._settings
        peers = PeerDirectory(
            lambda: (agents, current_date(self._monitor)), self._agent_name or "this one", settings.namespace,
            destination=settings.shared_queue, reconcile=settings.reconcile, clock=self._clock,
        )  # fmt: skip
        names = [each.name for each in peers.current().sharing]
        if fault := peers.fault():
            return warning(fault, 'see docs/scaling.md, "Several daemons on one queue"')
        others = ", ".join(names) or "no other daemon yet"
        return ok(f"{settings.shared_queue} is shared with {others}; {peers.reconcilers[0]} reconciles")

    def selection(self, running: DaemonState | None) -> CheckResult:
        """Check what the running daemon samples; without one, what the settings say."""
        here = partial(getattr, self._settings)
        fraction = running.value("selection_fraction", here) if running else here("selection_fraction")
        by = " by the running daemon" if running and running.settings else ""
        if fraction == 1:
            return ok(f"every STF is sampled{by}")
        found = f"{fraction:g} of the STFs are sampled{by} (FASTMON_SELECTION_FRACTION)"
        agents = [each.name for each in self._other_daemons()]
        if not agents:
            return ok(f"{found}; set 1.0 to process every STF, like older agents")
        hint = "set FASTMON_SELECTION_FRACTION=1.0 to replace it"
        return warning(f"{found}; {agents[0]}, if it is an older agent, processed every STF", hint)

    def _other_daemons(self) -> list[Agent]:
        namespace = self._settings.namespace
        return [
            each
            for each in self._agents or ()
            if each.is_daemon and each.namespace == namespace and each.name != self._agent_name
        ]

    def _is_alive(self, agent: Agent) -> bool:
        recent = agent.beat_at is not None and self._clock.now() - agent.beat_at < _ALIVE_FOR
        return recent and agent.status != "EXITED"
