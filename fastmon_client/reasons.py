"""Why a connection or a request failed, in words for people: libraries nest their errors and name their own objects."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from http.client import BadStatusLine, HTTPException, IncompleteRead, RemoteDisconnected

from requests.exceptions import ContentDecodingError
from urllib3.exceptions import DecodeError, InvalidChunkLength, ProtocolError, ReadTimeoutError
from urllib3.exceptions import IncompleteRead as BodyTruncated

_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")
"""OpenSSL's reasons for an answer that is not TLS; they differ by version."""
_OTHER_NAME = (62, 64)
_OTHER_TIME = (9, 10)
"""OpenSSL's codes: mismatch of host name or address; not yet valid or expired."""
_TLS_RECORD = ("\x15\x03", "\x16\x03")
"""The first bytes of a TLS server's answer to plain text."""


class SlowResponse(TimeoutError):
    """A response came byte by byte, and was not complete in time."""


def reason_of(
    exc: BaseException,
    peer: str = "the monitor",
    *,
    plain: str = "write http:// in SWF_MONITOR_URL",
    cut: str = "the response was cut short",
) -> str:
    """The cause of *exc* and, where there is one, its remedy.

    *plain* says how to do without TLS, *cut* what the end of an incomplete response means.
    """
    causes = list(causes_of(exc))
    if any(isinstance(each, InvalidChunkLength | BodyTruncated | IncompleteRead) for each in causes):
        return cut
    if isinstance(causes[-1], SlowResponse):
        return f"the response of {peer} was not complete in time"
    if any(isinstance(each, ReadTimeoutError) for each in causes):
        return f"no data from {peer} in time"
    if any(isinstance(each, DecodeError | ContentDecodingError) for each in causes):
        return f"{peer} sent compressed data that cannot be read"
    return _reason(causes[-1], peer, plain)


def _reason(cause: BaseException, peer: str, plain: str) -> str:
    if isinstance(cause, ssl.SSLError):
        return _tls_reason(cause, peer, plain)
    if isinstance(cause, RemoteDisconnected):
        return f"{peer} closed the connection"
    if isinstance(cause, BadStatusLine):
        uses_tls = str(cause).startswith(_TLS_RECORD)
        return f"{peer} uses TLS: write https:// in SWF_MONITOR_URL" if uses_tls else f"{peer} does not answer in HTTP"
    if isinstance(cause, HTTPException | ProtocolError):
        return f"{peer} sent an invalid response ({type(cause).__name__})"
    if isinstance(cause, OSError) and cause.strerror:
        return f"{cause.strerror[:1].lower()}{cause.strerror[1:]}"  # without the number
    text = str(cause) or type(cause).__name__
    is_handshake = isinstance(cause, TimeoutError) and "handshake" in text
    return f"{peer} did not answer the TLS handshake: if it does not use TLS, {plain}" if is_handshake else text


def _tls_reason(cause: ssl.SSLError, peer: str, plain: str) -> str:
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"certificate of {peer} is not trusted ({cause.verify_message})"
    if cause.reason in _NO_TLS:
        return f"{peer} does not use TLS: {plain}"
    if isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return f"{peer} closed the connection"
    return f"TLS with {peer} failed ({(cause.reason or 'unknown reason').lower().replace('_', ' ')})"


def certificate_hint(exc: BaseException) -> str | None:
    """What to do about a certificate that *exc* is about; None if it is about something else."""
    found = next((each for each in causes_of(exc) if isinstance(each, ssl.SSLCertVerificationError)), None)
    if found is None:
        return None
    if found.verify_code in _OTHER_NAME:
        return "set SWF_MONITOR_URL to a host name in the monitor's certificate"
    if found.verify_code in _OTHER_TIME:
        return "check the clock of this host, and ask for a new certificate of the monitor"
    return "set FASTMON_MONITOR_CA to the PEM file of the monitor's CA"


def causes_of(exc: BaseException) -> Iterator[BaseException]:
    """*exc*, then each error that it was raised from, each once."""
    cause: BaseException | None = exc
    seen: set[int] = set()
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
