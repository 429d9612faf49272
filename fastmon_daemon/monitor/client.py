"""The REST calls of the main job, each within its deadline.

It must not know the outbox, the statecharts or how TFs are sampled.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any

from loguru import logger

from fastmon_daemon.base.errors import FastmonError, LinkBlocked, LinkDown, PermanentError, TransientError
from fastmon_daemon.monitor.responses import (
    MESSAGES,
    RUNS,
    STF_FILES,
    TF_FILES,
    MeaninglessAnswer,
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
    run_key_in,
    run_number_of,
    shown,
    stf_file,
    stf_name_in,
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
_MOST_NAME_CHARS = 8 * 1024 * 1024
"""Characters of all names of one list of STFs; a real name has 21."""
_UNUSED_NAME = "fastmon-probe-of-a-name-that-nobody-uses"


class StfOfAnotherRun(PermanentError):
    """The monitor has the STF in another run than ours: its TF files are not ours."""


@dataclass(frozen=True, slots=True)
class StfListing:
    """All STFs that the monitor lists for a run."""

    names: set[str]
    new: list[StfFile]
    """Those that are new to the caller; not all of them, if there are too many."""
    run_key: int | None = None
    """The monitor's primary key of the run, if its rows have one."""


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
        number = self._number_of_run(row)
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

    def _number_of_run(self, row: StfFile) -> int:
        where = f"the monitor lists {row.stf_filename} in the run with key {row.run_key}"
        if row.run_key is None:
            raise UnreadableRow(f"{where}: unexpected content")
        try:
            return self.get(f"{RUNS}{row.run_key}/", {}, run_number_of)
        except RequestRejected as exc:
            raise MeaninglessAnswer(f"{where}, which it does not have: {exc}") from exc

    def stf_files(
        self,
        run_number: int,
        at_least: int = 0,
        new_of: Callable[[Collection[str]], Container[str]] = lambda names: names,
        most: int = MAX_ROWS,
    ) -> StfListing:
        """All STFs that the monitor lists for the run; *at_least*: how many are expected.

        *new_of* returns which of some names are new, and is called several times while the rows arrive. Of the new
        ones, *most* are read whole: a list of many rows must not fill the memory.

        Raises: LinkDown, LinkBlocked; TransientError if the list changed meanwhile, or a long one timed out.
        """
        limit = max(_PAGE, at_least + _PAGE // 2)
        count, page = self._stf_page(run_number, limit, new_of, most)
        if count >= limit:
            # The order is undefined, so pages could overlap: request everything at once, with room to grow.
            count, page = self._stf_page(run_number, count + _PAGE, new_of, most)
        listed = len(page.names) + page.nameless
        if listed != count:
            raise TransientError(f"the monitor counts {count} STFs in run {run_number} but lists {listed}")
        if page.nameless:
            others = f", and {page.nameless - 1} others" if page.nameless > 1 else ""
            first = page.first_nameless
            logger.warning("run {}: the monitor lists a row that names no STF: {}{}", run_number, first, others)
        return StfListing(page.names, page.new, page.run_key)

    def stf_count(self, run_number: int) -> tuple[int, int | None]:
        """How many STFs the monitor lists for the run, and its primary key of the run, if it lists any.

        Raises: LinkDown, LinkBlocked, TransientError.
        """
        keys: list[int | None] = []
        query = {"run_number": str(run_number), "limit": "1"}
        total = self.get_rows(STF_FILES, query, lambda row: keys.append(run_key_in(row)), most=1)
        return self._counted(run_number, total), next(iter(keys), None)

    @staticmethod
    def _counted(run_number: int, total: int | None) -> int:
        if total is None or total > MAX_ROWS:
            raise MeaninglessAnswer(f"the monitor counts {total} STFs in run {run_number}: expected 0 to {MAX_ROWS}")
        return total

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

    def _stf_page(
        self, run_number: int, limit: int, new_of: Callable[[Collection[str]], Container[str]], most: int
    ) -> tuple[int, _StfPage]:
        query = {"run_number": str(run_number), "limit": str(limit)}
        page = _StfPage(new_of, most)
        slack_s = limit * _SLACK_PER_ROW_S
        total = self.get_rows(STF_FILES, query, page.take, slack_s=slack_s, between_chunks=page.sift)
        page.sift()
        return self._counted(run_number, total), page


class _StfPage:
    """What is kept of a list of STFs while its rows arrive; see `MonitorClient.stf_files`."""

    def __init__(self, new_of: Callable[[Collection[str]], Container[str]], most: int) -> None:
        self._new_of = new_of
        self._most = most
        self._name_chars = 0
        self._arrived: dict[str, Any] = {}
        """Name -> row, of those that were not sifted yet."""
        self.names: set[str] = set()
        self.new: list[StfFile] = []
        self.run_key: int | None = None
        self.nameless = 0
        """Rows that name no STF."""
        self.first_nameless = ""

    def take(self, row: Any) -> None:
        """Take one row."""
        try:
            name = stf_name_in(row)
        except UnreadableRow:
            self._take_nameless(row)
            return
        self.run_key = run_key_in(row) if self.run_key is None else self.run_key
        if name in self.names:
            return
        self.names.add(name)
        self._name_chars += len(name)
        if self._name_chars > _MOST_NAME_CHARS:
            raise MeaninglessAnswer(f"a list of STFs with names of more than {_MOST_NAME_CHARS} characters")
        self._arrived[name] = row

    def sift(self) -> None:
        """Keep the new ones of the rows that have arrived."""
        if self._arrived:
            new = self._new_of(self._arrived.keys())
            rows = (row for name, row in self._arrived.items() if name in new)
            self.new += map(stf_file, islice(rows, self._most - len(self.new)))
            self._arrived.clear()

    def _take_nameless(self, row: Any) -> None:
        self.nameless += 1
        self.first_nameless = self.first_nameless or shown(row)
        if self.nameless > _MOST_NAMELESS:
            raise UnreadableRow(f"more than {_MOST_NAMELESS} rows that name no STF: {self.first_nameless}")


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
