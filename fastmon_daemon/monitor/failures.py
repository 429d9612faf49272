"""Which of our own errors a request without a complete response becomes, in words for operators.

The libraries nest their errors and name their own objects; the innermost cause says what happened.
"""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Iterator

import requests
from urllib3.exceptions import (
    ConnectTimeoutError,
    DecodeError,
    HTTPError,
    IncompleteRead,
    InvalidChunkLength,
    InvalidHeader,
    NewConnectionError,
    ProtocolError,
    ProxyError,
    ReadTimeoutError,
)

from fastmon_daemon.base.errors import FastmonError, LinkBlocked, LinkDown
from fastmon_daemon.base.network import NO_TLS_REASONS
from fastmon_daemon.monitor.responses import MeaninglessAnswer, OutcomeUnknown, excerpt

_WRITE_HTTP = "the server does not use TLS at this port: write http:// in SWF_MONITOR_URL, or set it to a port with TLS"
_WRITE_URLS = "set SWF_MONITOR_URL and the proxy variables to valid URLs"
_NO_PYSOCKS = "a SOCKS proxy needs PySocks: pip install 'requests[socks]', or name an HTTP proxy"
_NAME_CA = "set FASTMON_MONITOR_CA to a readable file with the CA of the monitor's certificate"
_CERTIFICATE_REMEDIES: dict[int | None, str] = {
    **dict.fromkeys((9, 10), "check the clock of this host, and ask for a new certificate of the monitor"),
    **dict.fromkeys((62, 64), "set SWF_MONITOR_URL to a host name in the monitor's certificate"),
}
"""By OpenSSL's codes: not yet valid, expired; another host name, another address. Else the CA is not known."""
_TLS_RECORDS = ("\x15\x03", "\x16\x03")
"""The first bytes with which a TLS server answers plain text."""


def transport_error(exc: Exception, where: str, trusted: str) -> FastmonError:
    """The error for the exception of a missing response: LinkDown only if the request was certainly not sent.

    *where* begins its text; *trusted* names the CA certificates that are trusted now.
    """
    causes = list(_causes(exc))
    about = next((each for each in causes if _is_about_certificates(each)), None)
    if _is_local(exc) or about is not None:
        remedy = _CERTIFICATE_REMEDIES.get(getattr(about, "verify_code", None), _NAME_CA)
        return LinkBlocked(f"{where}: {reason_of(exc)}: {remedy} (trusted now: {trusted})")
    is_about_urls = isinstance(exc, ValueError) and not isinstance(exc, requests.exceptions.InvalidHeader)
    if not isinstance(exc, requests.RequestException | HTTPError) or is_about_urls:
        # Some invalid proxy URLs end here. The exception's text may contain a part of the password: leave it out.
        no_pysocks = isinstance(exc, requests.exceptions.InvalidSchema) and "SOCKS" in str(exc)
        return LinkBlocked(f"{where}: {_NO_PYSOCKS if no_pysocks else f'{type(exc).__name__}: {_WRITE_URLS}'}")
    said = f"{where}: {reason_of(exc)}"
    if any(isinstance(each, ssl.SSLError) and each.reason in NO_TLS_REASONS for each in causes):
        return LinkBlocked(said)
    if isinstance(causes[-1], http.client.BadStatusLine) and str(causes[-1]).startswith(_TLS_RECORDS):
        return LinkBlocked(f"{where}: the server uses TLS at this port: write https:// in SWF_MONITOR_URL")
    unsent = (requests.ConnectTimeout, requests.exceptions.ProxyError, NewConnectionError, ConnectTimeoutError)
    if any(isinstance(each, unsent) for each in causes):
        return LinkDown(said)
    return MeaninglessAnswer(said) if any(map(_is_nonsense, causes)) else OutcomeUnknown(said)


def reason_of(exc: BaseException) -> str:
    """What happened to a request, on one line, with the remedy if TLS is not used."""
    causes = list(_causes(exc))
    through = "through the proxy: " if any(map(_is_about_proxy, causes)) else ""
    return f"{through}{_reason(causes)}"


def ended_without_response(exc: Exception) -> bool:
    """Whether the server closed or reset the connection before the first byte of its response."""
    return isinstance(list(_causes(exc))[-1], http.client.RemoteDisconnected | ConnectionResetError | BrokenPipeError)


def _is_about_proxy(exc: BaseException) -> bool:
    return isinstance(exc, ProxyError) or type(exc).__module__ == "socks"  # PySocks', which may not be installed


def _is_about_certificates(exc: BaseException) -> bool:
    """Whether the server's certificate is not trusted, or the file of those that are cannot be used."""
    return isinstance(exc, ssl.SSLCertVerificationError) or (isinstance(exc, ssl.SSLError) and exc.library == "X509")


def _is_nonsense(exc: BaseException) -> bool:
    """Whether the server answered something that is no whole HTTP response."""
    nonsense = (http.client.HTTPException, DecodeError, IncompleteRead, InvalidChunkLength, InvalidHeader)
    return isinstance(exc, nonsense) and not isinstance(exc, http.client.RemoteDisconnected)


def _is_local(exc: Exception) -> bool:
    """Whether a file of this host is at fault: only then the error comes from none of the libraries."""
    return isinstance(exc, OSError) and not isinstance(exc, requests.RequestException | HTTPError)


_WORDS: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], str], ...] = (
    ((IncompleteRead, InvalidChunkLength, http.client.IncompleteRead), "the response was cut short"),
    (DecodeError, "the response cannot be decompressed"),
    (ReadTimeoutError, "no response in time"),
    (
        (http.client.RemoteDisconnected, ssl.SSLEOFError, ssl.SSLZeroReturnError),
        "the connection was closed without a response",
    ),
)
"""What an error that is one of the causes says to an operator; the first that fits counts."""


def _reason(causes: list[BaseException]) -> str:
    innermost = causes[-1]
    if isinstance(innermost, ssl.SSLCertVerificationError):
        return f"certificate not trusted ({innermost.verify_message})"
    if isinstance(innermost, ssl.SSLError) and innermost.reason:
        no_tls = innermost.reason in NO_TLS_REASONS
        words = innermost.reason.lower().replace("_", " ")
        return _WRITE_HTTP if no_tls else f"TLS failed ({words})"
    for kinds, words in _WORDS:
        if any(isinstance(each, kinds) for each in causes):
            return words
    if isinstance(innermost, http.client.HTTPException | ProtocolError):
        return "not an HTTP response"
    text = excerpt(getattr(innermost, "strerror", None) or str(innermost)) or type(innermost).__name__
    return f"{text[:1].lower()}{text[1:]}"


def _causes(exc: BaseException) -> Iterator[BaseException]:
    """*exc*, then each error that it was raised from, to the innermost."""
    cause: BaseException | None = exc
    while cause is not None:
        yield cause
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
