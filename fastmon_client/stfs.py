"""The STFs of one run: present, absent, skipped. Pure.

Memory: an STF needs one byte when it is settled: complete and followed by 2000 newer ones, or absent by an answer.

An STF without TF files is settled by an answer of the monitor, never by the rule of the selection alone: an operator
may have included it, and a restarted daemon may have selected it by another fraction. Only while the stream is read
without a gap does the rule save that call: a TF file would have been announced.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice

from fastmon_client.selection import Selection, sequence_of
from fastmon_client.snapshot import StripCell, StripKind
from fastmon_client.tffile import TfFile

MAX_OPEN_STFS = 2000
MAX_ABSENT = 2000
"""STFs without TF files whose answer is awaited at once; the next listing names more."""
MAX_TF_FILES_PER_STF = 2000
"""Whoever may publish can announce any number; an STF has 1000 TFs."""
MAX_TF_FILES = 200_000
"""TF files of STFs that are not compacted."""
MAX_REREAD = 100
"""STFs without TF files that are read again after a loss of the stream, or one comparison after another."""
STRIP_LENGTH = 600
_MAX_GAPS = 100_000
_MAX_COMPACTED_NAMES = 100_000
_BYTES_PER_STF, _BYTES_PER_TF_FILE = 1200, 150

_UNSEEN, _LISTED, _PRESENT, _RECOVERED = range(4)
_COMPACTED = 4
"""Added to the code of a present STF that was compacted."""
_EMPTY, _MISSING = 8, 9
"""The monitor has no TF files of it: not selected by all fractions, and selected by all."""


@dataclass(slots=True)
class Stf:
    """One STF that is not settled."""

    name: str
    sequence: int | None
    since: datetime
    """Time of its registration, then of its last TF file."""
    total: int | None = None
    ids: set[str] = field(default_factory=set)
    unannounced: dict[str, int] = field(default_factory=dict)
    """TF files known from the monitor only, with the hash of their id: a later announcement is no duplicate."""
    answered: bool = False
    """Whether the monitor's TF files were ingested, and no new one arrived since."""

    @property
    def is_complete(self) -> bool:
        """Whether all TF files are present; if the total is unknown, all that the monitor has after the grace time."""
        return bool(self.ids) and (self.answered if self.total is None else len(self.ids) >= self.total)


@dataclass(frozen=True, slots=True)
class Missing:
    """STFs that must have TF files and have none."""

    count: int
    numbers: list[int]
    """The lowest sequence numbers, ascending, as many as were asked for."""


class Stfs:
    """The STFs of a run."""

    def __init__(self) -> None:
        self.selection = Selection()
        self.highest = 0
        """Highest known sequence number."""
        self.seen = 0
        self.unconfirmed = 0
        """Announced STFs that the monitor does not list."""
        self.unread = 0
        """Listed STFs without TF files that are too many for one comparison."""
        self.unclear_are_skipped = False
        """Whether the daemon's summary accounts for them."""
        self._known_totals = self._without_total = 0
        self._last_total: int | None = None
        self._open: dict[str, Stf] = {}
        self._incomplete: dict[str, Stf] = {}
        """Those of `_open` that are not complete."""
        self._absent: dict[str, Stf] = {}
        self._gaps: dict[int, datetime] = {}
        """Sequence numbers that nobody registered, and since when they should be."""
        self._codes = bytearray(1)
        self._numbered = [0, 0, 0]
        """Distinct present numbers: in all, selected by all fractions, selected by at least one."""
        self._gaps_by_class = (0, 0)
        """Gaps selected by all fractions, and by at least one."""
        self._compacted: dict[int, None] = {}
        """Hashes of the names of compacted STFs whose name does not contain their number, oldest first."""
        self._open_tf_files = 0
        self.grown = 0
        """About how many bytes it takes more than when this was set to 0."""
        self.has_listing = False
        """Whether the monitor's STFs were recorded."""
        self._again: set[str] = set()
        """Settled STFs whose TF files are queried again."""
        self._again_from = 0
        self._reads_all_missing = False

    def ingest(self, tf: TfFile, at: datetime, *, backfilled: bool) -> bool | None:
        """Count *tf*; whether it is new. None: the first announcement of a backfilled one."""
        stf = self._open.get(tf.stf_filename)
        if stf is None:
            if self._is_compacted(tf.stf_filename, tf.sequence):
                return False
            stf = self._open_stf(tf, at)
        identity, ids = tf.identity, stf.ids
        if identity is not None and (known := identity if identity in ids else _known(tf, stf)) is not None:
            return False if backfilled or stf.unannounced.pop(known, None) is None else None
        if len(ids) >= MAX_TF_FILES_PER_STF:
            return False
        identity = identity or f"?{len(ids)}"
        ids.add(identity)
        self._open_tf_files += 1
        self.grown += _BYTES_PER_TF_FILE
        if backfilled:
            stf.unannounced[identity] = hash(tf.tf_file_id)
        stf.since = max(stf.since, min(at, tf.timestamp or at)) if backfilled else at
        stf.answered = False
        if tf.sequence and (backfilled or tf.late):
            self._codes[tf.sequence] |= _RECOVERED
        if stf.total is None:
            if tf.total:
                self._set_total(stf, tf.total)
            else:
                self._incomplete[stf.name] = stf
        if stf.total is not None and len(ids) >= stf.total:
            self._incomplete.pop(stf.name, None)
        return True

    def record_fraction(self, fraction: object) -> None:
        """Record the selection fraction of an announcement."""
        if not self.selection.record_fraction(fraction):
            return
        self._numbered = [0, 0, 0]
        for sequence in range(1, self.highest + 1):  # a run has few fractions
            code = self._codes[sequence]
            if code in (_EMPTY, _MISSING):
                self._codes[sequence] = _MISSING if self.selection.by_all(sequence) else _EMPTY
            elif _PRESENT <= code < _EMPTY:
                self._count_present(sequence)
        self._classify_gaps()

    def _count_present(self, sequence: int) -> None:
        self._numbered[0] += 1
        if self.selection.is_known:
            self._numbered[1] += self.selection.by_all(sequence)
            self._numbered[2] += self.selection.by_any(sequence)

    def _open_stf(self, tf: TfFile, at: datetime) -> Stf:
        stf = self._absent.pop(tf.stf_filename, None) or Stf(tf.stf_filename, tf.sequence, at)
        stf.answered = False
        self.record_fraction(tf.fraction)
        self._open[tf.stf_filename] = self._incomplete[tf.stf_filename] = stf
        self.seen += 1
        self.grown += _BYTES_PER_STF
        self._without_total += 1
        if tf.sequence:
            self.extend_to(tf.sequence)
            if self._gaps.pop(tf.sequence, None):
                self._classify_gaps()
            if not _PRESENT <= self._codes[tf.sequence] < _EMPTY:
                self._codes[tf.sequence] = _PRESENT
                self._count_present(tf.sequence)
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
            self._incomplete.pop(name, None)
            self._open_tf_files -= len(oldest.ids)
            self.grown -= _BYTES_PER_STF + _BYTES_PER_TF_FILE * len(oldest.ids)
            if oldest.sequence and oldest.sequence == sequence_of(None, name):
                self._codes[oldest.sequence] |= _COMPACTED
                return
            if len(self._compacted) >= _MAX_COMPACTED_NAMES:
                del self._compacted[next(iter(self._compacted))]
            self._compacted[hash(name)] = None

    def _is_compacted(self, name: str, sequence: int | None) -> bool:
        return _COMPACTED <= self._code(sequence) < _EMPTY or hash(name) in self._compacted

    @property
    def memory(self) -> int:
        """About how many bytes it takes."""
        objects = _BYTES_PER_STF * (len(self._open) + len(self._absent)) + _BYTES_PER_TF_FILE * self._open_tf_files
        return len(self._codes) + objects + 150 * (len(self._gaps) + len(self._compacted))

    def extend_to(self, sequence: int) -> None:
        """Raise the highest known sequence number."""
        self.highest = max(self.highest, sequence)
        if len(self._codes) <= sequence:
            more = max(1000, sequence + 1 - len(self._codes))
            self._codes.extend(bytes(more))
            self.grown += more

    def record_listing(
        self, stfs: Iterable[tuple[str, datetime]], at: datetime, min_age: timedelta, grace: timedelta,
        heard: tuple[datetime, datetime] | None = None,
    ) -> list[str]:  # fmt: skip
        """Record the monitor's STFs (name, time of registration); returns those whose TF files to query, newest first.

        *heard*: the time over which every TF file was announced to us. STFs registered in it that the rule skips are
        skipped without a query.
        """
        again = self._next_again()
        self._again = set()
        listed: set[str] = set()
        newest: datetime | None = None
        unread: list[Stf] = []
        for name, since in stfs:
            newest = max(newest or since, since)
            sequence = sequence_of(None, name)
            if sequence:
                self.extend_to(sequence)
            if name in self._open:
                listed.add(name)
                continue
            if self._is_compacted(name, sequence):
                continue
            code = self._code(sequence)
            if sequence and code == _UNSEEN:
                self._codes[sequence] = code = _LISTED
            if code in (_EMPTY, _MISSING):
                if sequence in again:
                    self._again.add(name)
                continue
            if sequence and self._is_skipped(sequence) and heard and heard[0] < since < heard[1]:
                self._codes[sequence] = _EMPTY
                continue
            unread.append(self._absent.get(name) or Stf(name, sequence, since))
        self.has_listing = True
        unread.sort(key=lambda stf: stf.since, reverse=True)
        self._absent = {stf.name: stf for stf in unread[:MAX_ABSENT]}
        self.unread = len(unread) - len(self._absent)
        self._find_gaps(min(at, newest or at))  # earlier STFs should be registered by then
        settled = [stf for stf in self._open.values() if at - stf.since >= min_age]
        self.unconfirmed = sum(stf.name not in listed for stf in settled)
        incomplete = [stf.name for stf in self._incomplete.values() if at - stf.since >= min_age]
        absent = [
            stf.name for stf in self._absent.values()
            if at - stf.since >= (grace if self._is_skipped(stf.sequence) else min_age)
        ]  # fmt: skip
        return [*incomplete, *absent, *self._again]

    def read_again(self) -> None:
        """Ask again for STFs that had no TF files: some may have got them while the stream was not read."""
        self._reads_all_missing = True

    def _next_again(self) -> set[int]:
        """The settled STFs to query with the next listing: some missing ones, in turn; after `read_again` all."""
        if self._reads_all_missing:
            self._reads_all_missing = False
            return {*islice(self._with_code(_MISSING), MAX_ABSENT), *islice(self._with_code(_EMPTY), MAX_REREAD)}
        found: set[int] = set()
        sequence = self._codes.find(_MISSING, self._again_from, self.highest + 1)
        while sequence > 0 and len(found) < MAX_REREAD:
            found.add(sequence)
            sequence = self._codes.find(_MISSING, sequence + 1, self.highest + 1)
        self._again_from = max(sequence, 0)
        return found

    def _with_code(self, code: int) -> Iterator[int]:
        """The sequence numbers with *code*, the highest first."""
        sequence = self._codes.rfind(code, 1, self.highest + 1)
        while sequence > 0:
            yield sequence
            sequence = self._codes.rfind(code, 1, sequence)

    def read_all_again(self) -> None:
        """Ask again for all STFs without TF files."""
        self._codes = self._codes.replace(bytes([_EMPTY]), bytes([_LISTED])).replace(
            bytes([_MISSING]), bytes([_LISTED])
        )

    def _is_skipped(self, sequence: int | None) -> bool:
        """Whether no fraction selects it."""
        return sequence is not None and self.selection.is_known and not self.selection.by_any(sequence)

    def _is_selected(self, sequence: int | None) -> bool:
        """Whether each fraction selects it. An STF without a number is selected by a hash, that is, only all are."""
        if not self.selection.is_known:
            return False
        return self.selection.fractions == [1] if sequence is None else self.selection.by_all(sequence)

    def _find_gaps(self, since: datetime) -> None:
        gaps: dict[int, datetime] = {}
        sequence = self._codes.find(_UNSEEN, 1, self.highest + 1)
        while sequence > 0 and len(gaps) < _MAX_GAPS:
            gaps[sequence] = self._gaps.get(sequence, since)
            sequence = self._codes.find(_UNSEEN, sequence + 1, self.highest + 1)
        self._gaps = gaps
        self._classify_gaps()

    def _classify_gaps(self) -> None:
        selection = self.selection
        if selection.is_known:
            self._gaps_by_class = (sum(map(selection.by_all, self._gaps)), sum(map(selection.by_any, self._gaps)))

    def still_to_query(self, names: Iterable[str]) -> list[str]:
        """Those of *names* whose TF files still need a query; announcements may have arrived meanwhile."""
        return [name for name in names if name in self._absent or name in self._incomplete or name in self._again]

    def record_answer(self, name: str, at: datetime, grace: timedelta) -> None:
        """Record that the monitor's TF files of *name* were ingested."""
        self._again.discard(name)
        if stf := self._open.get(name):
            stf.answered = stf.total is not None or at - stf.since >= grace  # a total that is unknown needs the time
            if stf.is_complete:
                self._incomplete.pop(name, None)
        elif stf := self._absent.get(name):
            stf.answered = True
            if stf.sequence and at - stf.since >= grace and self._codes[stf.sequence] == _LISTED:
                del self._absent[name]
                self._codes[stf.sequence] = _MISSING if self._is_selected(stf.sequence) else _EMPTY

    def unclear(self) -> int:
        """Number of STFs without TF files that one fraction selects and another does not."""
        if len(self.selection.fractions) < 2 or self.unclear_are_skipped:
            return 0
        by_all, by_any = self.selection.counts(self.highest)
        _, present_all, present_any = self._numbered
        gaps_all, gaps_any = self._gaps_by_class
        return by_any - by_all - (present_any - present_all) - (gaps_any - gaps_all)

    def expected(self) -> int | None:
        """Number of STFs that must have TF files; None if unknown."""
        if self.selection.is_known:
            if self.unclear():
                return None
            by_all, _ = self.selection.counts(self.highest)
            others = [stf for stf in self._absent.values() if self._code(stf.sequence) != _LISTED]  # no own number
            return (
                self.seen + by_all - self._numbered[1] + len(self._gaps) - self._gaps_by_class[0]
                + sum(self._is_selected(stf.sequence) for stf in others)
            )  # fmt: skip
        return self.seen if self._is_whole() else None

    def _is_whole(self) -> bool:
        """Whether each listed STF has TF files; so the selection does not matter."""
        return self.has_listing and not self._absent and not self._gaps and not self._count_absent()

    def _count_absent(self) -> int:
        """Numbered STFs that are listed, and have no TF files."""
        return self.highest - self._numbered[0] - len(self._gaps)

    def skipped(self) -> int | None:
        """Number of STFs that were not selected; None if unknown."""
        if self.selection.is_known:
            if self.unclear():
                return None
            by_all, _ = self.selection.counts(self.highest)
            return (
                self.highest
                - self._numbered[0]
                - (by_all - self._numbered[1])
                - (len(self._gaps) - self._gaps_by_class[0])
            )
        return None if self.expected() is None else 0

    def tf_expected(self) -> int | None:
        """TF files of all selected STFs; for STFs without TF files, as many as the last one has. None if unknown."""
        expected = self.expected()
        if expected is None or self._without_total or (self._last_total is None and expected):
            return None
        return self._known_totals + max(0, expected - self.seen) * (self._last_total or 0)

    def missing(self, at: datetime, grace: timedelta, named: int = 100) -> Missing | None:
        """The STFs that must have TF files and have none; None if they may be skipped ones."""
        if not self.has_listing or not (self.selection.is_known or self._is_whole()):
            return None
        waiting = [
            stf.sequence or 0 for stf in self._absent.values()
            if stf.answered and at - stf.since >= grace and self._is_selected(stf.sequence)
        ]  # fmt: skip
        waiting += [sequence for sequence, since in self._gaps.items() if at - since >= grace]
        count = len(waiting) + self._codes.count(_MISSING, 1, self.highest + 1)
        return Missing(count, sorted([*filter(None, waiting), *islice(self._settled_missing(), named)])[:named])

    def _settled_missing(self) -> Iterator[int]:
        sequence = self._codes.find(_MISSING, 1, self.highest + 1)
        while sequence > 0:
            yield sequence
            sequence = self._codes.find(_MISSING, sequence + 1, self.highest + 1)

    def incomplete(self, at: datetime, grace: timedelta) -> list[Stf]:
        """STFs with fewer TF files than their total."""
        return [
            stf for stf in self._incomplete.values()
            if stf.total is not None and stf.answered and at - stf.since >= grace
        ]  # fmt: skip

    def is_pending(self, at: datetime, grace: timedelta) -> bool:
        """Whether some STFs are too young for a verdict, or were not read yet."""
        return (
            bool(self.unread)
            or any(at - since < grace for since in self._gaps.values())
            or any(
                not stf.answered or at - stf.since < grace
                for stf in [*self._absent.values(), *self._incomplete.values()]
            )
        )

    def strip(self, at: datetime, grace: timedelta) -> list[StripCell]:
        """The last `STRIP_LENGTH` STFs by number."""
        first = max(1, self.highest - STRIP_LENGTH + 1)
        incomplete = {stf.sequence for stf in self.incomplete(at, grace)}
        missing = {
            stf.sequence for stf in self._absent.values()
            if stf.answered and at - stf.since >= grace and self._is_selected(stf.sequence)
        } | {number for number, since in self._gaps.items() if number >= first and at - since >= grace}  # fmt: skip
        is_known = self.has_listing
        cells = [(n, self._kind(n, missing if is_known else set(), incomplete)) for n in range(first, self.highest + 1)]
        return [{"sequence": n, "kind": kind} for n, kind in cells if kind]

    def _kind(self, sequence: int, missing: set[int | None], incomplete: set[int | None]) -> StripKind | None:
        code = self._codes[sequence]
        if sequence in incomplete:
            return "incomplete"
        if _PRESENT <= code < _EMPTY:
            return "present" if code % _COMPACTED == _PRESENT else "recovered"
        if not self.selection.is_known:
            return "unknown"
        if code == _MISSING or sequence in missing:
            return "missing"
        if not self.selection.by_any(sequence) or (self.unclear_are_skipped and code == _EMPTY):
            return "skipped"
        return None if self.selection.by_all(sequence) else "unknown"

    def _code(self, sequence: int | None) -> int:
        return self._codes[sequence] if sequence and sequence < len(self._codes) else _UNSEEN


def _known(tf: TfFile, stf: Stf) -> str | None:
    """The identity of *tf* if an announcement had only its id, and its row has its name, or the reverse."""
    if tf.tf_file_id is None:
        return None
    if tf.tf_file_id in stf.ids:
        return tf.tf_file_id
    if tf.identity != tf.tf_file_id:
        return None
    number = hash(tf.tf_file_id)
    return next((name for name, other in stf.unannounced.items() if other == number), None)
