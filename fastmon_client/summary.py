"""The summary of what was seen, for people. Pure; whatever came over the network is escaped."""

from __future__ import annotations

from collections.abc import Sequence

from fastmon_client.show import plain, size
from fastmon_client.snapshot import RunRow, Snapshot

_MOST_GAPS = 10


def summary_lines(snapshot: Snapshot) -> list[str]:
    """In all, then run by run, oldest first."""
    totals = snapshot["totals"]
    counts = f"{totals['tf_files']} TF files, {_volume(totals['bytes'], totals['tf_files'])}"
    how = f"{totals['backfilled']} backfilled, {totals['duplicates']} repeated"
    runs = [run_line(run) for run in reversed(snapshot["runs"])]
    return [f"{snapshot['uptime_s']:.0f} s: {counts}, {how}", *runs]


def run_line(run: RunRow) -> str:
    """One run: TF files, volume, what is missing, lag, and whether that is known for sure."""
    known = [
        f"{run['tf_files']} TF files of {run['stfs_seen']} STFs",
        _volume(run["bytes"], run["tf_files"]),
        _missing(run),
    ]
    if run["stfs_incomplete"]:
        known.append(f"{run['stfs_incomplete']} incomplete")
    if run["stfs_skipped"]:
        known.append(f"{run['stfs_skipped']} skipped")
    if run["backfilled"]:
        known.append(f"{run['backfilled']} backfilled")
    if run["lag_p50_s"] is not None:
        known.append(f"lag {run['lag_p50_s']:.1f} s (95 %: {run['lag_p95_s']:.1f} s)")
    doubt = f"; UNKNOWN: {plain(run['doubt'])}" if run["verified"] == "UNKNOWN" else ""
    return f"run {plain(run['run'])} {run['state']}: {', '.join(known)}{doubt}"


def has_gaps(run: RunRow) -> bool:
    """Whether anything is missing, or whether that could not be found out."""
    return bool(run["verified"] == "UNKNOWN" or run["stfs_missing"] is None or run["stfs_missing"]) or bool(
        run["stfs_incomplete"]
    )


def gaps(sequences: Sequence[int]) -> list[str]:
    """Runs of consecutive numbers, from rising *sequences*: `4-6`, `9`."""
    found: list[list[int]] = []
    for number in sequences:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return [str(first) if first == last else f"{first}-{last}" for first, last in found]


def _missing(run: RunRow) -> str:
    count = run["stfs_missing"]
    if not count:
        return "missing unknown" if count is None else "none missing"
    found = gaps(run["missing"])
    more = ", ..." if len(found) > _MOST_GAPS or len(run["missing"]) < count else ""
    return (
        f"{count} missing in {len(found)} gaps ({', '.join(found[:_MOST_GAPS])}{more})" if found else f"{count} missing"
    )


def _volume(known: int, tf_files: int) -> str:
    """Bytes for people; `?` where no TF file told its size."""
    return size(None if tf_files and not known else known)
