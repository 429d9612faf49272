"""The REST edge: asks the monitor, and says in our own errors what its answers mean.

The only module of the daemon that imports requests. It must not know the outbox, the chart or what a TF is drawn from.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError

from fastmon_daemon.errors import FastmonError, LinkDown, LinkHeld, ParentMissing, PermanentError, TransientError
from fastmon_daemon.seams import between

MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""The longest answer that is read, in bytes."""

_TF_FILES = "fastmon-files/"
_STF_FILES = "stf-files/"
_MESSAGES = "messages/"
_PAGE = 1000
_NOBODY = "fastmon-probe-of-a-name-that-nobody-uses"

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class TfFile:
    """One TF file as it stands, or shall stand, in the monitor."""

    tf_filename: str
    stf_filename: str
    tf_first: int | None
    tf_last: int | None
    tf_count: int | None
    file_size_bytes: int | None
    metadata: Mapping[str, object] | None = None
    tf_file_id: str | None = None
    """Given by the monitor: None before it is registered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StfFile:
    """One STF file as the data agent registered it; `body` is the whole row as JSON text."""

    stf_filename: str
    file_size_bytes: int | None
    checksum: str | None
    tf_count: int | None
    created_at: str
    body: str


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    body: str


class _OutcomeUnknown(TransientError):
    """The call may have been carried out or not."""


class _Refused(PermanentError):
    """The monitor read the request and will not have it."""

    def __init__(self, message: str, body: str) -> None:
        super().__init__(message)
        try:
            self.complaints = json.loads(body)
        except ValueError:
            self.complaints = None
        self.by_the_api = isinstance(self.complaints, dict)
        """False where the web server or the framework refused, before the API saw the request."""

    def says(self, field: str, words: str) -> bool:
        """Whether it complains of *field* in these words."""
        return self.by_the_api and words in str(self.complaints.get(field, ""))


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
        self._deadline_s = deadline_s
        self._monotonic = monotonic
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.verify = True if ca is None else str(ca)
        self._session.proxies = _proxies(base_url, environ)
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(pool_maxsize=connections, pool_block=True, max_retries=0))

    def register_tf(self, tf: TfFile) -> tuple[TfFile, str | None]:
        """Make *tf* stand in the monitor; gives what stands there, and in what it differs from *tf* (None: in nothing).

        Safe to repeat: what another writer, or our own earlier try, has registered for the same STF is adopted.
        Raises ParentMissing, LinkDown, LinkHeld, TransientError; PermanentError also where it belongs to another STF.
        """
        absent: FastmonError
        try:
            return self._ask(_TF_FILES, _tf_file, body=_tf_body(tf)), None
        except _OutcomeUnknown as exc:
            absent = exc
        except _Refused as exc:
            absent = _if_absent(exc)
            if exc.by_the_api and not exc.says("tf_filename", "already exists"):
                raise absent from None
        standing = next((row for row in self._tf_files(tf.tf_filename) if row.tf_filename == tf.tf_filename), None)
        if standing is None:
            raise absent
        if standing.stf_filename != tf.stf_filename:
            raise PermanentError(
                f"{tf.tf_filename} stands in the monitor as a TF of {standing.stf_filename}, not of {tf.stf_filename}: "
                "find out who registered it, and remove one of the two"
            )
        return standing, _difference(standing, tf)

    def stf_files(self, run_number: int) -> list[StfFile]:
        """All STFs that the monitor knows of the run; TransientError where the list changed while it was read."""
        count, stfs = self._stf_page(run_number, _PAGE)
        if count >= _PAGE:
            # No order is defined, so that pages could overlap: everything is asked for at once, with room to grow.
            count, stfs = self._stf_page(run_number, count + _PAGE)
        names = {stf.stf_filename for stf in stfs}
        if len(names) != count:
            raise TransientError(f"the monitor counts {count} STFs in run {run_number} but lists {len(names)}")
        return stfs

    def post_message(self, body: str) -> None:
        """Hand the JSON text *body* to the monitor as a message (at least once); PermanentError where it takes none."""
        self._ask(_MESSAGES, lambda _: None, body=body)

    def probe(self) -> None:
        """Return when the monitor answers as it should; LinkHeld where a person must act, else LinkDown."""
        try:
            self._get(_TF_FILES, {"tf_filename": _NOBODY, "limit": "1"}, _tf_rows)
        except LinkDown:
            raise
        except TransientError as exc:
            raise LinkDown(str(exc), retry_after_s=exc.retry_after_s) from exc
        except PermanentError as exc:
            raise LinkHeld(f"{exc}; is SWF_MONITOR_URL right?") from exc

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def _tf_files(self, tf_filename: str) -> list[TfFile]:
        return self._get(_TF_FILES, {"tf_filename": tf_filename}, _tf_rows)

    def _stf_page(self, run_number: int, limit: int) -> tuple[int, list[StfFile]]:
        return self._get(_STF_FILES, {"run_number": str(run_number), "limit": str(limit)}, _stf_page)

    def _get(self, path: str, query: Mapping[str, str], parse: Callable[[Any], _T]) -> _T:
        try:
            return self._ask(path, parse, query=query)
        except _OutcomeUnknown as exc:
            raise LinkDown(str(exc), retry_after_s=exc.retry_after_s) from exc
        except _Refused as exc:
            if exc.by_the_api:
                raise
            raise LinkHeld(f"{exc}; is the host in SWF_MONITOR_URL one that the monitor goes by?") from exc

    def _ask(
        self, path: str, parse: Callable[[Any], _T], *, query: Mapping[str, str] | None = None, body: str | None = None
    ) -> _T:
        """GET, or POST where there is a *body*; what *parse* makes of the JSON of a good answer."""
        where = f"{'GET' if body is None else 'POST'} {_without_userinfo(self._base)}/api/{path}"
        with between("http"), _transport_errors(where):
            answer = self._exchange(path, query, body)
        error = _meaning(answer, path, f"{where}: {answer.status}")
        if error is not None:
            raise error
        try:
            return parse(json.loads(answer.body))
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            said = _excerpt(answer.body)
            raise _OutcomeUnknown(f"{where}: {answer.status}, but not what a monitor says: {said}") from exc

    def _exchange(self, path: str, query: Mapping[str, str] | None, body: str | None) -> _Answer:
        deadline = self._monotonic() + self._deadline_s
        with self._session.request(
            "GET" if body is None else "POST",
            f"{self._base}/api/{path}",
            params=query,
            data=None if body is None else body.encode(),
            headers=self._headers(),
            timeout=self._timeout_s,
            allow_redirects=False,
            stream=True,
        ) as response:
            return _Answer(response.status_code, response.headers, self._read(response, deadline))

    def _headers(self) -> dict[str, str]:
        token = self._token().strip()
        if not (token.isascii() and token.isprintable()):
            raise LinkHeld("SWF_API_TOKEN has characters that no token has: set it anew")
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", "Content-Type": "application/json"}
        return headers | ({"Authorization": f"Token {token}"} if token else {})

    def _read(self, response: requests.Response, deadline: float) -> str:
        content = bytearray()
        # read1 gives what has come; iter_content would wait until a chunk is full, however slowly it drips.
        while chunk := response.raw.read1(65536):
            content += chunk
            if len(content) > MAX_ANSWER_BYTES:
                raise _OutcomeUnknown(f"{response.url}: the answer is longer than {MAX_ANSWER_BYTES} bytes")
            if self._monotonic() > deadline:
                raise _OutcomeUnknown(f"{response.url}: the answer was not complete after {self._deadline_s} s")
        return content.decode(errors="replace")


def _meaning(answer: _Answer, path: str, where: str) -> FastmonError | None:
    """What an answer means, in one place; None: done, if it is JSON of the right shape."""
    status, said = answer.status, f"{where}: {_excerpt(answer.body)}"
    match status:
        case 200 | 201:
            return None
        case 401 | 403:
            error: FastmonError = LinkHeld(f"{said}; set SWF_API_TOKEN to a valid token of this monitor")
        case _ if 300 <= status < 400 or status == 407:
            to = _excerpt(answer.headers.get("Location", "elsewhere"))
            error = LinkHeld(f"{where} to {to}: a login page or a proxy? set SWF_MONITOR_URL to the monitor itself")
        case 404 | 405 if path in {_TF_FILES, _STF_FILES}:
            error = LinkHeld(f"{where}: there is no monitor; set SWF_MONITOR_URL to its base, without /api")
        case 404 if path == _MESSAGES:
            error = PermanentError(f"{where}: this monitor takes no messages; set FASTMON_NOTIFY=stomp")
        case 425 | 429:
            error = TransientError(said, retry_after_s=_retry_after_s(answer.headers))
        case _ if 400 <= status < 500 and status != 408:
            error = _Refused(said, answer.body)
        case _:
            error = _OutcomeUnknown(said, retry_after_s=_retry_after_s(answer.headers))
    return error


@contextmanager
def _transport_errors(where: str) -> Iterator[None]:
    try:
        yield
    except (OSError, HTTPError) as exc:
        raise _fault(exc, where) from exc


def _fault(exc: OSError | HTTPError, where: str) -> FastmonError:
    """What it means that there is no whole answer; only what surely was not sent shuts the gate at once."""
    said = f"{where}: {_excerpt(str(exc))}"
    if "CERTIFICATE_VERIFY_FAILED" in said or not isinstance(exc, requests.RequestException | HTTPError):
        return LinkHeld(f"{said}; set FASTMON_MONITOR_CA to a readable file with the CA of the monitor's certificate")
    if isinstance(exc, ValueError):
        return LinkHeld(f"{said}; set SWF_MONITOR_URL and the proxy variables to usable URLs")
    reason = getattr(exc.args[0], "reason", None) if exc.args else None
    unsent = isinstance(exc, requests.ConnectTimeout | requests.exceptions.ProxyError)
    if unsent or isinstance(reason, NewConnectionError | ConnectTimeoutError):
        return LinkDown(said)
    return _OutcomeUnknown(said)


def _if_absent(refusal: _Refused) -> FastmonError:
    """What a refused registration means where no TF of that name stands."""
    if refusal.says("stf_file", "does not exist"):
        return ParentMissing(f"the monitor does not know the STF yet: {refusal}")
    if refusal.says("tf_filename", "already exists"):
        return TransientError(f"the monitor refuses the TF as known, but does not show it: {refusal}")
    return refusal


def _tf_body(tf: TfFile) -> str:
    row = {name: getattr(tf, name) for name in ("tf_filename", "tf_first", "tf_last", "tf_count", "file_size_bytes")}
    metadata = None if tf.metadata is None else dict(tf.metadata)
    return json.dumps(row | {"stf_file": tf.stf_filename, "status": "registered", "metadata": metadata})


def _tf_file(row: Any) -> TfFile:
    return TfFile(
        tf_filename=row["tf_filename"],
        stf_filename=row["stf_file"],
        tf_first=row.get("tf_first"),
        tf_last=row.get("tf_last"),
        tf_count=row.get("tf_count"),
        file_size_bytes=row.get("file_size_bytes"),
        metadata=row.get("metadata"),
        tf_file_id=str(row["tf_file_id"]),
    )


def _tf_rows(answer: Any) -> list[TfFile]:
    return [_tf_file(row) for row in (answer["results"] if isinstance(answer, dict) else answer)]


def _stf_page(answer: Any) -> tuple[int, list[StfFile]]:
    return int(answer["count"]), [
        StfFile(
            stf_filename=row["stf_filename"],
            file_size_bytes=row.get("file_size_bytes"),
            checksum=row.get("checksum"),
            tf_count=row.get("tf_count"),
            created_at=row["created_at"],
            body=json.dumps(row),
        )
        for row in answer["results"]
    ]


def _difference(standing: TfFile, ours: TfFile) -> str | None:
    """In words, what another writer registered otherwise; the metadata may differ freely."""
    pairs = {
        "range": (f"{standing.tf_first}-{standing.tf_last}", f"{ours.tf_first}-{ours.tf_last}"),
        "count": (standing.tf_count, ours.tf_count),
        "size": (standing.file_size_bytes, ours.file_size_bytes),
    }
    words = [f"{name} {there} instead of {here}" for name, (there, here) in pairs.items() if there != here]
    return ", ".join(words) or None


def _proxies(base_url: str, environ: Mapping[str, str]) -> dict[str, str]:
    """The proxy for the monitor out of *environ*; none for loopback and for what `no_proxy` names."""
    parts = urlsplit(base_url)
    proxy, direct = (
        environ.get(name) or environ.get(name.upper(), "") for name in (f"{parts.scheme}_proxy", "no_proxy")
    )
    host = (parts.hostname or "").lower()
    domains = [name.strip().lower().lstrip(".") for name in direct.split(",") if name.strip()]
    spared = any(name in {"*", host} or host.endswith(f".{name}") for name in domains)
    return {parts.scheme: proxy} if proxy and not spared and not _is_loopback(host) else {}


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds of `Retry-After`; a date is read against the answer's own `Date`, which knows the server's clock."""
    asked = headers.get("Retry-After", "").strip()
    if asked.isdigit():
        return float(asked)
    try:
        pause = parsedate_to_datetime(asked) - parsedate_to_datetime(headers.get("Date", ""))
    except (TypeError, ValueError):
        return None
    return max(0.0, pause.total_seconds())


def _excerpt(text: str) -> str:
    return " ".join(text[:300].split())


def _without_userinfo(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//", url)
