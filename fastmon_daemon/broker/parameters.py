"""Who we are at the broker, and what its refusals ask of a person.

It must not know sockets or threads.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from fastmon_daemon.base.errors import ConfigError, LinkBlocked, LinkDown

_DEAD_SESSION = re.compile(r"already|in use|InvalidClientID", re.IGNORECASE)
_OURS = re.compile(r"alert (?:certificate|bad certificate|unknown ca)|certificate required", re.IGNORECASE)
"""A TLS alert by which the broker refuses our certificate, or asks for one."""
_NOT_ALLOWED = re.compile(r"auth|log ?in|passw|passcode|credential|secur|permission|not allowed", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class ConnectionParameters:
    """All that a link needs to know; times in seconds.

    *password* is called for each attempt, so that a new secret needs no restart. An empty *subscribe* means: only
    announce. *client_id* is sent only where *durable*.
    """

    host: str
    port: int
    user: str
    password: Callable[[], str] = field(repr=False)
    subscribe: str
    announce: tuple[str, ...]
    durable: bool
    client_id: str
    use_ssl: bool
    ca_file: Path | None
    cert_file: Path | None
    key_file: Path | None
    heart_beat_s: float = 8.0
    connect_s: float = 10.0
    receipt_s: float = 10.0

    def __post_init__(self) -> None:
        if self.use_ssl and self.ca_file is None:
            raise ConfigError("ACTIVEMQ_USE_SSL asks for TLS without a CA file: set ACTIVEMQ_SSL_CA_CERTS")

    @property
    def address(self) -> str:
        """Host and port, for people."""
        return f"{self.host}:{self.port}"

    def secret(self) -> str:
        """The password of this moment.

        Raises:
            LinkBlocked: it cannot be read.
        """
        try:
            return self.password()
        except (OSError, ConfigError) as exc:
            raise LinkBlocked(f"the broker's password cannot be read: {exc}: mend ACTIVEMQ_PASSWORD_FILE") from exc

    def tls_context(self) -> ssl.SSLContext | None:
        """What TLS is made with, chain and host name always checked; None where the link is plain.

        Raises:
            LinkBlocked: a file cannot be used.
        """
        if not self.use_ssl:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            context.load_verify_locations(self.ca_file)
        except OSError as exc:
            raise LinkBlocked(f"ACTIVEMQ_SSL_CA_CERTS={self.ca_file}: {exc}: name a readable PEM file") from exc
        try:
            if self.cert_file is not None:
                context.load_cert_chain(self.cert_file, self.key_file)
        except OSError as exc:
            what = f"ACTIVEMQ_SSL_CERT_FILE={self.cert_file}, ACTIVEMQ_SSL_KEY_FILE={self.key_file}"
            raise LinkBlocked(f"{what}: {exc}: name readable PEM files that belong together") from exc
        return context

    def connect_error(self, exc: OSError) -> LinkDown:
        """What a failed socket means: a certificate or TLS that does not fit is for a person, all else passes."""
        said = f"no connection to the broker at {self.address}: {exc}"
        if isinstance(exc, ssl.SSLError) and _OURS.search(str(exc)):
            return LinkBlocked(f"{said}; is ACTIVEMQ_SSL_CERT_FILE={self.cert_file} a certificate that it accepts?")
        if isinstance(exc, ssl.SSLError) and not isinstance(exc, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            return LinkBlocked(f"{said}; is ACTIVEMQ_SSL_CA_CERTS={self.ca_file} its CA, and ACTIVEMQ_HOST its name?")
        return LinkDown(said)

    def timeout_error(self, waited_s: float) -> LinkDown:
        """What it means that the broker neither let us in nor refused us for so long."""
        return LinkDown(f"the broker at {self.address} did not answer within {waited_s:g} s")

    def receipt_error(self, command: str) -> LinkDown:
        """What it means that the broker did not confirm *command* in time."""
        return LinkDown(f"no RECEIPT for {command} from {self.address} within {self.receipt_s:g} s")

    def broker_error(self, text: str) -> LinkDown:
        """What the ERROR *text* means."""
        if self.durable and _DEAD_SESSION.search(text):
            return LinkDown(f"the broker still holds an earlier session of client id {self.client_id!r}: {text}")
        if _NOT_ALLOWED.search(text):
            remedy = "set ACTIVEMQ_USER and ACTIVEMQ_PASSWORD to a login that may use FASTMON_SUBSCRIBE and _ANNOUNCE"
            return LinkBlocked(f"the broker at {self.address} refuses the user {self.user!r}: {text}; {remedy}")
        return LinkDown(f"the broker at {self.address} sent an ERROR: {text}")
