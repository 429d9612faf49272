"""The verdict of the demo: compares the monitor's rows, read over REST, with the STFs sent and with the outbox."""

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
    """The result of the demo, in numbers."""

    stf_sent: int
    stf_completed: int
    tf_registered: int
    tf_expected: int
    announcements: int
    stages_complete: int
    """STFs whose workflow stage at the monitor says that they are complete."""
    stages_unreportable: int
    """STFs whose stage cannot be reported, as when the kill lost the monitor's answer; does not spoil the verdict."""
    lost: int
    """STFs with a TF file that is not registered or was not announced."""
    registered_twice: int
    """TF files that overlap another one of the same STF, or differ from the outbox."""
    kills: int
    outages: int
    seconds: float

    @property
    def good(self) -> bool:
        """Whether every STF was completed, exactly once."""
        return not self.lost and not self.registered_twice and self.stf_completed == self.stf_sent

    def as_json(self) -> dict[str, Any]:
        """All numbers, by field name."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class MonitorState:
    """What the monitor knows of the STFs."""

    tf_registered: int
    lost: int
    registered_twice: int


class MonitorReader:
    """Reads the monitor's REST interface, without a token."""

    def __init__(self, base_url: str) -> None:
        self._url = base_url
        self._session = requests.Session()
        self._session.trust_env = False

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def tf_files(self, stf_filename: str) -> list[Row]:
        """The TF files of one STF. Raises: requests.RequestException."""
        rows: list[Row] = self._get("/api/fastmon-files/", stf_filename=stf_filename)
        return rows

    def stages(self, status: str) -> set[str]:
        """The STFs that have a stage with *status*. Raises: requests.RequestException."""
        workflows = {row["workflow_id"]: row["filename"] for row in self._get("/api/workflows/")}
        return {workflows[row["workflow"]] for row in self._get("/api/workflow-stages/") if row["status"] == status}

    def announcements(self) -> int:
        """Number of TF file announcements on the topic, repeated ones included. Raises: requests.RequestException."""
        return int(self._get("/_testbed/counts")["announcements"])

    def set_faults(self, **faults: float) -> None:
        """Set faults of the testbed. Raises: requests.RequestException."""
        self._session.post(f"{self._url}/_testbed/faults", json=faults, timeout=TIMEOUT_S).raise_for_status()

    def _get(self, path: str, **query: str) -> Any:
        response = self._session.get(self._url + path, params=query, timeout=TIMEOUT_S)
        response.raise_for_status()
        return response.json()


def judge(
    monitor: MonitorReader, names: Iterable[str], stored: Iterable[Stf], announced: Collection[str], tf_per_stf: int
) -> MonitorState:
    """Compare the monitor's rows of the STFs *names* with the STFs *stored* in the outbox and the *announced* ids."""
    outbox = {stf.filename: stf.tfs for stf in stored}
    registered = lost = twice = 0
    for name in names:
        rows = monitor.tf_files(name)
        registered += len(rows)
        lost += len(rows) < tf_per_stf or not all(row["tf_file_id"] in announced for row in rows)
        twice += len(overlapping(rows) | differing(rows, outbox.get(name, ())))
    return MonitorState(tf_registered=registered, lost=lost, registered_twice=twice)


def overlapping(rows: Iterable[Row]) -> set[str]:
    """Names of the TF files (all of one STF) that begin before an earlier one ends."""
    names, end = set(), -1
    for row in sorted(rows, key=lambda row: (row["tf_first"], row["tf_last"])):
        if row["tf_first"] <= end:
            names.add(row["tf_filename"])
        end = max(end, row["tf_last"])
    return names


def differing(rows: Iterable[Row], tfs: Sequence[Tf]) -> set[str]:
    """Names of the TF files that are not in the outbox with the same values."""
    stored = {(tf.filename, tf.monitor_id, tf.first, tf.last, tf.count) for tf in tfs}
    columns = ("tf_filename", "tf_file_id", "tf_first", "tf_last", "tf_count")
    return {row["tf_filename"] for row in rows if tuple(row[column] for column in columns) not in stored}
