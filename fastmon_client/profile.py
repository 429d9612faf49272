"""What a run was like, minute by minute since its start: to compare a run with one that was good. Pure.

Both runs are read from the monitor's tables, by one clock and one rule. Of a long run one of 2, 4, 8 ... selected STFs
is read; a minute in which no STF was read is unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from fastmon_client.formatting import age, lag, size
from fastmon_client.selection import Selection, sequence_of
from fastmon_client.snapshot import Point, ProfileRow, ReferenceRow
from fastmon_client.tffile import file_size, parse_timestamp

STEP_S = 60
MAX_STEPS = 24 * 60
MAX_READ = 2000
"""STFs that are read of one run."""
SETTLED_AFTER = timedelta(seconds=30)
"""A younger STF may still get its TF files."""
_NEVER = datetime.max.replace(tzinfo=UTC)
RECOVERED_WITHIN = timedelta(minutes=5)
"""An older STF without TF files is not read again."""


@dataclass(frozen=True, slots=True)
class _Read:
    """What was read of one STF."""

    tf_files: int
    size: int | None
    lag_s: float | None


@dataclass(slots=True)
class _Bin:
    selected: int = 0
    read: list[_Read] = field(default_factory=list)

    def point(self, *, is_selection_known: bool) -> Point:
        files = sum(each.tf_files for each in self.read)
        present = [each for each in self.read if each.tf_files]
        sizes = [each.size for each in present if each.size is not None]
        lags = sorted(each.lag_s for each in present if each.lag_s is not None)
        count = len(self.read)
        return {
            "rate_hz": round(files / count * self.selected / STEP_S, 4) if count else None,
            "lag_s": round(lags[len(lags) // 2], 3) if lags else None,
            "missing": round(1 - len(present) / count, 4) if count and is_selection_known else None,
            "size_bytes": round(sum(sizes) / len(sizes)) if sizes else None,
        }


class Profile:
    """The profile of one run; it grows with what is read."""

    def __init__(self, run: str) -> None:
        self.run = run
        self._began_at: datetime | None = None
        self._ended_at: datetime | None = None
        self._selection = Selection()
        self._read: dict[str, _Read] = {}
        self._selected: list[tuple[str, datetime]] = []
        """STFs that may be selected, by time."""
        self._times: dict[str, datetime] = {}
        self._again: set[str] = set()
        """Those that had no TF files yet, and may have some since."""
        self._settled_at = datetime.min.replace(tzinfo=UTC)

    def record_row(self, row: Mapping[str, Any]) -> None:
        """Record the run's row in the monitor's table."""
        self._began_at = parse_timestamp(row.get("start_time")) or self._began_at
        self._ended_at = parse_timestamp(row.get("end_time"))

    @property
    def has_ended(self) -> bool:
        """Whether the table has its end."""
        return self._ended_at is not None

    def record_listing(self, stfs: Iterable[tuple[str, datetime]], at: datetime) -> None:
        """Record the STFs of the run: name and time of registration."""
        by_time = sorted(stfs, key=lambda each: (each[1], each[0]))
        self._settled_at = at - SETTLED_AFTER
        self._began_at = self._began_at or (by_time[0][1] if by_time else None)
        self._selected = [each for each in by_time if each[1] <= self._settled_at and self._may_be_selected(each[0])]
        self._times = dict(self._selected)
        recent = at - RECOVERED_WITHIN
        self._again = {stf for stf, since in self._selected
                       if since > recent and stf in self._read and not self._read[stf].tf_files}  # fmt: skip

    def to_read(self) -> list[str]:
        """The STFs whose TF files are to be read, oldest first; the first ones tell which STFs are selected."""
        return [stf for stf, _ in self._selected[:: self.one_of] if stf not in self._read or stf in self._again]

    def record_tf_files(self, stf: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Record the TF files of *stf*."""
        since = self._times.get(stf)
        made = [at for row in rows if (at := parse_timestamp(row.get("created_at")))]
        lag_s = max(0.0, (max(made) - since).total_seconds()) if made and since else None
        known = [count for row in rows if (count := file_size(row)) is not None]
        self._again.discard(stf)
        self._read[stf] = _Read(len(rows), sum(known) if len(known) == len(rows) else None, lag_s)
        for row in rows:
            metadata = row.get("metadata")
            if isinstance(metadata, Mapping) and self._selection.record_fraction(metadata.get("selection_fraction")):
                self._selected = [each for each in self._selected if self._may_be_selected(each[0])]

    @property
    def one_of(self) -> int:
        """One of so many selected STFs is read: a power of two, so that what was read stays of use."""
        found = 1
        while len(self._selected) > MAX_READ * found:
            found *= 2
        return found

    def row(self) -> ProfileRow:
        """Plain data, of whole minutes."""
        chosen = self._selected[:: self.one_of]
        return {
            "run": self.run,
            "began_at": self._began_at.isoformat() if self._began_at else None,
            "step_s": STEP_S,
            "stfs": len(self._selected),
            "read": sum(stf in self._read for stf, _ in chosen),
            "one_of": self.one_of,
            "to_read": len(self.to_read()),
            "points": self._points(),
        }

    def _points(self) -> list[Point]:
        begin = self._began_at
        if begin is None or not self._selected:
            return []
        bins: dict[int, _Bin] = {}
        for place, (stf, since) in enumerate(self._selected):
            number = int((since - begin).total_seconds() // STEP_S)
            if not 0 <= number < MAX_STEPS or not self._is_whole(begin, number):
                continue
            found = bins.setdefault(number, _Bin())
            found.selected += 1
            if place % self.one_of == 0 and stf in self._read:
                found.read.append(self._read[stf])
        nothing = _Bin()
        last = max(bins, default=-1)
        is_known = self._selection.is_known
        return [bins.get(number, nothing).point(is_selection_known=is_known) for number in range(last + 1)]

    def _is_whole(self, begin: datetime, number: int) -> bool:
        """Whether that minute is over, and the run was not over before it; of a shorter run the first one counts."""
        if self._ended_at is not None and number == 0:
            return True
        return begin + timedelta(seconds=(number + 1) * STEP_S) <= min(self._settled_at, self._ended_at or _NEVER)

    def _may_be_selected(self, stf: str) -> bool:
        sequence = sequence_of(None, stf)
        return not self._selection.is_known or sequence is None or self._selection.by_any(sequence)


def compare(now: ProfileRow | None, good: ProfileRow, problem: str = "") -> ReferenceRow:
    """The last known minute of *now*, and the same one of the reference run *good*; *problem*: it cannot be read."""
    found: ReferenceRow = {"run": good["run"], "text": "", "current": None, "since_start_s": None, "now": None,
                           "then": None}  # fmt: skip
    head = f"reference run {good['run']}"
    if problem:
        return {**found, "text": f"{head}: not to be had: {problem}"}
    if good["to_read"]:
        return {**found, "text": f"{head}: {good['read']} of {good['read'] + good['to_read']} STFs read"}
    if not good["points"]:
        return {**found, "text": f"{head}: not to be had: the monitor has no STFs of it"}
    if now is None or not now["points"]:
        return {**found, "text": f"{head}: no minute of a run to compare yet"}
    place = len(now["points"]) - 1
    point, then = now["points"][place], good["points"][place] if place < len(good["points"]) else None
    since_s = float(len(now["points"]) * STEP_S)
    values = zip(_shown(point), _shown(then), strict=True)
    parts = ", ".join(f"{name} {value} ({before})" for (name, value), (_, before) in values)
    ended = "" if then else ", which was shorter"
    text = f"run {now['run']} after {age(since_s)}, in brackets {head}{ended}: {parts}"
    return {**found, "text": text, "current": now["run"], "since_start_s": since_s, "now": point, "then": then}


def _shown(point: Point | None) -> Iterator[tuple[str, str]]:
    hz = point and point["rate_hz"]
    lag_s = point and point["lag_s"]
    missing = point and point["missing"]
    count = point and point["size_bytes"]
    yield "rate", "?" if hz is None else f"{hz:.1f} TF files/s"
    yield "lag", "?" if lag_s is None else lag(lag_s)
    yield "missing", "?" if missing is None else f"{100 * missing:.1f} %"
    yield "size", "?" if count is None else f"{size(round(count))} an STF"
