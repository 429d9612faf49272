"""The verdict: do data flow, what is missing, since when, what to do; and the four tiles that it stands for. Pure.

`judge` reads `Facts` and nothing else. In order, the first that holds decides:

1. UNKNOWN: neither the stream nor the tables of the monitor answer.
2. NOT FLOWING: no daemon lives, or a running run gets no TF file; the reason names who is silent.
3. NOT FLOWING, in the colour of the other tiles: no run takes data.
4. DEGRADED: TF files come, and a tile is not good.
5. UNKNOWN: a tile is unknown.
6. FLOWING: all four tiles are good.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from fastmon_client.formatting import age, count_of
from fastmon_client.snapshot import (
    AgentRow,
    ConnectionRow,
    DaemonTile,
    FlowTile,
    MissingTile,
    MonitorTile,
    PartRow,
    RunRow,
    Tiles,
    TileState,
    VerdictRow,
    VerdictWord,
)

OPEN = ("imminent", "running", "paused")
COUNTED_AFTER_END = timedelta(hours=8)
"""Missing STFs of a run count in the tile for a shift after its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TablesStatus:
    """What the last call of the monitor's tables answered."""

    read_at: datetime | None = None
    """Last answer."""
    failure: str | None = None
    """Why the last call failed."""
    since: datetime | None = None
    """When it began to fail."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that is known at one moment; pure data."""

    at: datetime
    stale_after: timedelta
    connection: ConnectionRow
    is_late: bool = False
    """Whether the stream was not reached in time."""
    tables: TablesStatus
    runs: Sequence[RunRow]
    """Shown runs, newest first."""
    daemons: Sequence[AgentRow]
    """Those that matter now."""
    agents_are_known: bool
    """Whether the table of agents was read recently."""
    agents_failure: str = ""
    """Why it cannot be read."""
    silent_data_agents: dict[str | None, str] = field(default_factory=dict)
    """Namespace -> name and host of its data agent, if it is silent."""
    silent_daqs: dict[str | None, str] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    """Evidence of alarms on the flow: source_silent, agents_unmatched, rate_dropped."""


@dataclass(frozen=True, slots=True)
class Cause:
    """One thing that is not good."""

    kind: Literal["blind", "stopped", "idle", "degraded", "unknown"]
    reason: str
    remedy: str = ""
    since: str | None = None


def judge(facts: Facts) -> tuple[VerdictRow, Tiles]:
    """The verdict and its tiles; `since` is None where the facts do not say it."""
    monitor, causes = _monitor(facts)
    for tile_causes in (found := _Found(facts)).causes:
        causes += tile_causes
    tiles: Tiles = {"flow": found.flow, "missing": found.missing, "daemon": found.daemon, "monitor": monitor}
    return _verdict(causes, tiles), tiles


def _verdict(causes: Sequence[Cause], tiles: Tiles) -> VerdictRow:
    first = {kind: next((each for each in causes if each.kind == kind), None) for kind in _WORDS}
    if found := first["blind"] or first["stopped"]:
        return _row(_WORDS[found.kind], "unknown" if found.kind == "blind" else "bad", found)
    if idle := first["idle"]:
        other = first["degraded"]
        if other is None:
            return _row("NOT FLOWING", "unknown", idle)
        states = (tiles["daemon"]["state"], tiles["monitor"]["state"])
        whole = Cause("idle", f"{idle.reason}; {other.reason}", other.remedy, idle.since)
        return _row("NOT FLOWING", "bad" if "bad" in states else "warning", whole)
    if found := first["degraded"]:
        return _row("DEGRADED", "warning", found)
    if found := first["unknown"]:
        return _row("UNKNOWN", "unknown", found)
    texts = (tiles["flow"]["text"], tiles["missing"]["text"])
    assert all(tile["state"] == "good" for tile in (tiles["flow"], tiles["missing"], tiles["daemon"], tiles["monitor"]))
    return _row("FLOWING", "good", Cause("unknown", "; ".join(texts)))


_WORDS: dict[str, VerdictWord] = {
    "blind": "UNKNOWN", "stopped": "NOT FLOWING", "idle": "NOT FLOWING", "degraded": "DEGRADED", "unknown": "UNKNOWN",
}  # fmt: skip


def _row(word: VerdictWord, state: TileState, cause: Cause) -> VerdictRow:
    return {"word": word, "state": state, "since": cause.since, "reason": cause.reason, "remedy": cause.remedy}


# Monitor


def _monitor(facts: Facts) -> tuple[MonitorTile, list[Cause]]:
    stream, tables = _stream(facts), _tables(facts)
    connection, status = facts.connection, facts.tables
    causes = []
    both = f"stream: {stream['text']}; tables: {tables['text']}"
    if "good" not in (stream["state"], tables["state"]):
        is_bad = "bad" in (stream["state"], tables["state"])
        reason = stream["text"] if connection["state"] == "REFUSED" else f"monitor does not answer: {_reason(facts)}"
        remedy = "check the connection: fastmon-client status" if is_bad else ""
        since = connection["since"] if connection["state"] != "CONNECTING" or is_bad else None
        causes.append(Cause("blind", reason if is_bad else "connecting to the monitor", remedy, since))
    elif stream["state"] == "bad":
        reason = f"the stream is lost ({connection['reason'] or 'no response'}): numbers come from the tables, late"
        causes.append(Cause("degraded", reason, "check the stream: fastmon-client status", connection["since"]))
    elif tables["state"] == "bad":
        since = status.since.isoformat() if status.since else None
        causes.append(
            Cause("degraded", f"the tables cannot be read, so numbers are UNKNOWN: {status.failure}",
                  "check the tables: fastmon-client status", since)
        )  # fmt: skip
    elif "unknown" in (stream["state"], tables["state"]):
        causes.append(Cause("unknown", both))
    state = _worst(stream["state"], tables["state"])
    text = "stream and tables answer" if state == "good" else both
    return {"state": state, "text": text, "stream": stream, "tables": tables}, causes


def _reason(facts: Facts) -> str:
    """The one reason: the stream's, unless only the tables have one."""
    return facts.connection["reason"] or facts.tables.failure or "no response"


def _stream(facts: Facts) -> PartRow:
    found = facts.connection
    if found["state"] == "LIVE":
        return {"state": "good", "text": "LIVE"}
    if found["state"] == "CONNECTING" and not facts.is_late:
        return {"state": "unknown", "text": found["reason"] or "connecting"}
    return {"state": "bad", "text": f"{found['state']}: {found['reason'] or 'no response'}"}


def _tables(facts: Facts) -> PartRow:
    status = facts.tables
    if status.failure is not None:
        return {"state": "bad", "text": status.failure}
    if status.read_at is None:
        return {"state": "unknown", "text": "not read yet"}
    return {"state": "good", "text": f"read {age((facts.at - status.read_at).total_seconds())} ago"}


def _worst(*states: TileState) -> TileState:
    order: tuple[TileState, ...] = ("bad", "warning", "unknown", "good")
    return next(state for state in order if state in states)


# Flow, missing, daemon


class _Found:
    """The three tiles that are about runs and daemons, with their causes."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._open = [run for run in facts.runs if run["state"] in OPEN]
        self._newest_tf = max((run["last_at"] for run in facts.runs if run["last_at"]), default=None)
        daemon_causes = list(self._daemon_causes())
        flow_state, flow_text, flow_causes = self._flow()
        missing_causes: list[Cause] = []
        self.missing = self._missing(missing_causes)
        self.flow: FlowTile = {
            "state": flow_state, "text": flow_text, "rate_hz": round(sum(run["rate_hz"] for run in facts.runs), 3),
            "last_tf_file_at": self._newest_tf, "age_s": self._age_s(self._newest_tf),
        }  # fmt: skip
        self.daemon = self._daemon(daemon_causes)
        self.causes = (daemon_causes, flow_causes, missing_causes)

    def _age_s(self, time: str | None) -> float | None:
        return max(0.0, (self._facts.at - datetime.fromisoformat(time)).total_seconds()) if time else None

    def _flow(self) -> tuple[TileState, str, list[Cause]]:
        facts = self._facts
        running = [run for run in self._open if run["state"] == "running"]
        if not self._open:
            ended = max((run["ended_at"] for run in facts.runs if run["ended_at"]), default=None)
            last = f" since run {facts.runs[0]['run']} ended" if facts.runs and ended else ""
            what = f"no run takes data{last}"
            return "unknown", what, [Cause("idle", what, "", ended)]
        if not running:
            run = self._open[0]
            what = f"run {run['run']} is {run['state']}"
            return "unknown", what, [Cause("idle", what)]
        stopped = [run for run in running if self._has_stopped(run)]
        if stopped:
            run, is_all = stopped[0], len(stopped) == len(running)
            reason, remedy = next(self._suspects(run))
            since = run["last_at"] or run["began_at"]
            cause = Cause("stopped" if is_all else "degraded", reason, remedy, since)
            return "bad", f"run {run['run']}: no TF file for {age(self._age_s(since))}", [cause]
        if not any(run["tf_files"] for run in running):
            what = f"run {running[0]['run']} has begun: no TF file yet"
            return "unknown", what, [Cause("unknown", what)]
        rate = sum(run["rate_hz"] for run in running)
        text = f"{rate:.1f} TF files/s, the last {age(self._age_s(self._newest_tf))} ago"
        causes = [Cause("degraded", each, "see the alarm") for each in facts.warnings]
        return "warning" if causes else "good", text, causes

    def _has_stopped(self, run: RunRow) -> bool:
        if run["stale"]:
            return True
        found = self._age_s(run["last_at"])
        return found is not None and found > self._facts.stale_after.total_seconds() and run["rate_hz"] == 0

    def _suspects(self, run: RunRow) -> Iterator[tuple[str, str]]:
        """Who is silent, and what to do; the first is the one to name."""
        facts, number, namespace = self._facts, run["run"], run["namespace"]
        ours = [agent for agent in facts.daemons if namespace in (None, agent["namespace"])]
        for agent in ours:
            if agent["state"] in ("bad", "warning"):
                yield f"{_where(agent)}: {agent['text']}", f"{_there(agent)}: fastmon-daemon inspect"
        generated_age, registered_at = self._age_s(run["stf_generated_at"]), run["stf_registered_at"]
        newest_tf = run["last_at"] or run["began_at"]
        if registered_at and (newest_tf is None or _is_later(registered_at, newest_tf)):
            remedy = f"{_there(ours[0])}: fastmon-daemon inspect" if ours else "on the daemon's host: see its log"
            yield f"STFs of run {number} are registered, but TF files are not made of them", remedy
        if data_agent := facts.silent_data_agents.get(namespace):
            yield f"the data agent {data_agent} is silent", "restart it on its host"
        if generated_age is not None and generated_age <= facts.stale_after.total_seconds():
            yield f"the DAQ makes STFs of run {number}, but the data agent registers none", "check the data agent"
        ask = f"ask the DAQ's shifter whether run {number} still takes data"
        if daq := facts.silent_daqs.get(namespace):
            yield f"the DAQ's agent {daq} is silent", ask
        if generated_age is not None:
            yield f"the DAQ is silent: it makes no STFs of run {number}", ask
        if facts.tables.failure is not None:
            yield f"no TF file of run {number} comes, and the tables cannot tell why", "fastmon-client status"
        yield f"no STF of run {number} is registered: the DAQ or the data agent is silent", ask

    def _missing(self, causes: list[Cause]) -> MissingTile:
        facts, counted = self._facts, self._counted_runs()
        bad = [run for run in counted if (run["stfs_missing"] or 0) + run["stfs_incomplete"]]
        count = sum((run["stfs_missing"] or 0) + run["stfs_incomplete"] for run in bad)
        if bad:
            run, more = bad[0], f" and {count_of(len(bad) - 1, 'more run')}" if len(bad) > 1 else ""
            text = f"{count_of(count, 'STF')} of run {run['run']}{more}"
            where = next((_there(each) for each in facts.daemons if each["state"] != "bad"), "on the daemon's host")
            causes.append(
                Cause("degraded", f"TF files of {text} are missing", f"{where}: fastmon-daemon verdict {run['run']}")
            )
            return {"state": "warning", "text": text, "count": count, "run": run["run"]}
        doubtful = [run for run in counted if run["verified"] != "VERIFIED" or run["stfs_missing"] is None]
        if doubtful:
            run = doubtful[0]
            text = f"run {run['run']}: {run['doubt'] or 'number of missing STFs unknown'}"
            causes.append(Cause("unknown", text))
            return {"state": "unknown", "text": text, "count": None, "run": run["run"]}
        if not counted:
            return {"state": "unknown", "text": "no run", "count": None, "run": None}
        names = ", ".join(run["run"] for run in counted[:3]) + (" ..." if len(counted) > 3 else "")
        return {"state": "good", "text": f"none in run {names}", "count": 0, "run": None}

    def _counted_runs(self) -> list[RunRow]:
        """Open runs, the newest one, and those with missing STFs that ended lately; newest first."""
        since = (self._facts.at - COUNTED_AFTER_END).isoformat()
        return [
            run for number, run in enumerate(self._facts.runs)
            if run["state"] in OPEN or number == 0
            or ((run["stfs_missing"] or run["stfs_incomplete"]) and (run["ended_at"] or "") > since)
        ]  # fmt: skip

    def _daemon(self, causes: Sequence[Cause]) -> DaemonTile:
        facts = self._facts
        backlogs = [each["backlog"] for each in facts.daemons if each["backlog"] is not None and not each["since"]]
        states = [each["state"] for each in facts.daemons]
        if not facts.agents_are_known:
            state: TileState = "unknown"
        else:
            state = _worst(*states) if states else "bad"
        text = causes[0].reason if causes else "; ".join(f"{_where(each)}: {each['text']}" for each in facts.daemons)
        return {
            "state": state, "text": text, "backlog": sum(backlogs) if backlogs else None,
            "heartbeat_age_s": min((each["heartbeat_age_s"] for each in facts.daemons), default=None),
            "agents": list(facts.daemons),
        }  # fmt: skip

    def _daemon_causes(self) -> Iterator[Cause]:
        facts = self._facts
        if not facts.agents_are_known:
            why = facts.agents_failure or facts.tables.failure or "not read yet"
            yield Cause("unknown", f"whether a daemon lives is unknown: agents: {why}")
            return
        if not facts.daemons:
            kind: Literal["degraded", "stopped"] = "degraded" if self._flows() else "stopped"
            yield Cause(kind, "no daemon reports to the monitor", "start fastmon-daemon, or check --namespace")
            return
        alive = {agent["namespace"] for agent in facts.daemons if agent["since"] is None}
        for agent in facts.daemons:
            since = agent["since"]
            if since is None:
                continue
            is_stopped = agent["namespace"] not in alive and not self._made_tf_files_after(since, agent["namespace"])
            act = "start" if agent["status"] == "EXITED" else "status"
            yield Cause(
                "stopped" if is_stopped else "degraded", f"{_where(agent)} {agent['text']}",
                f"{_there(agent)}: systemctl {act} fastmon-daemon", since,
            )  # fmt: skip
        for agent in facts.daemons:
            if agent["since"] is None and agent["state"] in ("bad", "warning"):
                reason = f"{_where(agent)}: {agent['text']}"
                yield Cause("degraded", reason, f"{_there(agent)}: fastmon-daemon inspect")

    def _flows(self) -> bool:
        found = self._age_s(self._newest_tf)
        return found is not None and found <= self._facts.stale_after.total_seconds()

    def _made_tf_files_after(self, since: str, namespace: str | None) -> bool:
        runs = [run for run in self._facts.runs if run["namespace"] == namespace and run["last_at"]]
        return self._flows() and any(_is_later(run["last_at"] or "", since) for run in runs)


def _is_later(time: str, than: str) -> bool:
    """Whether *time* is clearly later: announcements and heart-beats have clocks of their own."""
    return datetime.fromisoformat(time) - datetime.fromisoformat(than) > timedelta(seconds=15)


def _where(agent: AgentRow) -> str:
    return f"{agent['name']} on {agent['host']}" if agent["host"] else agent["name"]


def _there(agent: AgentRow) -> str:
    return f"on {agent['host']}" if agent["host"] else "on the daemon's host"
