"""Class Monitor: the calls that the daemon makes to the monitor, each whole within its deadline.

Owns the connections. It must not know the outbox, the chart or what a TF is drawn from.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import requests

from fastmon_daemon.errors import FastmonError, LinkDown, LinkHeld, PermanentError, TransientError
from fastmon_daemon.monitor.addresses import proxies, without_userinfo
from fastmon_daemon.monitor.answers import (
    MESSAGES,
    RUNS,
    STF_FILES,
    TF_FILES,
    Answer,
    OutcomeUnknown,
    Refused,
    excerpt,
    if_absent,
    meaning,
    transport_errors,
)
from fastmon_daemon.monitor.connections import DeadlineAdapter, read_whole
from fastmon_daemon.monitor.rows import StfFile, TfFile, difference, run_end, stf_page, tf_body, tf_file, tf_rows
from fastmon_daemon.monitor.tally import Tally
from fastmon_daemon.seams import between

_PAGE = 1000
_SLACK_S = 0.005
"""Seconds that a long list may take beyond the usual, for each of its rows: five times what was measured."""
_NOBODY = "fastmon-probe-of-a-name-that-nobody-uses"

_T = TypeVar("_T")


class Monitor:
    """The monitor's REST interface; one instance is shared by all threads.

    *token* is asked at each call, so that a changed token file is seen; times are in seconds: *timeout_s* for the
    connection and for each silence, *deadline_s* over all of an answer.
    """

    def __init__(  # noqa: PLR0913 (the world is handed in, by name)
        self,
        base_url: str,
        token: Callable[[], str],
        *,
        connections: int,
        ca: Path | None = None,
        environ: Mapping[str, str] = MappingProxyType({}),
        timeout_s: tuple[float, float] = (3.05, 10.0),
        deadline_s: float = 15.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._base = base_url.rstrip("/")
        self._token = token
        self._timeout_s = timeout_s
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.verify = True if ca is None else str(ca)
        self._session.proxies = proxies(base_url, environ)
        self.tally = Tally()
        self._session.hooks["response"].append(self.tally.answered)
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, DeadlineAdapter(connections, deadline_s - timeout_s[1], monotonic))

    def register_tf(self, tf: TfFile) -> tuple[TfFile, str | None]:
        """Make *tf* stand in the monitor; gives what stands there, and in what it differs from *tf* (None: in nothing).

        Safe to repeat: what another writer, or our own earlier try, has registered for the same STF is adopted.
        Raises ParentMissing, LinkDown, LinkHeld, TransientError; PermanentError also where it belongs to another STF.
        """
        absent: FastmonError
        try:
            return self.ask(TF_FILES, tf_file, body=tf_body(tf)), None
        except OutcomeUnknown as exc:
            absent = exc
        except Refused as exc:
            absent = if_absent(exc)
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
        return standing, difference(standing, tf)

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

    def run_ended_at(self, run_key: int) -> str | None:
        """When the run ended, as its row says; None where it has not, or there is no such row."""
        try:
            return self.get(f"{RUNS}{run_key}/", {}, run_end)
        except PermanentError:
            return None

    def post_message(self, body: str) -> None:
        """Hand the JSON text *body* to the monitor as a message (at least once); LinkHeld where it takes none."""
        try:
            self.ask(MESSAGES, lambda _: None, body=body)
        except OutcomeUnknown:
            self._ask_for_messages()  # whose fault was it?
            raise

    def probe_messages(self) -> None:
        """Return when the monitor takes messages; LinkHeld where a person must act, else LinkDown."""
        self._session.close()
        try:
            self._ask_for_messages()
        except TransientError as exc:
            raise exc if isinstance(exc, LinkDown) else LinkDown(str(exc), retry_after_s=exc.retry_after_s) from exc

    def probe(self) -> None:
        """Return when the monitor answers and lets us write; LinkHeld where a person must act, else LinkDown.

        It begins with fresh connections, the address looked up anew: a kept one may lead to where the monitor was.
        """
        self._session.close()
        try:
            self.get(TF_FILES, {"tf_filename": _NOBODY, "limit": "1"}, tf_rows)
            self._offer_nothing()
        except LinkDown:
            raise
        except TransientError as exc:
            raise LinkDown(str(exc), retry_after_s=exc.retry_after_s) from exc
        except PermanentError as exc:
            raise LinkHeld(f"{exc}; is SWF_MONITOR_URL right?") from exc

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def _ask_for_messages(self) -> None:
        with suppress(Refused):  # they may not be read, but the door is there
            self.get(MESSAGES, {"limit": "1"}, lambda _: None)

    def _offer_nothing(self) -> None:
        # Anybody may read: only a write shows that the token is good. A row without a name is never registered.
        try:
            self.ask(TF_FILES, lambda _: None, body="{}")
        except Refused as exc:
            if not exc.says("tf_filename", "required"):
                raise

    def _tf_files_called(self, tf_filename: str) -> list[TfFile]:
        return self.get(TF_FILES, {"tf_filename": tf_filename}, tf_rows)

    def _stf_page(self, run_number: int, limit: int) -> tuple[int, list[StfFile]]:
        query = {"run_number": str(run_number), "limit": str(limit)}
        return self.get(STF_FILES, query, stf_page, slack_s=limit * _SLACK_S)

    def get(self, path: str, query: Mapping[str, str], parse: Callable[[Any], _T], slack_s: float = 0.0) -> _T:
        """What *parse* makes of the answer to a GET, which is asked about a link: no answer means that it is down."""
        try:
            return self.ask(path, parse, query=query, slack_s=slack_s)
        except OutcomeUnknown as exc:
            if slack_s:
                raise  # that a long list is slow does not prove that the link is down
            raise LinkDown(str(exc), retry_after_s=exc.retry_after_s) from exc
        except Refused as exc:
            if exc.by_the_api:
                raise
            raise LinkHeld(f"{exc}; is the host in SWF_MONITOR_URL one that the monitor goes by?") from exc

    def ask(
        self,
        path: str,
        parse: Callable[[Any], _T],
        *,
        query: Mapping[str, str] | None = None,
        body: str | None = None,
        slack_s: float = 0.0,
    ) -> _T:
        """GET, or POST where there is a *body*; what *parse* makes of the JSON of a good answer.

        *slack_s* is added to the silence and to the deadline that are borne.
        """
        where = f"{'GET' if body is None else 'POST'} {without_userinfo(self._base)}/api/{path}"
        with between("http"), transport_errors(where):
            answer = self._exchange(path, query, body, slack_s)
        error = meaning(answer, path, f"{where}: {answer.status}")
        if error is not None:
            raise error
        try:
            return parse(json.loads(answer.body))
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            said = excerpt(answer.body)
            raise OutcomeUnknown(f"{where}: {answer.status}, but not what a monitor says: {said}") from exc

    def _exchange(self, path: str, query: Mapping[str, str] | None, body: str | None, slack_s: float) -> Answer:
        connect_s, silence_s = self._timeout_s
        with self._session.request(
            "GET" if body is None else "POST",
            f"{self._base}/api/{path}",
            params=query,
            data=None if body is None else body.encode(),
            headers=self._headers(),
            timeout=(connect_s, silence_s + slack_s),
            allow_redirects=False,
            stream=True,
        ) as response:
            return Answer(response.status_code, response.headers, read_whole(response))

    def _headers(self) -> dict[str, str]:
        token = self._token().strip()
        if not (token.isascii() and token.isprintable()):
            raise LinkHeld("SWF_API_TOKEN has characters that no token has: set it anew")
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", "Content-Type": "application/json"}
        return headers | ({"Authorization": f"Token {token}"} if token else {})
