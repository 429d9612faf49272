"""The data of `inspect`: stuck STFs and why, links, runs, one STF in full. Each view is what `--json` prints."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from fastmon_daemon.base.clock import format_timestamp, parse_timestamp
from fastmon_daemon.base.links import describe_up
from fastmon_daemon.outbox import COALESCED_UPDATES, SINGLE_UPDATES, UNREPORTABLE, OutboxReader, RunRow, Stf
from fastmon_daemon.presence.assessment import (
    Assessment,
    AssessmentRule,
    ProcessState,
    assess,
    take_snapshot,
)
from fastmon_daemon.presence.stuck import LinkStatus, StuckRule, StuckStfs, latest_link_statuses

NO_DAEMON = "no daemon is running"

View = dict[str, Any]

_STF_DETAILS = (
    "sequence", "size_bytes", "checksum", "tf_count", "execution_id", "origin", "included", "life", "received_at",
    "born_at", "remark", "plan",
)  # fmt: skip
"""Fields of an `Stf` that only the view of one STF has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectionContext:
    """What the views depend on beside the database."""

    rule: AssessmentRule
    now: datetime
    daemon: int | None
    """Process id of the daemon that has the database; None if no daemon is running."""
    process: ProcessState | None = None
    """What the daemon's process said; None: it was not asked."""

    @property
    def stuck(self) -> StuckRule:
        """When an STF is stuck."""
        return self.rule.stuck


class Inspector:
    """Views of the database at one moment."""

    def __init__(self, reports: OutboxReader, context: InspectionContext) -> None:
        self._reports = reports
        self._context = context
        self._chart = context.stuck.chart
        links = _links(reports, context)
        calls = context.process.calls if context.process else {}
        self.links = {name: {**asdict(link), "calls": calls.get(name)} for name, link in links.items()}
        self._stuck = StuckStfs(reports, context.stuck, links, context.now, daemon_runs=context.daemon is not None)

    def assessment(self) -> Assessment:
        """Return the verdict on the daemon and its database."""
        context = self._context
        running = context.daemon is not None
        process = context.process if running else None
        return assess(take_snapshot(self._reports, context.rule, context.now, daemon_runs=running, process=process))

    def overview(self, *, state: str | None = None, run: str | None = None, limit: int = 20) -> View:
        """Return counts, up to *limit* stuck STFs (negative: all), links and runs.

        With a *state* or *run*: only of its STFs, and a list of up to *limit* of these.

        Links, counters, rejected messages and the oldest STF are always those of the whole database.
        """
        reports = self._reports
        counts = reports.counts_by_state(run)
        oldest = reports.oldest_unfinished(self._context.stuck.unfinished)
        stuck = self._stuck.find(limit, state=state, run=run)
        counters = reports.counters()
        view: View = {
            "states": {name: counts.get(name, 0) for name in self._chart.states},
            "stuck_count": self._stuck.count(state=state, run=run),
            "stuck": [self._row(stf) for stf in stuck],
            "oldest": self._row(oldest) if oldest else None,
            "links": self.links,
            "rejected_count": reports.rejected_count(),
            "runs": [view for view in self._runs() if run in (None, view["run"])],
            "stages": {
                "pending": reports.stages.count_pending(),
                "single_updates": counters.get(SINGLE_UPDATES, 0),
                "coalesced_updates": counters.get(COALESCED_UPDATES, 0),
                "unreportable": counters.get(UNREPORTABLE, 0),
            },
            "counters": counters,
        }
        if state or run:
            view["stf_count"] = reports.count_stfs(state=state, run=run)
            view["stfs"] = [self._row(stf) for stf in reports.find(state=state, run=run, limit=limit)]
        return view

    def _runs(self) -> list[View]:
        """Return each run with the numbers of its known and its missing STFs.

        *pruned*: what is kept of STFs that were deleted because the run is old; null if none was.
        """
        known = self._reports.runs.known_counts()
        pruned = {(each.namespace, each.run): each for each in self._reports.retention.runs()}
        views = []
        for run in self._reports.runs.latest():
            gone = pruned.get((run.namespace, run.run))
            count = known.get((run.namespace, run.run), 0) + (sum(gone.states.values()) if gone else 0)
            views.append({**asdict(run), "known": count, "missing": missing_stfs(run, count),
                          "pruned": asdict(gone) if gone else None})  # fmt: skip
        return views

    def rejected(self, limit: int) -> View:
        """Return the rejected messages, latest first, and the number of stuck STFs."""
        return {
            "stuck_count": self._stuck.count(),
            "rejected_count": self._reports.rejected_count(),
            "rejected": [asdict(row) for row in self._reports.rejected(limit=limit)],
        }

    def stf_details(self, name: str, run: str | None) -> View:
        """Return everything about the STFs called *name*: one for each run that has it, perhaps none."""
        stfs = self._reports.find(filename=name, run=run)
        return {"stuck_count": sum(map(self._stuck.includes, stfs)), "stfs": [self._stf_details(stf) for stf in stfs]}

    def _stf_details(self, stf: Stf) -> View:
        fields = asdict(stf)
        return {
            **self._row(stf),
            **{name: fields[name] for name in _STF_DETAILS},
            "stage": asdict(self._reports.stages.keys(stf.id)),
            "tfs": fields["tfs"],
            "history": [asdict(row) for row in self._reports.history(stf.id)],
        }

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
            "next_try_at": self._next_try_at(stf),
        }

    def _why(self, stf: Stf) -> str | None:
        """Return why the STF is in its state; None if it is finalized and did not fail."""
        if stf.state in self._context.stuck.failed:
            return stf.last_error or "no reason recorded"
        if self._chart.is_finalized(stf.state):
            return None
        error = f"; last error: {stf.last_error}" if stf.last_error else ""
        if self._context.daemon is None:
            return NO_DAEMON + error
        link = self._link_of(stf.state)
        if link and link["state"] != "up":
            return f"{link['link']} is {link['state']}{error}"
        return stf.last_error or "waiting for its turn"

    def _next(self, stf: Stf) -> str:
        """Return what comes next: the step, or the actions that an operator can take."""
        chart = self._chart
        step = chart.step_from(stf.state)
        if step is None:
            actions = [
                name for name, who in chart.decisions.items() if who == "operator" and chart.may(stf.state, name)
            ]
            return f"nothing, unless an operator acts: {' or '.join(actions)}" if actions else "nothing"
        if self._context.daemon is None:
            return f"{step}, when a daemon is running"
        link = self._link_of(stf.state)
        if link and link["state"] != "up":
            return f"{step}, when {describe_up(link['link'])}"
        at = self._next_try_at(stf)
        return f"{step}, at {at}" if at else f"{step}, now"

    def _next_try_at(self, stf: Stf) -> str | None:
        """Return when the STF is tried again, if only that time must pass."""
        link = self._link_of(stf.state)
        if self._context.daemon is None or stf.due_at is None or (link and link["state"] != "up"):
            return None
        return stf.due_at if parse_timestamp(stf.due_at) > self._context.now else None

    def _link_of(self, state: str) -> View | None:
        return self.links.get(self._context.stuck.link_from(state) or "")


def missing_stfs(run: RunRow, known: int) -> int:
    """Return how many STFs of a run are missing, of which *known* were received."""
    if not run.claimed:
        return 0
    most = run.last_sequence or 0 if run.expected is None else run.expected
    return max(0, most - known, len(run.absent))


def near_name(reports: OutboxReader, name: str) -> str:
    """Return ` (did you mean NAME?)` if an STF exists whose name was meant: without `.stf`, as path, or of its TF."""
    last = name.rpartition("/")[2]
    of_tf = re.sub(r"_tf_\d+(\.tf)?\Z", "", last)
    candidates = dict.fromkeys((last, f"{name}.stf", f"{last}.stf", f"{of_tf}.stf", last.lower()))
    near = next((each for each in candidates if each != name and reports.count_stfs(filename=each)), None)
    return f" (did you mean {near}?)" if near else ""


def _links(reports: OutboxReader, context: InspectionContext) -> dict[str, LinkStatus]:
    """Return each link that is needed or was recently down; `unknown` if no daemon is running."""
    names = context.stuck.needed_links
    if context.daemon is None:
        return {name: LinkStatus(link=name, state="unknown", reason=NO_DAEMON) for name in names}
    unconnected = context.process.unconnected if context.process else ()
    return {name: LinkStatus(link=name) for name in names} | latest_link_statuses(reports, unconnected)


def with_metadata(view: View, inspector: Inspector, context: InspectionContext, database: tuple[str, str]) -> View:
    """Return *view* with the verdict and its source: *database* (path, and why it was chosen), time and daemon."""
    path, chosen_by = database
    found = inspector.assessment()
    return {
        "verdict": found.line,
        "problems": [asdict(problem) for problem in found.problems],
        "database": path,
        "chosen_by": chosen_by,
        "at": format_timestamp(context.now),
        "daemon": context.daemon,
        "stuck_after_s": context.stuck.stuck_after_s,
        "intake_stopped": next((each.reason for each in found.problems if each.kind == "intake stopped"), None),
        **view,
    }
