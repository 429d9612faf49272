"""The verdict of the demo: what stands in the monitor, asked over REST, against what was sent and what was kept.

It must not know how the run came about.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import requests

from fastmon_daemon.outbox import Stf, Tf

TIMEOUT_S = 30.0
Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class DemoVerdict:
    """What became of the STFs that were sent."""

    stf_sent: int
    stf_completed: int
    tf_registered: int
    tf_expected: int
    announcements: int
    lost: int
    """STFs whose TF files do not all stand in the monitor, or were not all announced."""
    registered_twice: int
    """TF files that overlap another one of their STF, or differ from what the outbox holds."""
    kills: int
    outages: int
    seconds: float

    @property
    def good(self) -> bool:
        """Whether every STF came through, and once only."""
        return not self.lost and not self.registered_twice and self.stf_completed == self.stf_sent

    def as_json(self) -> dict[str, Any]:
        """The numbers by name."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class MonitorState:
    """What stands in the monitor."""

    tf_registered: int
    lost: int
    registered_twice: int


class MonitorReader:
    """The monitor's REST interface, as anybody may read it."""

    def __init__(self, base_url: str) -> None:
        self._url = base_url
        self._session = requests.Session()
        self._session.trust_env = False

    def close(self) -> None:
        """Leave."""
        self._session.close()

    def tf_files(self, stf_filename: str) -> list[Row]:
        """The TF files of one STF.

        Raises:
            requests.RequestException: no good answer.
        """
        query = {"stf_filename": stf_filename}
        answer = self._session.get(f"{self._url}/api/fastmon-files/", params=query, timeout=TIMEOUT_S)
        answer.raise_for_status()
        rows: list[Row] = answer.json()
        return rows

    def announcements(self) -> int:
        """Announcements of TF files that it counted on the topic, repeated ones too."""
        answer = self._session.get(f"{self._url}/_testbed/counts", timeout=TIMEOUT_S)
        answer.raise_for_status()
        return int(answer.json()["announcements"])

    def set_faults(self, **wanted: float) -> None:
        """Let things go wrong.

        Raises:
            requests.RequestException: no good answer.
        """
        self._session.post(f"{self._url}/_testbed/faults", json=wanted, timeout=TIMEOUT_S).raise_for_status()


def judge(
    monitor: MonitorReader, names: Iterable[str], kept: Iterable[Stf], announced: Collection[str], tf_per_stf: int
) -> MonitorState:
    """Compare the monitor's rows of the STFs called *names* with those *kept* in the outbox and the ids *announced*."""
    outbox = {stf.filename: stf.tfs for stf in kept}
    registered = lost = twice = 0
    for name in names:
        rows = monitor.tf_files(name)
        registered += len(rows)
        lost += len(rows) < tf_per_stf or not all(row["tf_file_id"] in announced for row in rows)
        twice += len(overlapping(rows) | differing(rows, outbox.get(name, ())))
    return MonitorState(tf_registered=registered, lost=lost, registered_twice=twice)


def overlapping(rows: Iterable[Row]) -> set[str]:
    """Names of the TF files whose range begins before an earlier one of the same STF has ended."""
    found, end = set(), -1
    for row in sorted(rows, key=lambda row: (row["tf_first"], row["tf_last"])):
        if row["tf_first"] <= end:
            found.add(row["tf_filename"])
        end = max(end, row["tf_last"])
    return found


def differing(rows: Iterable[Row], tfs: Sequence[Tf]) -> set[str]:
    """Names of the TF files that the outbox does not hold just so."""
    kept = {(tf.filename, tf.monitor_id, tf.first, tf.last, tf.count) for tf in tfs}
    columns = ("tf_filename", "tf_file_id", "tf_first", "tf_last", "tf_count")
    return {row["tf_filename"] for row in rows if tuple(row[column] for column in columns) not in kept}
