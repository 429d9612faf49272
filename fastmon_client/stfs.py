"""The STFs of one run: present, absent, skipped. Pure.

Memory: a complete STF shrinks to one byte after 2000 newer ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from fastmon_client.selection import Selection, sequence_of
from fastmon_client.snapshot import StripCell, StripKind
from fastmon_client.tffile import TfFile

MAX_OPEN_STFS = 2000
MAX_ABSENT = 10_000
"""STFs without TF files that are asked for at a time; the others follow when these are answered."""
MAX_TF_FILES_PER_STF = 2000
"""Whoever may publish can announce any number; an STF has 1000 TFs."""
MAX_TF_FILES = 200_000
"""TF files of STFs that are not compacted."""
STRIP_LENGTH = 600
_MAX_GAPS = 100_000
_MAX_COMPACTED_NAMES = 100_000
_UNSEEN, _LISTED, _PRESENT, _RECOVERED = range(4)
_COMPACTED = 4
"""Added to the code of an STF that was compacted."""


@dataclass(slots=True)
class Stf:
    """One STF that is not compacted."""

    name: str
    sequence: int | None
    since: datetime
    """Time of its registration, then of its last TF file."""
    total: int | None = None
    ids: set[str] = field(default_factory=set)
    unannounced: set[str] = field(default_factory=set)
    """TF files known from the monitor only: a later announcement is no duplicate."""
    answered: bool = False
    """Whether the monitor's TF files were ingested, and no new one arrived since."""

    @property
    def is_complete(self) -> bool:
        """Whether all TF files are present; if the total is unknown, all that the monitor has after the grace time."""
        return bool(self.ids) and (self.answered if self.total is None else len(self.ids) >= self.total)


class Stfs:
    """The STFs of a run."""

    def __init__(self) -> None:
        self.selection = Selection()
        self.highest = 0
        """Highest known sequence number."""
        self.seen = 0
        self.unconfirmed = 0
        """Announced STFs that the monitor does not list."""
        self._known_totals = self._without_total = self._extra = 0
        self._last_total: int | None = None
        self._open: dict[str, Stf] = {}
        self._absent: dict[str, Stf] = {}
        self._gaps: dict[int, datetime] = {}
        self._codes = bytearray(1)
        self._compacted: dict[int, None] = {}
        """Hashes of the names of compacted STFs whose name does not contain their number, oldest first."""
        self._open_tf_files = 0
        self.left_out = 0
        """STFs without TF files beyond `MAX_ABSENT`, which the last listing contained."""
        self._has_listing = False

    def ingest(self, tf: TfFile, at: datetime, *, backfilled: bool) -> bool | None:
        """Count *tf*; whether it is new. None: the first announcement of a backfilled one."""
        stf = self._open.get(tf.stf_filename)
        if stf is None:
            if self._is_compacted(tf.stf_filename, tf.sequence):
                return False
            stf = self._open_stf(tf, at)
        identity = tf.identity
        if identity is not None and identity in stf.ids:
            repeats = backfilled or identity not in stf.unannounced
            stf.unannounced.discard(identity)
            return False if repeats else None
        if len(stf.ids) >= MAX_TF_FILES_PER_STF:
            return False
        identity = identity or f"?{len(stf.ids)}"
        stf.ids.add(identity)
        self._open_tf_files += 1
        if backfilled:
            stf.unannounced.add(identity)
        stf.since = max(stf.since, min(at, tf.timestamp or at)) if backfilled else at
        stf.answered = False
        if tf.sequence and (backfilled or tf.late):
            self._codes[tf.sequence] |= _RECOVERED
        if stf.total is None and tf.total:
            self._set_total(stf, tf.total)
        return True

    def _open_stf(self, tf: TfFile, at: datetime) -> Stf:
        stf = self._absent.pop(tf.stf_filename, None) or Stf(tf.stf_filename, tf.sequence, at)
        self.selection.record_fraction(tf.sequence, tf.fraction)
        self._open[tf.stf_filename] = stf
        self.seen += 1
        self._without_total += 1
        if not self._is_selected(tf.sequence) or tf.sequence is None or self._code(tf.sequence) >= _PRESENT:
            self._extra += 1  # included by an operator, or without a number of its own
        if tf.sequence:
            self.extend_to(tf.sequence)
            self._gaps.pop(tf.sequence, None)
            self._codes[tf.sequence] = max(self._codes[tf.sequence], _PRESENT)
        self._compact()
        return stf

    def _set_total(self, stf: Stf, total: int) -> None:
        stf.total = self._last_total = total
        self._known_totals += total
        self._without_total -= 1

    def _compact(self) -> None:
        is_full = self._open_tf_files > MAX_TF_FILES
        if len(self._open) > MAX_OPEN_STFS or is_full:
            name, oldest = next(iter(self._open.items()))
            del self._open[name]
            if not oldest.is_complete and len(self._open) < 10 * MAX_OPEN_STFS and not is_full:
                self._open[name] = oldest
                return
            self._open_tf_files -= len(oldest.ids)
            if oldest.sequence and oldest.sequence == sequence_of(None, name):
                self._codes[oldest.sequence] |= _COMPACTED
                return
            if len(self._compacted) >= _MAX_COMPACTED_NAMES:
                del self._compacted[next(iter(self._compacted))]
            self._compacted[hash(name)] = None

    def _is_compacted(self, name: str, sequence: int | None) -> bool:
        return self._code(sequence) >= _COMPACTED or hash(name) in self._compacted

    @property
    def memory(self) -> int:
        """About how many bytes it takes."""
        objects = 1200 * (len(self._open) + len(self._absent)) + 150 * self._open_tf_files
        return len(self._codes) + objects + 150 * (len(self._gaps) + len(self._compacted))

    def extend_to(self, sequence: int) -> None:
        """Raise the highest known sequence number."""
        self.highest = max(self.highest, sequence)
        if len(self._codes) <= sequence:
            self._codes.extend(bytes(max(1000, sequence + 1 - len(self._codes))))

    def record_listing(self, stfs: Iterable[tuple[str, datetime]], at: datetime, min_age: timedelta) -> list[str]:
        """Record the monitor's STFs (name, time of registration); returns those whose TF files to query."""
        seen, newest, self.left_out = set(), None, 0
        for name, since in stfs:
            newest = max(newest or since, since)
            sequence = sequence_of(None, name)
            if sequence:
                self.extend_to(sequence)
            if name in self._open or name in self._absent:
                seen.add(name)
            if name in self._open or self._is_compacted(name, sequence):
                continue
            if sequence:
                self._codes[sequence] = max(self._codes[sequence], _LISTED)
            if name not in self._absent and self._is_selected(sequence):
                if len(self._absent) >= MAX_ABSENT:
                    self.left_out += 1
                    continue
                self._absent[name] = Stf(name, sequence, since)
                seen.add(name)
        self._has_listing = True
        self._absent = {n: s for n, s in self._absent.items() if n in seen and self._is_selected(s.sequence)}
        self._find_gaps(min(at, newest or at))  # earlier STFs should be registered by then
        settled = [stf for stf in self._open.values() if at - stf.since >= min_age]
        self.unconfirmed = sum(stf.name not in seen for stf in settled)
        incomplete = [stf for stf in settled if not stf.is_complete]
        absent = [stf for stf in self._absent.values() if at - stf.since >= min_age]
        return [stf.name for stf in [*incomplete, *absent]]

    def _find_gaps(self, since: datetime) -> None:
        gaps: dict[int, datetime] = {}
        sequence = self._codes.find(_UNSEEN, 1, self.highest + 1)
        while sequence > 0 and len(gaps) < _MAX_GAPS:
            if self._is_selected(sequence):
                gaps[sequence] = self._gaps.get(sequence, since)
            sequence = self._codes.find(_UNSEEN, sequence + 1, self.highest + 1)
        self._gaps = gaps

    def still_to_query(self, names: Iterable[str]) -> list[str]:
        """Those of *names* whose TF files still need a query; announcements may have arrived meanwhile."""
        found = [(name, self._absent.get(name) or self._open.get(name)) for name in names]
        return [
            name for name, stf in found if stf and not stf.is_complete and (stf.ids or self._is_selected(stf.sequence))
        ]

    def record_answer(self, name: str, at: datetime, grace: timedelta) -> None:
        """Record that the monitor's TF files of *name* were ingested."""
        stf = self._open.get(name) or self._absent.get(name)
        if stf:  # if the total is unknown, only an answer after the grace time is final
            stf.answered = stf.total is not None or not stf.ids or at - stf.since >= grace

    def expected(self) -> int | None:
        """Number of selected STFs; None if unknown."""
        if self.selection.is_known:
            return self.selection.count(self.highest) + self._extra
        is_whole = self._has_listing and not self._absent and not self._gaps
        return self.seen if is_whole else None

    def skipped(self) -> int | None:
        """Number of STFs that were not selected; None if unknown."""
        if self.selection.is_known:
            return max(0, self.highest - self.selection.count(self.highest))
        return None if self.expected() is None else 0

    def tf_expected(self) -> int | None:
        """TF files of all selected STFs; for STFs without TF files, as many as the last one has. None if unknown."""
        expected = self.expected()
        if expected is None or self._without_total or (self._last_total is None and expected):
            return None
        return self._known_totals + max(0, expected - self.seen) * (self._last_total or 0)

    def missing(self, at: datetime, grace: timedelta) -> list[int] | None:
        """Sequence numbers (0: none) of selected STFs without TF files; None if they may be skipped ones."""
        if not self._has_listing or not (self.selection.is_known or self.expected() is not None):
            return None
        absent = [
            stf.sequence or 0 for stf in self._absent.values()
            if stf.answered and at - stf.since >= grace and self._is_selected(stf.sequence)
        ]  # fmt: skip
        return sorted([*absent, *(n for n, since in self._gaps.items() if at - since >= grace)])

    def incomplete(self, at: datetime, grace: timedelta) -> list[Stf]:
        """STFs with fewer TF files than their total."""
        return [
            stf for stf in self._open.values()
            if stf.total is not None and len(stf.ids) < stf.total and stf.answered and at - stf.since >= grace
        ]  # fmt: skip

    def is_pending(self, at: datetime, grace: timedelta) -> bool:
        """Whether some STFs are too young for a verdict."""
        return any(at - since < grace for since in self._gaps.values()) or any(
            not stf.answered or at - stf.since < grace
            for stf in [*self._absent.values(), *self._open.values()]
            if not stf.is_complete and (stf.ids or self._is_selected(stf.sequence))
        )

    def strip(self, at: datetime, grace: timedelta) -> list[StripCell]:
        """The last `STRIP_LENGTH` STFs by number."""
        incomplete = {stf.sequence for stf in self.incomplete(at, grace)}
        missing = set(self.missing(at, grace) or ())
        cells = [
            (n, self._kind(n, missing, incomplete))
            for n in range(max(1, self.highest - STRIP_LENGTH + 1), self.highest + 1)
        ]
        return [{"sequence": n, "kind": kind} for n, kind in cells if kind]

    def _kind(self, sequence: int, missing: set[int], incomplete: set[int | None]) -> StripKind | None:
        code = self._codes[sequence] % _COMPACTED
        if sequence in incomplete:
            return "incomplete"
        if code >= _PRESENT:
            return "present" if code == _PRESENT else "recovered"
        if sequence in missing:
            return "missing"
        if not self.selection.is_known:
            return "unknown"
        return None if self.selection.includes(sequence) else "skipped"

    def _is_selected(self, sequence: int | None) -> bool:
        """Whether it was selected, or may have been."""
        return sequence is None or not self.selection.is_known or self.selection.includes(sequence)

    def _code(self, sequence: int | None) -> int:
        return self._codes[sequence] if sequence and sequence < len(self._codes) else _UNSEEN
