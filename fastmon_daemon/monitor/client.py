"""The REST calls of the main job, each within its deadline.

It must not know the outbox, the statecharts or how TFs are sampled.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from loguru import logger

from fastmon_daemon.base.errors import FastmonError, LinkBlocked, LinkDown, PermanentError, TransientError
from fastmon_daemon.monitor.responses import (
    MESSAGES,
    RUNS,
    STF_FILES,
    TF_FILES,
    OutcomeUnknown,
    RequestRejected,
    UnreadableRow,
    missing_error,
)
from fastmon_daemon.monitor.rest_client import MAX_ROWS, RestClient
from fastmon_daemon.monitor.rows import (
    StfFile,
    TfFile,
    describe_difference,
    run_end,
    run_number_of,
    shown,
    stf_file,
    tf_body,
    tf_file,
)

_PAGE = 1000
_SLACK_PER_ROW_S = 0.005
"""Seconds added to the deadline of a long list, for each row: five times the measured time."""
_TABLE_SLACK_S = 5.0
"""Seconds added to the deadline of a whole table."""
_MOST_TF_FILES = 10_000
"""TF files of one STF that are read: ten times the most that a sample has."""
_MOST_NAMELESS = 1000
_UNUSED_NAME = "fastmon-probe-of-a-name-that-nobody-uses"


class StfOfAnotherRun(PermanentError):
    """The monitor has the STF in another run than ours: its TF files are not ours."""


class MonitorClient(RestClient):
    """The calls of the main job; one instance is shared by all threads."""

    def register_tf(self, tf: TfFile) -> tuple[TfFile, str | None]:
        """Register *tf*; return the registered TF, and how it differs from *tf* (None: not at all).

        Safe to repeat: a TF that another writer, or an earlier try, has registered for the same STF is adopted.

        Raises: ParentNotRegistered, LinkDown, LinkBlocked, TransientError; PermanentError if it belongs to another STF,
        or to an STF of another run.
        """
        missing: FastmonError
        try:
            return self.request("POST", TF_FILES, tf_file, body=tf_body(tf), may_repeat=False), None
        except OutcomeUnknown as exc:
            missing = exc
        except RequestRejected as exc:
            missing = missing_error(exc)
            if exc.from_api and not exc.has_error("tf_filename", "already exists"):
                raise missing from None
        same_name = self._tf_files({"tf_filename": tf.tf_filename})
        registered = next((row for row in same_name if row.tf_filename == tf.tf_filename), None)
        if registered is None:
            raise missing
        if registered.stf_filename != tf.stf_filename:
            raise PermanentError(
                f"{tf.tf_filename} is registered as a TF of {registered.stf_filename}, not of {tf.stf_filename}: "
                "find out who registered it, and remove one of the two"
            )
        if tf.run_number is not None and self.stf_file(tf.stf_filename, tf.run_number) is None:
            raise missing  # its STF was deleted meanwhile
        return registered, describe_difference(registered, tf)

    def stf_file(self, stf_filename: str, run_number: int) -> StfFile | None:
        """The row of an STF of the run; None if the monitor has no STF of that name.

        Raises: LinkDown, LinkBlocked, TransientError; StfOfAnotherRun.
        """
        query = {"stf_filename": stf_filename}
        if row := self._stf_row({**query, "run_number": str(run_number)}):
            return row
        row = self._stf_row(query)
        if row is None:
            return None
        number = self._number_of_run(row.run_key)
        if number == run_number:
            return row  # it was registered between the two calls
        raise StfOfAnotherRun(
            f"the monitor knows {stf_filename} as an STF of run {number}, not of {run_number}: "
            "give the files of each run other names"
        )

    def _stf_row(self, query: dict[str, str]) -> StfFile | None:
        found: list[StfFile] = []

        def take(row: Any) -> bool:
            if isinstance(row, dict) and row.get("stf_filename") == query["stf_filename"]:
                found.append(stf_file(row))
            return not found

        self.get_rows(STF_FILES, query, take)
        return found[0] if found else None

    def _number_of_run(self, run_key: int | None) -> int | str:
        with suppress(RequestRejected):
            return self.get(f"{RUNS}{run_key}/", {}, run_number_of)
        return f"with key {run_key}"

    def stf_files(self, run_number: int, at_least: int = 0) -> list[StfFile]:
        """All STFs that the monitor lists for the run; *at_least*: how many are expected.

        Raises: LinkDown, LinkBlocked; TransientError if the list changed meanwhile, or a long one timed out.
        """
        limit = max(_PAGE, at_least + _PAGE // 2)
        count, stfs, nameless = self._stf_page(run_number, limit)
        if count >= limit:
            # The order is undefined, so pages could overlap: request everything at once, with room to grow.
            count, stfs, nameless = self._stf_page(run_number, count + _PAGE)
        listed = len({stf.stf_filename for stf in stfs}) + nameless.count
        if listed != count:
            raise TransientError(f"the monitor counts {count} STFs in run {run_number} but lists {listed}")
        if nameless.count:
            others = f", and {nameless.count - 1} others" if nameless.count > 1 else ""
            logger.warning(
                "run {}: the monitor lists a row that names no STF: {}{}", run_number, nameless.first, others
            )
        return stfs

    def tf_files(self, stf_filename: str) -> list[TfFile]:
        """The TF files that are registered for an STF."""
        found = self._tf_files({"stf_filename": stf_filename})
        return [tf for tf in found if tf.stf_filename == stf_filename]

    def _tf_files(self, query: dict[str, str]) -> list[TfFile]:
        found: list[TfFile] = []
        self.get_rows(TF_FILES, query, lambda row: found.append(tf_file(row)), most=_MOST_TF_FILES)
        return found

    def run_numbers(self) -> list[int]:
        """The numbers of all runs; the monitor cannot filter them."""
        numbers: list[int] = []

        def take(row: Any) -> None:
            with suppress(UnreadableRow):  # it hides no other
                numbers.append(run_number_of(row))

        self.get_rows(RUNS, {}, take, slack_s=_TABLE_SLACK_S)
        return numbers

    def run_ended_at(self, run_key: int) -> str | None:
        """The end time in the run's row (ISO 8601, UTC); None without an end or without a row."""
        try:
            return self.get(f"{RUNS}{run_key}/", {}, run_end)
        except PermanentError:
            return None

    def announce(self, body: str, _event_id: str) -> None:
        """Post the JSON text *body* as a message, at least once.

        Raises: LinkDown, TransientError, PermanentError; LinkBlocked if this monitor does not accept messages.
        """
        try:
            self.request("POST", MESSAGES, lambda _: None, body=body)
        except OutcomeUnknown:
            self._get_messages()  # raises LinkDown if the link is at fault, not this message
            raise

    def probe_messages(self) -> None:
        """Return if the monitor accepts messages.

        Raises: LinkDown; LinkBlocked if an operator must act.
        """
        self.close()
        with _link_errors():
            self._get_messages()

    def probe(self) -> None:
        """Return if the monitor responds and accepts our token for writing.

        Opens new connections and resolves the address anew: an old connection may lead to where the monitor was.

        Raises: LinkDown; LinkBlocked if an operator must act.
        """
        self.close()
        with _link_errors():
            self.get_rows(TF_FILES, {"tf_filename": _UNUSED_NAME, "limit": "1"}, tf_file, most=1)
            # Reading needs no token: only a write shows that ours is valid. A row without a name is never registered.
            try:
                self.request("POST", TF_FILES, lambda _: None, body="{}")
            except RequestRejected as exc:
                if not exc.has_error("tf_filename", "required"):
                    raise

    def _get_messages(self) -> None:
        with suppress(RequestRejected):  # reading is not allowed, but the endpoint exists
            self.get_rows(MESSAGES, {"limit": "1"}, lambda _: None, most=1)

    def _stf_page(self, run_number: int, limit: int) -> tuple[int, list[StfFile], _Nameless]:
        query = {"run_number": str(run_number), "limit": str(limit)}
        stfs, nameless = [], _Nameless()

        def take(row: Any) -> None:
            try:
                stfs.append(stf_file(row))
            except UnreadableRow:
                nameless.add(row)

        total = self.get_rows(STF_FILES, query, take, slack_s=limit * _SLACK_PER_ROW_S)
        if total is None or total > MAX_ROWS:
            raise OutcomeUnknown(f"the monitor counts {total} STFs in run {run_number}: expected 0 to {MAX_ROWS}")
        return total, stfs, nameless


@dataclass(slots=True)
class _Nameless:
    """Rows of a list that name no STF."""

    count: int = 0
    first: str = ""

    def add(self, row: Any) -> None:
        self.count += 1
        self.first = self.first or shown(row)
        if self.count > _MOST_NAMELESS:
            raise UnreadableRow(f"more than {_MOST_NAMELESS} rows that name no STF: {self.first}")


@contextmanager
def _link_errors() -> Iterator[None]:
    """Turn the errors of a probe into LinkDown or LinkBlocked."""
    try:
        yield
    except LinkDown:
        raise
    except TransientError as exc:
        raise LinkDown(str(exc), retry_after_s=exc.retry_after_s) from exc
    except PermanentError as exc:
        raise LinkBlocked(f"{exc}: check SWF_MONITOR_URL") from exc
