"""The STFs of one run: heard, absent, skipped. Pure; must not know messages, REST or alarms.

Memory: an STF whose TF files are all there shrinks to one byte when 2000 newer ones have come.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from fastmon_client.selection import Selection, sequence_of
from fastmon_client.snapshot import StripCell, StripKind
from fastmon_client.tffile import TfFile

KEPT_WHOLE = 2000
STRIP = 600
_MOST_GAPS = 100_000
_NOTHING, _LISTED, _PRESENT, _RECOVERED = range(4)
_SHRUNK = 4
"""Added to the code of a number whose STF is no longer kept."""


@dataclass(slots=True)
class Stf:
    """One STF that is of interest still."""

    name: str
    sequence: int | None
    since: datetime
    """When it was registered, or when its last TF file was announced, or registered if it was not heard of."""
    total: int | None = None
    ids: set[str] = field(default_factory=set)
    unannounced: set[str] = field(default_factory=set)
    """TF files known from the monitor only: their announcement, if it comes after all, repeats nothing."""
    asked: bool = False
    """Whether the monitor was asked for its TF files, the answer is counted, and nothing new came after it."""

    @property
    def is_complete(self) -> bool:
        """All of its TF files are there; without a stated total, all that the monitor had when it was quiet."""
        return bool(self.ids) and (self.asked if self.total is None else len(self.ids) >= self.total)


class Stfs:
    """What is known of the STFs of a run."""

    def __init__(self) -> None:
        self.selection = Selection()
        self.highest = 0
        """The greatest sequence number heard of."""
        self.seen = 0
        self.unconfirmed = 0
        """STFs heard that the monitor did not list."""
        self._known_totals = self._untold = self._extra = 0
        self._last_total: int | None = None
        self._open: dict[str, Stf] = {}
        self._absent: dict[str, Stf] = {}
        self._gaps: dict[int, datetime] = {}
        self._codes = bytearray(1)
        self._shrunk: set[str] = set()
        """Names of STFs that are no longer kept, and whose number their name does not tell."""
        self._is_listed = False

    def take(self, tf: TfFile, at: datetime, *, backfilled: bool) -> bool | None:
        """Whether *tf* is new; None for the announcement of one that was backfilled."""
        stf = self._open.get(tf.stf_filename)
        if stf is None:
            if self._is_shrunk(tf.stf_filename, tf.sequence):
                return False
            stf = self._begin(tf, at)
        identity = tf.identity
        if identity is not None and identity in stf.ids:
            repeats = backfilled or identity not in stf.unannounced
            stf.unannounced.discard(identity)
            return False if repeats else None
        identity = identity or f"?{len(stf.ids)}"
        stf.ids.add(identity)
        if backfilled:
            stf.unannounced.add(identity)
        stf.since = max(stf.since, min(at, tf.made_at or at)) if backfilled else at
        stf.asked = False
        if tf.sequence and (backfilled or tf.late):
            self._codes[tf.sequence] |= _RECOVERED
        if stf.total is None and tf.total:
            self._tell_total(stf, tf.total)
        return True

    def _begin(self, tf: TfFile, at: datetime) -> Stf:
        stf = self._absent.pop(tf.stf_filename, None) or Stf(tf.stf_filename, tf.sequence, at)
        self.selection.learn(tf.sequence, tf.fraction)
        self._open[tf.stf_filename] = stf
        self.seen += 1
        self._untold += 1
        if not self._is_selected(tf.sequence) or tf.sequence is None or self._code(tf.sequence) >= _PRESENT:
            self._extra += 1  # admitted by a person, or not to be counted by number, which two may share
        if tf.sequence:
            self.diagnostics(tf.sequence)
            self._gaps.pop(tf.sequence, None)
            self._codes[tf.sequence] = max(self._codes[tf.sequence], _PRESENT)
        self._shrink()
        return stf

    def _tell_total(self, stf: Stf, total: int) -> None:
        stf.total = self._last_total = total
        self._known_totals += total
        self._untold -= 1

    def _shrink(self) -> None:
        if len(self._open) > KEPT_WHOLE:
            name, oldest = next(iter(self._open.items()))
            del self._open[name]
            if not oldest.is_complete and len(self._open) < 10 * KEPT_WHOLE:
                self._open[name] = oldest
            elif oldest.sequence and oldest.sequence == sequence_of(None, name):
                self._codes[oldest.sequence] |= _SHRUNK
            else:
                self._shrunk.add(name)

    def _is_shrunk(self, name: str, sequence: int | None) -> bool:
        return self._code(sequence) >= _SHRUNK or name in self._shrunk

    def diagnostics(self, sequence: int) -> None:
        """There are at least so many STFs."""
        self.highest = max(self.highest, sequence)
        if len(self._codes) <= sequence:
            self._codes.extend(bytes(max(1000, sequence + 1 - len(self._codes))))

    def listed(self, stfs: Iterable[tuple[str, datetime]], at: datetime, young: timedelta) -> list[str]:
        """The monitor's list, with the time of registration: returns the names to ask TF files for."""
        names, newest = set(), None
        for name, since in stfs:
            names.add(name)
            newest = max(newest or since, since)
            sequence = sequence_of(None, name)
            if sequence:
                self.diagnostics(sequence)
            if name in self._open or self._is_shrunk(name, sequence):
                continue
            if sequence:
                self._codes[sequence] = max(self._codes[sequence], _LISTED)
            if name not in self._absent and self._is_selected(sequence):
                self._absent[name] = Stf(name, sequence, since)
        self._is_listed = True
        self._absent = {n: s for n, s in self._absent.items() if n in names and self._is_selected(s.sequence)}
        self._find_gaps(min(at, newest or at))  # whoever precedes the newest should have been there by then
        quiet = [stf for stf in self._open.values() if at - stf.since >= young]
        self.unconfirmed = sum(stf.name not in names for stf in quiet)
        ask = [stf for stf in quiet if not stf.is_complete]
        return [stf.name for stf in [*ask, *(stf for stf in self._absent.values() if at - stf.since >= young)]]

    def _find_gaps(self, since: datetime) -> None:
        gaps: dict[int, datetime] = {}
        sequence = self._codes.find(_NOTHING, 1, self.highest + 1)
        while sequence > 0 and len(gaps) < _MOST_GAPS:
            if self._is_selected(sequence):
                gaps[sequence] = self._gaps.get(sequence, since)
            sequence = self._codes.find(_NOTHING, sequence + 1, self.highest + 1)
        self._gaps = gaps

    def still_wanting(self, names: Iterable[str]) -> list[str]:
        """Those of *names* whose TF files are still to be asked for: since the list was made, some were heard of."""
        found = [(name, self._absent.get(name) or self._open.get(name)) for name in names]
        return [
            name for name, stf in found if stf and not stf.is_complete and (stf.ids or self._is_selected(stf.sequence))
        ]

    def asked(self, name: str, at: datetime, grace: timedelta) -> None:
        """The monitor's answer for the STF *name* has been taken in."""
        stf = self._open.get(name) or self._absent.get(name)
        if stf:  # where nobody says how many there are, an answer is the last one only after some quiet
            stf.asked = stf.total is not None or not stf.ids or at - stf.since >= grace

    def expected(self) -> int | None:
        """How many STFs were selected; None where that cannot be known."""
        if self.selection.is_known:
            return self.selection.count(self.highest) + self._extra
        is_whole = self._is_listed and not self._absent and not self._gaps
        return self.seen if is_whole else None

    def skipped(self) -> int | None:
        """How many were not selected."""
        if self.selection.is_known:
            return max(0, self.highest - self.selection.count(self.highest))
        return None if self.expected() is None else 0

    def tf_expected(self) -> int | None:
        """How many TF files the selected STFs have together; those not heard of are taken to be like the last one."""
        expected = self.expected()
        if expected is None or self._untold or (self._last_total is None and expected):
            return None
        return self._known_totals + max(0, expected - self.seen) * (self._last_total or 0)

    def missing(self, at: datetime, grace: timedelta) -> list[int] | None:
        """Sequence numbers (0: has none) of selected STFs without TF files; None where skipped ones may be among."""
        if not self._is_listed or not (self.selection.is_known or self.expected() is not None):
            return None
        absent = [
            stf.sequence or 0 for stf in self._absent.values()
            if stf.asked and at - stf.since >= grace and self._is_selected(stf.sequence)
        ]  # fmt: skip
        return sorted([*absent, *(n for n, since in self._gaps.items() if at - since >= grace)])

    def incomplete(self, at: datetime, grace: timedelta) -> list[Stf]:
        """STFs with fewer TF files than announced."""
        return [
            stf for stf in self._open.values()
            if stf.total is not None and len(stf.ids) < stf.total and stf.asked and at - stf.since >= grace
        ]  # fmt: skip

    def is_pending(self, at: datetime, grace: timedelta) -> bool:
        """Whether there are STFs for a verdict on which it is too early."""
        return any(at - since < grace for since in self._gaps.values()) or any(
            not stf.asked or at - stf.since < grace
            for stf in [*self._absent.values(), *self._open.values()]
            if not stf.is_complete and (stf.ids or self._is_selected(stf.sequence))
        )

    def strip(self, at: datetime, grace: timedelta) -> list[StripCell]:
        """The last 600 by number."""
        incomplete = {stf.sequence for stf in self.incomplete(at, grace)}
        missing = set(self.missing(at, grace) or ())
        cells = [
            (n, self._kind(n, missing, incomplete)) for n in range(max(1, self.highest - STRIP + 1), self.highest + 1)
        ]
        return [{"sequence": n, "kind": kind} for n, kind in cells if kind]

    def _kind(self, sequence: int, missing: set[int], incomplete: set[int | None]) -> StripKind | None:
        code = self._codes[sequence] % _SHRUNK
        if sequence in incomplete:
            return "incomplete"
        if code >= _PRESENT:
            return "present" if code == _PRESENT else "recovered"
        if sequence in missing:
            return "missing"
        if not self.selection.is_known:
            return "unknown"
        return None if self.selection.takes(sequence) else "skipped"

    def _is_selected(self, sequence: int | None) -> bool:
        """Whether it may have been selected."""
        return sequence is None or not self.selection.is_known or self.selection.takes(sequence)

    def _code(self, sequence: int | None) -> int:
        return self._codes[sequence] if sequence and sequence < len(self._codes) else _NOTHING
