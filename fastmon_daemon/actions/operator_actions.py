"""What a person may do to an STF, a rejected message or a run: each act on an outbox, inside its caller's transaction.

Every act stands in the history with who did it and why. This module must not know sockets or the command line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any

from fastmon_daemon.base.clock import format_timestamp
from fastmon_daemon.base.errors import MalformedMessage, PermanentError, StaleStfError
from fastmon_daemon.intake.handler import MessageHandler
from fastmon_daemon.messages import IgnoredMessage, parse, run_number
from fastmon_daemon.outbox import Outbox, ReceiveOutcome, Stf
from fastmon_daemon.statechart import StateMachine

STF_ACTIONS = ("retry", "discard", "include")
BATCH_SIZE = 500
"""So many STFs or messages are acted on in one transaction: the engine works on between two."""
RECONCILE = "reconcile"
"""The act that asks the monitor first; the ledger does it, not `OperatorActions`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionRequest:
    """What a person wants done; it travels as JSON."""

    action: str
    """`retry`, `discard`, `admit`, `release`, `forget` or `reconcile`."""
    by: str
    """The person's user name."""
    reason: str = ""
    stfs: tuple[str, ...] = ()
    """STF filenames."""
    ids: tuple[int, ...] = ()
    """Numbers of rejected messages, also where all are meant: those that were kept when it was wished."""
    run: str | None = None
    namespace: str | None = None
    all: bool = False
    """All that the act may be done to."""
    before: str | None = None
    """Of all, those that came into their state until then: one that fails again meanwhile is not meant."""
    include_unfinished: bool = False

    @classmethod
    def parse(cls, raw: dict[str, Any]) -> ActionRequest:
        """The wish in a JSON object. Raises `MalformedMessage` for what is none."""
        try:
            request = cls(**{**raw, "stfs": tuple(raw.get("stfs", ())), "ids": tuple(raw.get("ids", ()))})
        except TypeError as exc:
            raise MalformedMessage(f"no wish: {exc}") from exc
        texts = (
            request.action,
            request.by,
            request.reason,
            request.run or "",
            request.namespace or "",
            request.before or "",
            *request.stfs,
        )
        if not all(isinstance(text, str) for text in texts) or not all(type(number) is int for number in request.ids):
            raise MalformedMessage("no wish: names must be strings, numbers of messages integers")
        return request

    @property
    def note(self) -> str:
        """What stands in the history."""
        return f"by {self.by}" + (f": {self.reason}" if self.reason else "")

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


@dataclass(slots=True)
class ActionResult:
    """What was done, and what was not and why."""

    done: list[str] = field(default_factory=list)
    rejected: dict[str, str] = field(default_factory=dict)
    """Name -> why not."""
    more: bool = False
    """That was one portion: wish it again."""

    def merge(self, other: ActionResult) -> None:
        """Take in what a further portion did."""
        self.done += other.done
        self.rejected |= other.rejected


def in_batches(request: ActionRequest, do: Callable[[ActionRequest], ActionResult]) -> Iterator[ActionResult]:
    """Have a wish done in portions; each outcome as it comes."""
    if request.stfs or request.ids:
        for start in range(0, max(len(request.stfs), len(request.ids)), BATCH_SIZE):
            part = slice(start, start + BATCH_SIZE)
            yield do(replace(request, stfs=request.stfs[part], ids=request.ids[part]))
        return
    more = True
    while more:
        outcome = do(request)
        more = outcome.more
        yield outcome


class OperatorActions:
    """The acts; one instance serves the daemon's socket or one command."""

    def __init__(self, chart: StateMachine, intake: MessageHandler, *, alone: bool) -> None:
        """*chart* is that of the STF; *intake* takes released messages in; *alone*: no engine works on the outbox."""
        self._chart = chart
        self._intake = intake
        self._alone = alone

    def perform(self, request: ActionRequest, outbox: Outbox, now: datetime) -> ActionResult:
        """Do what is wished. Raises `PermanentError` for an act that does not exist or makes no sense."""
        if request.action in STF_ACTIONS:
            return self._apply_to_stfs(request, outbox, now)
        if request.action == "replay":
            return self._replay(request, outbox)
        if request.action == "purge":
            return self._purge(request, outbox, now)
        raise PermanentError(f"there is no act {request.action!r}")

    def _apply_to_stfs(self, request: ActionRequest, outbox: Outbox, now: datetime) -> ActionResult:
        if request.all:
            return self._apply_to_all(request, outbox, now)
        outcome = ActionResult()
        for name in request.stfs:
            found = outbox.find(filename=name, run=request.run, namespace=request.namespace)
            if len(found) != 1:
                outcome.rejected[name] = _ambiguity(found)
            elif not self._chart.may(found[0].state, request.action):
                outcome.rejected[name] = f"it is {found[0].state}, where {request.action} is not possible"
            else:
                self._apply(found[0], request, outbox, now)
                outcome.done.append(name)
        return outcome

    def _apply_to_all(self, request: ActionRequest, outbox: Outbox, now: datetime) -> ActionResult:
        outcome = ActionResult()
        for state in (state for state in self._chart.states if self._chart.may(state, request.action)):
            room = BATCH_SIZE - len(outcome.done)
            for stf in outbox.oldest_in(
                state, request.before or format_timestamp(now), room, request.run, request.namespace
            ):
                self._apply(stf, request, outbox, now)
                outcome.done.append(f"{stf.run}/{stf.filename}")
        outcome.more = len(outcome.done) == BATCH_SIZE
        return outcome

    def _apply(self, stf: Stf, request: ActionRequest, outbox: Outbox, now: datetime) -> None:
        dest = self._chart.after(stf.state, request.action)
        try:
            if self._chart.is_finalized(dest):
                outbox.move(stf, request.action, dest, now, finalized=True, note=request.note)
            else:
                outbox.reopen(stf, request.action, dest, now, note=request.note, included=request.action == "include")
        except StaleStfError as exc:  # cannot be: the engine's thread alone moves STFs, and it is the one that acts
            raise PermanentError(str(exc)) from exc

    def _replay(self, request: ActionRequest, outbox: Outbox) -> ActionResult:
        outcome = ActionResult()
        kept = outbox.rejected(request.ids)
        for number in request.ids:
            if number not in kept and not request.all:
                outcome.rejected[str(number)] = "no such rejected message"
        for number, (body, whole) in kept.items():
            why = (
                self._rejection_reason(body, outbox, f"released {request.note}")
                if whole
                else "its body was too long to be kept whole"
            )
            if why:
                outcome.rejected[str(number)] = why
            else:
                outbox.drop_rejected(number)
                outcome.done.append(str(number))
        return outcome

    def _rejection_reason(self, body: str, outbox: Outbox, note: str) -> str:
        """Take a message in after all; why it could not be, or nothing."""
        try:
            message = parse(body, namespace=self._intake.namespace)
        except MalformedMessage as exc:
            return str(exc)
        if isinstance(message, IgnoredMessage):
            return f"it is not for us: another {message.reason}"
        outcome = self._intake.store(outbox, message)
        if outcome is ReceiveOutcome.FRESH:
            outbox.note_last_received(note)
        return "it has another content than the STF of that name" if outcome is ReceiveOutcome.CONFLICT else ""

    def _purge(self, request: ActionRequest, outbox: Outbox, now: datetime) -> ActionResult:
        if not request.run:
            raise PermanentError("forget needs the run: --run N")
        namespaces = [each for each in outbox.namespaces_of(request.run) if request.namespace in (None, each)]
        if len(namespaces) != 1:
            several = f"it is in the namespaces {', '.join(namespaces)}: say which with --namespace"
            return ActionResult(rejected={request.run: several if namespaces else "no such run"})
        namespace = namespaces[0]
        unfinished = outbox.unfinished(request.run, namespace)
        if unfinished and not request.include_unfinished:
            return ActionResult(
                rejected={request.run: f"{unfinished} of its STFs are unfinished: add --include-unfinished"}
            )
        if unfinished and not self._alone:  # the engine has some of them in its hands
            return ActionResult(
                rejected={request.run: f"the daemon works on {unfinished} of its STFs: stop it, then say it again"}
            )
        # The run goes with the first batch: a poll between two batches would store the deleted STFs again.
        outbox.delete_run(request.run, namespace)
        self._intake.runs.purge(namespace, request.run)
        outbox.remember(f"purged:{request.run}", f"{format_timestamp(now)} {request.note}")  # its own history is gone
        outbox.delete_stfs(request.run, namespace, BATCH_SIZE)
        if outbox.reports.count_stfs(run=request.run, namespace=namespace):
            return ActionResult(more=True)
        return ActionResult(done=[request.run])


def run_number_to_reconcile(request: ActionRequest) -> int:
    """The monitor's number of the run that is meant. Raises `PermanentError` where there is none."""
    number = run_number(request.run or "")
    if number is None:
        raise PermanentError(f"the monitor cannot be asked for run {request.run!r}: give its number: --run N")
    return number


def _ambiguity(found: list[Stf]) -> str:
    """Why a name does not say which STF is meant."""
    if not found:
        return "no such STF"
    runs = {stf.run for stf in found}
    if len(runs) > 1:
        return f"it is in the runs {', '.join(sorted(runs))}: say which with --run"
    return f"it is in the namespaces {', '.join(sorted(stf.namespace for stf in found))}: say which with --namespace"
