"""What an operator does to STFs, rejected messages and runs, inside the caller's transaction.

The history records who did each action, and why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from fastmon_daemon.base.clock import format_timestamp
from fastmon_daemon.base.errors import MalformedMessage, PermanentError, StaleStfError
from fastmon_daemon.base.suggest import how_runs_are_named
from fastmon_daemon.inspection.inspector import near_name
from fastmon_daemon.intake.handler import MessageHandler
from fastmon_daemon.messages import IgnoredMessage, parse, run_number
from fastmon_daemon.outbox import Act, Outbox, ReceiveOutcome, Stf
from fastmon_daemon.reconciler.comparing import ReconcileResult
from fastmon_daemon.statechart import StateMachine

STF_ACTIONS = ("retry", "discard", "include")
BATCH_SIZE = 500
"""STFs or messages per transaction; the engine works between two batches."""
RECONCILE = "reconcile"
"""The action that calls the monitor; the reconciler performs it, not `OperatorActions`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionRequest:
    """What an operator requests; sent as JSON."""

    action: str
    """`retry`, `discard`, `include`, `replay`, `purge` or `reconcile`."""
    by: str
    """The operator's user name."""
    reason: str = ""
    stfs: tuple[str, ...] = ()
    """STF filenames."""
    ids: tuple[int, ...] = ()
    """Numbers of rejected messages; with *all*, those that existed at the time of the request."""
    run: str | None = None
    namespace: str | None = None
    all: bool = False
    """Everything that allows the action."""
    before: str | None = None
    """With *all*: only STFs in their state since before this time, so that one that fails again is left out."""
    include_unfinished: bool = False

    @classmethod
    def parse(cls, raw: dict[str, Any]) -> ActionRequest:
        """Return the request in a JSON object. Raises: MalformedMessage."""
        try:
            request = cls(**{**raw, "stfs": tuple(raw.get("stfs", ())), "ids": tuple(raw.get("ids", ()))})
        except TypeError as exc:
            raise MalformedMessage(f"malformed request: {exc}") from exc
        optional = (request.run or "", request.namespace or "", request.before or "")
        texts = (request.action, request.by, request.reason, *optional, *request.stfs)
        if not all(isinstance(text, str) for text in texts) or not all(type(number) is int for number in request.ids):
            raise MalformedMessage("malformed request: names must be strings, message numbers integers")
        return request

    def act(self, count: int) -> Act:
        """Return the record of this request, that changed *count* STFs or messages."""
        names = [*self.stfs, *map(str, self.ids)] if not self.all else ["all"]
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        run = f"run {self.run}" if self.run else ""
        return Act(
            action=self.action,
            who=self.by,
            reason=self.reason,
            subject=", ".join(filter(None, (shown, run))),
            count=count,
            requested_at=self.before or "",
        )

    @property
    def note(self) -> str:
        """The note in the history."""
        return f"by {self.by}" + (f": {self.reason}" if self.reason else "")


@dataclass(slots=True)
class ActionResult:
    """What was done, and what was not and why."""

    done: list[str] = field(default_factory=list)
    rejected: dict[str, str] = field(default_factory=dict)
    """Name -> reason."""
    more: bool = False
    """Whether to send the same request again: this was one batch of it."""


def in_batches(request: ActionRequest, perform: Callable[[ActionRequest], ActionResult]) -> Iterator[ActionResult]:
    """Perform a request in batches; yields each result as it comes."""
    if request.stfs or request.ids:
        for start in range(0, max(len(request.stfs), len(request.ids)), BATCH_SIZE):
            part = slice(start, start + BATCH_SIZE)
            yield perform(replace(request, stfs=request.stfs[part], ids=request.ids[part]))
        return
    more = True
    while more:
        result = perform(request)
        more = result.more
        yield result


class OperatorActions:
    """Performs actions, for the control socket or for one command."""

    def __init__(self, chart: StateMachine, handler: MessageHandler, *, alone: bool) -> None:
        """*chart* is that of the STF; *handler* stores replayed messages; *alone*: no daemon works on the database."""
        self._chart = chart
        self._handler = handler
        self._alone = alone

    def perform(self, request: ActionRequest, outbox: Outbox, now: datetime) -> ActionResult:
        """Perform one batch of *request*. Raises: PermanentError for an unknown action or a missing run."""
        if request.action in STF_ACTIONS:
            result = (self._apply_to_all if request.all else self._apply_to_named)(request, outbox, now)
        elif request.action == "replay":
            result = self._replay(request, outbox)
        elif request.action == "purge":
            result = self._purge(request, outbox, now)
        else:
            raise PermanentError(f"unknown action: {request.action!r}")
        if result.done:
            outbox.acts.record(now, request.act(len(result.done)))
        return result

    def _apply_to_named(self, request: ActionRequest, outbox: Outbox, now: datetime) -> ActionResult:
        result = ActionResult()
        for name in request.stfs:
            found = outbox.find(filename=name, run=request.run, namespace=request.namespace)
            if len(found) != 1:
                result.rejected[name] = _ambiguity(found) if found else f"no such STF{near_name(outbox, name)}"
            elif not self._chart.may(found[0].state, request.action):
                result.rejected[name] = f"{request.action} is not possible in state {found[0].state}"
            else:
                self._apply(found[0], request, outbox, now)
                result.done.append(name)
        return result

    def _apply_to_all(self, request: ActionRequest, outbox: Outbox, now: datetime) -> ActionResult:
        result = ActionResult()
        before = request.before or format_timestamp(now)
        for state in (state for state in self._chart.states if self._chart.may(state, request.action)):
            room = BATCH_SIZE - len(result.done)
            for stf in outbox.find([state], before=before, limit=room, run=request.run, namespace=request.namespace):
                self._apply(stf, request, outbox, now)
                result.done.append(f"{stf.run}/{stf.filename}")
        result.more = len(result.done) == BATCH_SIZE
        return result

    def _apply(self, stf: Stf, request: ActionRequest, outbox: Outbox, now: datetime) -> None:
        dest = self._chart.after(stf.state, request.action)
        try:
            if self._chart.is_finalized(dest):
                outbox.move(stf, request.action, dest, now, finalized=True, note=request.note)
            else:
                outbox.reopen(stf, request.action, dest, now, note=request.note, included=request.action == "include")
        except StaleStfError as exc:  # impossible: this runs in the engine's thread, the only one that moves STFs
            raise PermanentError(str(exc)) from exc

    def _replay(self, request: ActionRequest, outbox: Outbox) -> ActionResult:
        result = ActionResult()
        kept = outbox.rejected(request.ids)
        if not request.all:
            missing = set(request.ids) - {row.id for row in kept}
            result.rejected = {str(number): "no such rejected message" for number in request.ids if number in missing}
        for row in reversed(kept):
            reason = "only the beginning of its body was stored"
            if row.is_whole:
                reason = self._store_again(row.body, outbox, f"replayed {request.note}")
            if reason:
                result.rejected[str(row.id)] = reason
            else:
                outbox.drop_rejected(row.id)
                result.done.append(str(row.id))
        return result

    def _store_again(self, body: str, outbox: Outbox, note: str) -> str:
        """Store a rejected message after all; returns the reason if it is rejected again, else nothing."""
        try:
            message = parse(body, namespace=self._handler.namespace)
        except MalformedMessage as exc:
            return str(exc)
        if isinstance(message, IgnoredMessage):
            return f"not for this daemon: another {message.reason}"
        outcome = self._handler.store(outbox, message)
        if outcome is ReceiveOutcome.FRESH:
            outbox.note_last_received(note)
        return "its content differs from the STF of that name" if outcome is ReceiveOutcome.CONFLICT else ""

    def _purge(self, request: ActionRequest, outbox: Outbox, now: datetime) -> ActionResult:
        run = request.run
        if not run:
            raise PermanentError("purge needs a run: add --run N")
        namespaces = [each for each in outbox.namespaces_of(run) if request.namespace in (None, each)]
        if len(namespaces) != 1:
            several = f"the run exists in the namespaces {', '.join(namespaces)}: add --namespace"
            return ActionResult(rejected={run: several if namespaces else f"no such run{how_runs_are_named(run)}"})
        namespace = namespaces[0]
        unfinished = outbox.unfinished(run, namespace)
        if unfinished and not request.include_unfinished:
            return ActionResult(rejected={run: f"{unfinished} of its STFs are unfinished: add --include-unfinished"})
        if unfinished and not self._alone:  # the engine may be processing some of them
            reason = f"the daemon is processing {unfinished} of its STFs: stop the daemon, then try again"
            return ActionResult(rejected={run: reason})
        # The run goes with the first batch: a poll between two batches would store the deleted STFs again.
        outbox.delete_run(run, namespace, BATCH_SIZE)
        self._handler.runs.purge(namespace, run)
        outbox.remember(f"purged:{run}", f"{format_timestamp(now)} {request.note}")  # its own history is deleted
        if outbox.count_stfs(run=run, namespace=namespace):
            return ActionResult(more=True)
        return ActionResult(done=[run])


def run_number_to_reconcile(request: ActionRequest) -> int:
    """Return the monitor's number of the run. Raises: PermanentError if the request names none."""
    number = run_number(request.run or "")
    if number is None:
        raise PermanentError(f"not a run number: {request.run!r}: give the monitor's number, in digits only: --run N")
    return number


def recorded(
    reconcile: Callable[[Outbox, datetime], ReconcileResult], request: ActionRequest
) -> Callable[[Outbox, datetime], ReconcileResult]:
    """Return *reconcile*, which also records that an operator requested it."""

    def perform(outbox: Outbox, now: datetime) -> ReconcileResult:
        result = reconcile(outbox, now)
        outbox.acts.record(now, request.act(len(result.recovered)))
        return result

    return perform


def _ambiguity(found: list[Stf]) -> str:
    """Return why a name does not identify one STF."""
    runs = {stf.run for stf in found}
    if len(runs) > 1:
        return f"the STF exists in the runs {', '.join(sorted(runs))}: add --run"
    return f"the STF exists in the namespaces {', '.join(sorted(stf.namespace for stf in found))}: add --namespace"
