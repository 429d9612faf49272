"""What `inspect` has to say, as plain values: what is stuck and why, the links, the life of one STF.

Each function returns exactly what `--json` prints. This module must not know how it is shown to people.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from fastmon_daemon.clock import moment, stamp
from fastmon_daemon.lifecycle import Chart
from fastmon_daemon.outbox import ABSENCE, UNREPORTABLE, Reports, Stf

NO_DAEMON = "no daemon is running"
_EVER = datetime.max.replace(tzinfo=UTC)
_RECENT_OUTAGES = 100

View = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the answers depend on beside the database."""

    chart: Chart
    links: Mapping[str, str]
    """Step -> the link that it needs."""
    stuck_after_s: float
    now: datetime
    daemon: int | None
    """Process id of the daemon that owns the database; None: there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which STFs are asked for, and how many of them at most (negative: all)."""

    state: str | None = None
    run: str | None = None
    limit: int = 20


class Findings:
    """One look at the database, at one moment."""

    def __init__(self, reports: Reports, rules: Rules) -> None:
        self._reports = reports
        self._rules = rules
        self.links = _links(reports, rules)
        chart = rules.chart
        self._for_a_person = tuple(state for state in chart.states if chart.may(state, "retry"))
        self._working = tuple(state for state in chart.states if not chart.is_resting(state))
        self._hurt = tuple(state for state in self._working if not self._waits_for_link(state))
        age = timedelta(seconds=rules.stuck_after_s)
        self._before = _EVER if rules.daemon is None else rules.now - age

    def overview(self, wanted: Wanted) -> View:
        """Counts, what is stuck, links and runs; a state or run in *wanted* narrows it to those STFs and lists them.

        Links, counters, refused messages and the oldest work are those of the whole database all the same.
        """
        reports = self._reports
        counts = reports.counts_by_state(wanted.run)
        oldest = reports.oldest_unfinished()
        stuck, stuck_count = self._stuck(wanted)
        counters = reports.counters()
        view: View = {
            "states": {state: counts.get(state, 0) for state in self._rules.chart.states},
            "stuck_count": stuck_count,
            "stuck": [self._row(stf) for stf in stuck],
            "oldest": self._row(oldest) if oldest else None,
            "links": self.links,
            "refused_count": reports.refused_count(),
            "runs": [view for view in self._runs() if wanted.run in (None, view["run"])],
            "stages": {"owed": reports.stages.count_owed(), "unreportable": counters.get(UNREPORTABLE, 0)},
            "counters": counters,
        }
        if wanted.state or wanted.run:
            view["stf_count"] = reports.count_stfs(wanted.state, wanted.run)
            stfs = reports.list_stfs(wanted.state, wanted.run, limit=wanted.limit)
            view["stfs"] = [self._row(stf) for stf in stfs]
        return view

    def _runs(self) -> list[View]:
        """Each run with how many of its STFs are known, and how many are wanting to what is expected so far.

        *pruned* is what is still known of the STFs that were dropped because the run is old (null: none was).
        """
        known = self._reports.by_run.known_counts()
        pruned = {(each.namespace, each.run): each for each in self._reports.pruned_runs()}
        views = []
        for run in self._reports.runs():
            gone = pruned.get((run.namespace, run.run))
            count = known.get((run.namespace, run.run), 0) + (sum(gone.states.values()) if gone else 0)
            most = run.last_sequence or 0 if run.expected is None else run.expected
            views.append({**asdict(run), "known": count, "missing": max(0, most - count),
                          "pruned": asdict(gone) if gone else None})  # fmt: skip
        return views

    def refused(self, limit: int) -> View:
        """The refused messages that are kept, the latest first, and whether anything is stuck."""
        return {
            "stuck_count": self._stuck(Wanted(limit=0))[1],
            "refused_count": self._reports.refused_count(),
            "refused": [asdict(row) for row in self._reports.refused(limit)],
        }

    def lives(self, name: str, run: str | None) -> View:
        """All that is known of the STFs called *name*: one for each run that has it, perhaps none."""
        stfs = self._reports.stf(name, run)
        return {"stuck_count": sum(map(self._is_stuck, stfs)), "stfs": [self._life(stf) for stf in stfs]}

    def _life(self, stf: Stf) -> View:
        tfs = [asdict(tf) for tf in stf.tfs]
        known = {
            "sequence": stf.sequence,
            "size_bytes": stf.size_bytes,
            "checksum": stf.checksum,
            "tf_count": stf.tf_count,
            "execution_id": stf.execution_id,
            "origin": str(stf.origin),
            "admitted": stf.admitted,
            "life": stf.life,
            "received_at": stf.received_at,
            "born_at": stf.born_at,
            "remark": stf.remark,
            "plan": asdict(stf.plan) if stf.plan else None,
            "stage": asdict(self._reports.stages.keys(stf.id)),
        }
        history = [asdict(row) for row in self._reports.history(stf.id)]
        return {**self._row(stf), **known, "tfs": tfs, "history": history}

    def _row(self, stf: Stf) -> View:
        return {
            "stf": stf.filename,
            "run": stf.run,
            "namespace": stf.namespace,
            "state": stf.state,
            "since": stf.since,
            "stuck": self._is_stuck(stf),
            "why": self._why(stf),
            "attempts": stf.attempts,
            "last_error": stf.last_error,
            "next": self._next(stf),
            "next_try_at": stf.due_at if self._is_put_off(stf) else None,
        }

    def _stuck(self, wanted: Wanted) -> tuple[list[Stf], int]:
        """Those that need a person first: a long backlog must not hide them."""
        found: list[Stf] = []
        count = 0
        for states, before in ((self._for_a_person, _EVER), (self._hurt, self._before)):
            asked = tuple(state for state in states if wanted.state in (None, state))
            count += self._reports.count_in_state_since(asked, before, wanted.run)
            room = wanted.limit - len(found) if wanted.limit >= 0 else -1
            found += self._reports.in_state_since(asked, before, room, wanted.run)
        return found, count

    def _is_stuck(self, stf: Stf) -> bool:
        if stf.state in self._for_a_person:
            return True
        return stf.state in self._hurt and moment(stf.since) <= self._before

    def _why(self, stf: Stf) -> str | None:
        """Why it is where it is; None where it rests in peace."""
        if stf.state in self._for_a_person:
            return stf.last_error or "no reason was given"
        if stf.state not in self._working:
            return None
        error = f"; last error: {stf.last_error}" if stf.last_error else ""
        if self._rules.daemon is None:
            return NO_DAEMON + error
        link = self._link_of(stf.state)
        if link and link["state"] != "up":
            return f"{link['link']} is {link['state']}{error}"
        return stf.last_error or "it waits for its turn"

    def _next(self, stf: Stf) -> str:
        """What comes next, in words: the step, or the acts that are open to a person."""
        chart = self._rules.chart
        step = chart.step_from(stf.state)
        if step is None:
            acts = [name for name, who in chart.decisions.items() if who == "person" and chart.may(stf.state, name)]
            return f"nothing, unless a person decides: {' or '.join(acts)}" if acts else "nothing"
        if self._rules.daemon is None:
            return f"{step}, when a daemon runs"
        link = self._link_of(stf.state)
        if link and link["state"] != "up":
            return f"{step}, when the {link['link']} is back"
        return f"{step}, at {stf.due_at}" if self._is_put_off(stf) else f"{step}, now"

    def _is_put_off(self, stf: Stf) -> bool:
        return stf.due_at is not None and moment(stf.due_at) > self._rules.now

    def _link_of(self, state: str) -> View | None:
        step = self._rules.chart.step_from(state)
        return self.links.get(self._rules.links.get(step or "", ""))

    def _waits_for_link(self, state: str) -> bool:
        """Whether the state's link is down, or came back so lately that nothing can be said yet."""
        link = self._link_of(state)
        if link is None or link["state"] == "unknown":
            return False
        if link["state"] != "up":
            return True
        back = link["since"]
        return back is not None and moment(back) > self._rules.now - timedelta(seconds=self._rules.stuck_after_s)


def _links(reports: Reports, rules: Rules) -> dict[str, View]:
    """Each link as the daemon saw it last: up, down, held (it answers, but refuses us) or unknown."""
    found: dict[str, View] = {}
    for name in dict.fromkeys(("monitor", "broker", *rules.links.values())):
        up = {"link": name, "state": "up", "since": None, "reason": None, "next_probe_at": None}
        found[name] = up if rules.daemon is not None else {**up, "state": "unknown", "reason": NO_DAEMON}
    if rules.daemon is None:
        return found
    for outage in reversed(reports.outages.latest(open_only=False, limit=_RECENT_OUTAGES)):
        if outage.link == ABSENCE:
            continue
        found[outage.link] = {
            **found.get(outage.link, {}),
            "link": outage.link,
            "state": "up",
            "since": outage.ended_at,
        }
    for outage in reports.outages.latest(open_only=True, limit=_RECENT_OUTAGES):
        found[outage.link] = {
            "link": outage.link,
            "state": "held" if outage.held else "down",
            "since": outage.began_at,
            "reason": outage.reason,
            "next_probe_at": outage.next_probe_at,
        }
    return found


def envelope(view: View, rules: Rules, database: tuple[str, str]) -> View:
    """*view* with what it was read from: *database* (its path and the rule that chose it), the moment, the daemon."""
    path, chosen_by = database
    return {
        "database": path,
        "chosen_by": chosen_by,
        "at": stamp(rules.now),
        "daemon": rules.daemon,
        "stuck_after_s": rules.stuck_after_s,
        **view,
    }
