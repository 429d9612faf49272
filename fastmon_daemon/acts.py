"""What a person may do to an STF, a refused message or a run: each act on an outbox, inside its caller's transaction.

Every act stands in the history with who did it and why. This module must not know sockets or the command line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any

from fastmon_daemon.clock import stamp
from fastmon_daemon.errors import BadMessage, PermanentError, StaleStf
from fastmon_daemon.intake import Intake
from fastmon_daemon.lifecycle import Chart
from fastmon_daemon.messages import Foreign, parse, run_number
from fastmon_daemon.outbox import Arrival, Outbox, Stf

ON_STFS = ("retry", "discard", "admit")
PORTION = 500
"""So many STFs or messages are acted on in one transaction: the engine works on between two."""
RECONCILE = "reconcile"
"""The act that asks the monitor first; the ledger does it, not `Acts`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a person wants done; it travels as JSON."""

    act: str
    """`retry`, `discard`, `admit`, `release`, `forget` or `reconcile`."""
    by: str
    """The person's user name."""
    reason: str = ""
    stfs: tuple[str, ...] = ()
    """STF filenames."""
    ids: tuple[int, ...] = ()
    """Numbers of refused messages, also where all are meant: those that were kept when it was wished."""
    run: str | None = None
    namespace: str | None = None
    all: bool = False
    """All that the act may be done to."""
    before: str | None = None
    """Of all, those that came into their state until then: one that fails again meanwhile is not meant."""
    unfinished_too: bool = False

    @classmethod
    def read(cls, raw: dict[str, Any]) -> Wish:
        """The wish in a JSON object. Raises `BadMessage` for what is none."""
        try:
            wish = cls(**{**raw, "stfs": tuple(raw.get("stfs", ())), "ids": tuple(raw.get("ids", ()))})
        except TypeError as exc:
            raise BadMessage(f"no wish: {exc}") from exc
        texts = (wish.act, wish.by, wish.reason, wish.run or "", wish.namespace or "", wish.before or "", *wish.stfs)
        if not all(isinstance(text, str) for text in texts) or not all(type(number) is int for number in wish.ids):
            raise BadMessage("no wish: names must be strings, numbers of messages integers")
        return wish

    @property
    def note(self) -> str:
        """What stands in the history."""
        return f"by {self.by}" + (f": {self.reason}" if self.reason else "")

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


@dataclass(slots=True)
class Outcome:
    """What was done, and what was not and why."""

    done: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    """Name -> why not."""
    more: bool = False
    """That was one portion: wish it again."""

    def add(self, other: Outcome) -> None:
        """Take in what a further portion did."""
        self.done += other.done
        self.refused |= other.refused


def in_portions(wish: Wish, do: Callable[[Wish], Outcome]) -> Iterator[Outcome]:
    """Have a wish done in portions; each outcome as it comes."""
    if wish.stfs or wish.ids:
        for start in range(0, max(len(wish.stfs), len(wish.ids)), PORTION):
            part = slice(start, start + PORTION)
            yield do(replace(wish, stfs=wish.stfs[part], ids=wish.ids[part]))
        return
    more = True
    while more:
        outcome = do(wish)
        more = outcome.more
        yield outcome


class Acts:
    """The acts; one instance serves the daemon's socket or one command."""

    def __init__(self, chart: Chart, intake: Intake, *, alone: bool) -> None:
        """*chart* is that of the STF; *intake* takes released messages in; *alone*: no engine works on the outbox."""
        self._chart = chart
        self._intake = intake
        self._alone = alone

    def do(self, wish: Wish, outbox: Outbox, now: datetime) -> Outcome:
        """Do what is wished. Raises `PermanentError` for an act that does not exist or makes no sense."""
        if wish.act in ON_STFS:
            return self._on_stfs(wish, outbox, now)
        if wish.act == "release":
            return self._release(wish, outbox)
        if wish.act == "forget":
            return self._forget(wish, outbox, now)
        raise PermanentError(f"there is no act {wish.act!r}")

    def _on_stfs(self, wish: Wish, outbox: Outbox, now: datetime) -> Outcome:
        if wish.all:
            return self._on_all(wish, outbox, now)
        outcome = Outcome()
        for name in wish.stfs:
            found = outbox.find(filename=name, run=wish.run, namespace=wish.namespace)
            if len(found) != 1:
                outcome.refused[name] = _which(found)
            elif not self._chart.may(found[0].state, wish.act):
                outcome.refused[name] = f"it is {found[0].state}, where {wish.act} is not possible"
            else:
                self._act_on(found[0], wish, outbox, now)
                outcome.done.append(name)
        return outcome

    def _on_all(self, wish: Wish, outbox: Outbox, now: datetime) -> Outcome:
        outcome = Outcome()
        for state in (state for state in self._chart.states if self._chart.may(state, wish.act)):
            room = PORTION - len(outcome.done)
            for stf in outbox.longest_in(state, wish.before or stamp(now), room, wish.run, wish.namespace):
                self._act_on(stf, wish, outbox, now)
                outcome.done.append(f"{stf.run}/{stf.filename}")
        outcome.more = len(outcome.done) == PORTION
        return outcome

    def _act_on(self, stf: Stf, wish: Wish, outbox: Outbox, now: datetime) -> None:
        dest = self._chart.after(stf.state, wish.act)
        try:
            if self._chart.is_resting(dest):
                outbox.move(stf, wish.act, dest, now, rests=True, note=wish.note)
            else:
                outbox.reopen(stf, wish.act, dest, now, note=wish.note, admitted=wish.act == "admit")
        except StaleStf as exc:  # cannot be: the engine's thread alone moves STFs, and it is the one that acts
            raise PermanentError(str(exc)) from exc

    def _release(self, wish: Wish, outbox: Outbox) -> Outcome:
        outcome = Outcome()
        kept = outbox.refused(wish.ids)
        for number in wish.ids:
            if number not in kept and not wish.all:
                outcome.refused[str(number)] = "no such refused message"
        for number, (body, whole) in kept.items():
            why = (
                self._why_not(body, outbox, f"released {wish.note}")
                if whole
                else "its body was too long to be kept whole"
            )
            if why:
                outcome.refused[str(number)] = why
            else:
                outbox.drop_refused(number)
                outcome.done.append(str(number))
        return outcome

    def _why_not(self, body: str, outbox: Outbox, note: str) -> str:
        """Take a message in after all; why it could not be, or nothing."""
        try:
            message = parse(body, namespace=self._intake.namespace)
        except BadMessage as exc:
            return str(exc)
        if isinstance(message, Foreign):
            return f"it is not for us: another {message.why}"
        arrival = self._intake.store(outbox, message)
        if arrival is Arrival.FRESH:
            outbox.note_last_received(note)
        return "it has another content than the STF of that name" if arrival is Arrival.CONFLICT else ""

    def _forget(self, wish: Wish, outbox: Outbox, now: datetime) -> Outcome:
        if not wish.run:
            raise PermanentError("forget needs the run: --run N")
        namespaces = [each for each in outbox.namespaces_of(wish.run) if wish.namespace in (None, each)]
        if len(namespaces) != 1:
            several = f"it is in the namespaces {', '.join(namespaces)}: say which with --namespace"
            return Outcome(refused={wish.run: several if namespaces else "no such run"})
        namespace = namespaces[0]
        unfinished = outbox.unfinished(wish.run, namespace)
        if unfinished and not wish.unfinished_too:
            return Outcome(refused={wish.run: f"{unfinished} of its STFs are unfinished: add --unfinished-too"})
        if unfinished and not self._alone:  # the engine has some of them in its hands
            return Outcome(
                refused={wish.run: f"the daemon works on {unfinished} of its STFs: stop it, then say it again"}
            )
        if outbox.forget_stfs(wish.run, namespace, PORTION) == PORTION:
            return Outcome(more=True)
        outbox.forget_run(wish.run, namespace)
        self._intake.runs.forget(namespace, wish.run)
        outbox.remember(f"forgotten:{wish.run}", f"{stamp(now)} {wish.note}")  # its own history is gone
        return Outcome(done=[wish.run])


def number_to_reconcile(wish: Wish) -> int:
    """The monitor's number of the run that is meant. Raises `PermanentError` where there is none."""
    number = run_number(wish.run or "")
    if number is None:
        raise PermanentError(f"the monitor cannot be asked for run {wish.run!r}: give its number: --run N")
    return number


def _which(found: list[Stf]) -> str:
    """Why a name does not say which STF is meant."""
    if not found:
        return "no such STF"
    runs = {stf.run for stf in found}
    if len(runs) > 1:
        return f"it is in the runs {', '.join(sorted(runs))}: say which with --run"
    return f"it is in the namespaces {', '.join(sorted(stf.namespace for stf in found))}: say which with --namespace"
