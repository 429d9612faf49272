"""What `inspect` has to say, as plain values: what is stuck and why, the links, the life of one STF.

Each function returns exactly what `--json` prints. This module must not know how it is shown to people.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from fastmon_daemon.base.clock import format_timestamp, parse_timestamp
from fastmon_daemon.outbox import UNREPORTABLE, OutboxReader, Stf
from fastmon_daemon.presence.stuck import LinkStatus, StuckRule, StuckStfs, latest_link_statuses

NO_DAEMON = "no daemon is running"

View = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectionContext:
    """What the answers depend on beside the database."""

    stuck: StuckRule
    now: datetime
    daemon: int | None
    """Process id of the daemon that owns the database; None: there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StfFilter:
    """Which STFs are asked for, and how many of them at most (negative: all)."""

    state: str | None = None
    run: str | None = None
    limit: int = 20


class Inspector:
    """One look at the database, at one moment."""

    def __init__(self, reports: OutboxReader, rules: InspectionContext) -> None:
        self._reports = reports
        self._rules = rules
        self._chart = rules.stuck.chart
        links = _links(reports, rules)
        self.links = {name: asdict(link) for name, link in links.items()}
        self._stuck = StuckStfs(reports, rules.stuck, links, rules.now, daemon_runs=rules.daemon is not None)

    def overview(self, wanted: StfFilter) -> View:
        """Counts, what is stuck, links and runs; a state or run in *wanted* narrows it to those STFs and lists them.

        Links, counters, rejected messages and the oldest work are those of the whole database all the same.
        """
        reports = self._reports
        counts = reports.counts_by_state(wanted.run)
        oldest = reports.oldest_unfinished()
        stuck = self._stuck.find(wanted.limit, state=wanted.state, run=wanted.run)
        counters = reports.counters()
        view: View = {
            "states": {state: counts.get(state, 0) for state in self._chart.states},
            "stuck_count": self._stuck.count(state=wanted.state, run=wanted.run),
            "stuck": [self._row(stf) for stf in stuck],
            "oldest": self._row(oldest) if oldest else None,
            "links": self.links,
            "rejected_count": reports.rejected_count(),
            "runs": [view for view in self._runs() if wanted.run in (None, view["run"])],
            "stages": {"owed": reports.stages.count_pending(), "unreportable": counters.get(UNREPORTABLE, 0)},
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

    def rejected(self, limit: int) -> View:
        """The rejected messages that are kept, the latest first, and whether anything is stuck."""
        return {
            "stuck_count": self._stuck.count(),
            "rejected_count": self._reports.rejected_count(),
            "rejected": [asdict(row) for row in self._reports.rejected(limit)],
        }

    def stf_details(self, name: str, run: str | None) -> View:
        """All that is known of the STFs called *name*: one for each run that has it, perhaps none."""
        stfs = self._reports.stf(name, run)
        return {"stuck_count": sum(map(self._stuck.includes, stfs)), "stfs": [self._stf_details(stf) for stf in stfs]}

    def _stf_details(self, stf: Stf) -> View:
        tfs = [asdict(tf) for tf in stf.tfs]
        known = {
            "sequence": stf.sequence,
            "size_bytes": stf.size_bytes,
            "checksum": stf.checksum,
            "tf_count": stf.tf_count,
            "execution_id": stf.execution_id,
            "origin": str(stf.origin),
            "included": stf.included,
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
            "stuck": self._stuck.includes(stf),
            "why": self._why(stf),
            "attempts": stf.attempts,
            "last_error": stf.last_error,
            "next": self._next(stf),
            "next_try_at": stf.due_at if self._is_put_off(stf) else None,
        }

    def _why(self, stf: Stf) -> str | None:
        """Why it is where it is; None where it rests in peace."""
        if stf.state in self._rules.stuck.failed:
            return stf.last_error or "no reason was given"
        if self._chart.is_finalized(stf.state):
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
        chart = self._chart
        step = chart.step_from(stf.state)
        if step is None:
            acts = [name for name, who in chart.decisions.items() if who == "operator" and chart.may(stf.state, name)]
            return f"nothing, unless an operator decides: {' or '.join(acts)}" if acts else "nothing"
        if self._rules.daemon is None:
            return f"{step}, when a daemon runs"
        link = self._link_of(stf.state)
        if link and link["state"] != "up":
            return f"{step}, when the {link['link']} is back"
        return f"{step}, at {stf.due_at}" if self._is_put_off(stf) else f"{step}, now"

    def _is_put_off(self, stf: Stf) -> bool:
        return stf.due_at is not None and parse_timestamp(stf.due_at) > self._rules.now

    def _link_of(self, state: str) -> View | None:
        return self.links.get(self._rules.stuck.link_from(state) or "")


def _links(reports: OutboxReader, rules: InspectionContext) -> dict[str, LinkStatus]:
    """Each link that matters, or was down lately; without a daemon nobody knows."""
    names = dict.fromkeys(("monitor", "broker", *rules.stuck.links.values()))
    if rules.daemon is None:
        return {name: LinkStatus(link=name, state="unknown", reason=NO_DAEMON) for name in names}
    return {name: LinkStatus(link=name) for name in names} | latest_link_statuses(reports)


def with_metadata(view: View, rules: InspectionContext, database: tuple[str, str]) -> View:
    """*view* with what it was read from: *database* (its path and the rule that chose it), the moment, the daemon."""
    path, chosen_by = database
    return {
        "database": path,
        "chosen_by": chosen_by,
        "at": format_timestamp(rules.now),
        "daemon": rules.daemon,
        "stuck_after_s": rules.stuck.stuck_after_s,
        **view,
    }
