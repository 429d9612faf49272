"""Class Monitor: the calls of the main job, each whole within its deadline.

It must not know the outbox, the chart or what a TF is drawn from.
"""

from __future__ import annotations

from contextlib import suppress

from fastmon_daemon.base.errors import FastmonError, LinkBlocked, LinkDown, PermanentError, TransientError
from fastmon_daemon.monitor.responses import (
    MESSAGES,
    RUNS,
    STF_FILES,
    TF_FILES,
    OutcomeUnknown,
    RequestRejected,
    missing_error,
)
from fastmon_daemon.monitor.rest_client import RestClient
from fastmon_daemon.monitor.rows import (
    StfFile,
    TfFile,
    describe_difference,
    run_end,
    stf_page,
    tf_body,
    tf_file,
    tf_rows,
)

_PAGE = 1000
_SLACK_S = 0.005
"""Seconds that a long list may take beyond the usual, for each of its rows: five times what was measured."""
_LIST_SLACK_S = 5.0
"""The same for a whole table."""
_NOBODY = "fastmon-probe-of-a-name-that-nobody-uses"


class MonitorClient(RestClient):
    """The calls of the main job; one instance is shared by all threads."""

    def register_tf(self, tf: TfFile) -> tuple[TfFile, str | None]:
        """Make *tf* stand in the monitor; gives what stands there, and in what it differs from *tf* (None: in nothing).

        Safe to repeat: what another writer, or our own earlier try, has registered for the same STF is adopted.
        Raises ParentNotRegistered, LinkDown, LinkBlocked, TransientError; PermanentError where it is another STF's.
        """
        absent: FastmonError
        try:
            return self.post(TF_FILES, tf_file, body=tf_body(tf)), None
        except OutcomeUnknown as exc:
            absent = exc
        except RequestRejected as exc:
            absent = missing_error(exc)
            if exc.by_the_api and not exc.says("tf_filename", "already exists"):
                raise absent from None
        standing = next(
            (row for row in self._tf_files_called(tf.tf_filename) if row.tf_filename == tf.tf_filename), None
        )
        if standing is None:
            raise absent
        if standing.stf_filename != tf.stf_filename:
            raise PermanentError(
                f"{tf.tf_filename} stands in the monitor as a TF of {standing.stf_filename}, not of {tf.stf_filename}: "
                "find out who registered it, and remove one of the two"
            )
        return standing, describe_difference(standing, tf)

    def stf_files(self, run_number: int, at_least: int = 0) -> list[StfFile]:
        """All STFs that the monitor knows of the run, which are probably *at_least* so many.

        Raises TransientError where the list changed while it was read, or did not come in time: a long one is slow.
        """
        limit = max(_PAGE, at_least + _PAGE // 2)
        count, stfs = self._stf_page(run_number, limit)
        if count >= limit:
            # No order is defined, so that pages could overlap: everything is asked for at once, with room to grow.
            count, stfs = self._stf_page(run_number, count + _PAGE)
        names = {stf.stf_filename for stf in stfs}
        if len(names) != count:
            raise TransientError(f"the monitor counts {count} STFs in run {run_number} but lists {len(names)}")
        return stfs

    def tf_files(self, stf_filename: str) -> list[TfFile]:
        """The TF files that stand in the monitor for an STF."""
        found = self.get(TF_FILES, {"stf_filename": stf_filename}, tf_rows)
        return [tf for tf in found if tf.stf_filename == stf_filename]

    def run_numbers(self) -> list[int]:
        """All runs that the monitor lists; it cannot be asked for some of them."""
        return self.get(RUNS, {}, lambda rows: [int(row["run_number"]) for row in rows], slack_s=_LIST_SLACK_S)

    def run_ended_at(self, run_key: int) -> str | None:
        """When the run ended, as its row says; None where it has not, or there is no such row."""
        try:
            return self.get(f"{RUNS}{run_key}/", {}, run_end)
        except PermanentError:
            return None

    def post_message(self, body: str) -> None:
        """Hand the JSON text *body* to the monitor as a message (at least once); LinkBlocked where it takes none."""
        try:
            self.post(MESSAGES, lambda _: None, body=body)
        except OutcomeUnknown:
            self._ask_for_messages()  # whose fault was it?
            raise

    def probe_messages(self) -> None:
        """Return when the monitor takes messages; LinkBlocked where a person must act, else LinkDown."""
        self.close()
        try:
            self._ask_for_messages()
        except TransientError as exc:
            raise exc if isinstance(exc, LinkDown) else LinkDown(str(exc), retry_after_s=exc.retry_after_s) from exc

    def probe(self) -> None:
        """Return when the monitor answers and lets us write; LinkBlocked where a person must act, else LinkDown.

        It begins with fresh connections, the address looked up anew: a kept one may lead to where the monitor was.
        """
        self.close()
        try:
            self.get(TF_FILES, {"tf_filename": _NOBODY, "limit": "1"}, tf_rows)
            self._offer_nothing()
        except LinkDown:
            raise
        except TransientError as exc:
            raise LinkDown(str(exc), retry_after_s=exc.retry_after_s) from exc
        except PermanentError as exc:
            raise LinkBlocked(f"{exc}; is SWF_MONITOR_URL right?") from exc

    def _ask_for_messages(self) -> None:
        with suppress(RequestRejected):  # they may not be read, but the door is there
            self.get(MESSAGES, {"limit": "1"}, lambda _: None)

    def _offer_nothing(self) -> None:
        # Anybody may read: only a write shows that the token is good. A row without a name is never registered.
        try:
            self.post(TF_FILES, lambda _: None, body="{}")
        except RequestRejected as exc:
            if not exc.says("tf_filename", "required"):
                raise

    def _tf_files_called(self, tf_filename: str) -> list[TfFile]:
        return self.get(TF_FILES, {"tf_filename": tf_filename}, tf_rows)

    def _stf_page(self, run_number: int, limit: int) -> tuple[int, list[StfFile]]:
        query = {"run_number": str(run_number), "limit": str(limit)}
        return self.get(STF_FILES, query, stf_page, slack_s=limit * _SLACK_S)
