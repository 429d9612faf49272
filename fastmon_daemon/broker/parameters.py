"""The parameters of the connection to the broker, and which error each kind of failure becomes.

It must not know sockets or threads.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from fastmon_daemon.base.errors import ConfigError, LinkBlocked, LinkDown
from fastmon_daemon.base.network import NO_TLS_REASONS

_DEAD_SESSION = re.compile(r"already|in use|InvalidClientID", re.IGNORECASE)
_OUR_CERTIFICATE = re.compile(r"alert (?:certificate|bad certificate|unknown ca)|certificate required", re.IGNORECASE)
"""TLS alerts: the broker rejects our certificate, or requires one."""
_BROKER_FULL = re.compile(r"disk|storage|no space|AMQ2291(?:19|02)|usage|is full", re.IGNORECASE)
_SEND_FAILED = "AMQ339011"
"""Artemis: a SEND failed; the cause (no permission, a full disk) may be missing in the ERROR."""
_NOT_ALLOWED = re.compile(
    r"auth|log ?in|passw|passcode|credential|secur|permission|not allowed|AMQ22903[12]", re.IGNORECASE
)


@dataclass(frozen=True, kw_only=True)
class ConnectionParameters:
    """Address, credentials, destinations and timeouts (seconds) of the link.

    *password* is called at each attempt: a changed secret needs no restart. With an empty *subscribe* the link only
    announces. *client_id* is sent only if *durable*.
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
    shares_queue: bool = False
    """Whether others consume from *subscribe*: what the broker sends us before our ACKs, they cannot get."""
    unneeded_type: str = ""
    """The broker may leave out messages with this header `msg_type`, which not every sender sets; empty: none."""
    may_subscribe: Callable[[], None] = lambda: None
    """Raises LinkBlocked if the subscription would take the messages of others."""
    heart_beat_s: float = 8.0
    connect_s: float = 10.0
    receipt_s: float = 10.0
    redact: Callable[[str], str] = str
    """Removes secrets from what the broker says."""

    def __post_init__(self) -> None:
        if self.use_ssl and self.ca_file is None:
            raise ConfigError("ACTIVEMQ_USE_SSL is on, but there is no CA file: set ACTIVEMQ_SSL_CA_CERTS")

    @property
    def selector(self) -> str:
        """Which messages the broker is to send; empty: all.

        A queue would keep for ever what nobody selects. A durable subscription with another selector is a new one: the
        messages of the old one would be lost.
        """
        if not self.unneeded_type or self.durable or self.shares_queue or not self.subscribe.startswith("/topic/"):
            return ""
        return f"msg_type IS NULL OR msg_type <> '{self.unneeded_type}'"

    def for_runs(self, topic: str, *, durable: bool) -> ConnectionParameters:
        """Those of the connection beside a shared queue, on which each daemon gets every message of *topic*."""
        return replace(self, subscribe=topic, shares_queue=False, durable=durable)

    @property
    def address(self) -> str:
        """`host:port`, for texts."""
        host = self.host.strip("[]")
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    def secret(self) -> str:
        """The current password.

        Raises: LinkBlocked if it cannot be read.
        """
        try:
            return self.password()
        except (OSError, ConfigError) as exc:
            raise LinkBlocked(f"cannot read the broker's password: {exc}: fix ACTIVEMQ_PASSWORD_FILE") from exc

    def tls_context(self) -> ssl.SSLContext | None:
        """A new TLS context, which always verifies certificate chain and host name; None without TLS.

        Raises: LinkBlocked if a file cannot be used.
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
            files = f"ACTIVEMQ_SSL_CERT_FILE={self.cert_file}, ACTIVEMQ_SSL_KEY_FILE={self.key_file}"
            raise LinkBlocked(f"{files}: {exc}: name readable PEM files that belong together") from exc
        return context

    def connect_error(self, exc: OSError) -> LinkDown:
        """The error for a failed socket: LinkBlocked for certificates and TLS, else LinkDown."""
        reason = exc.strerror or exc
        if isinstance(exc, ssl.SSLCertVerificationError):
            reason = f"certificate not trusted ({exc.verify_message})"
        failed = f"no connection to the broker at {self.address}: {reason}"
        use_tls_port = "set ACTIVEMQ_PORT to its port with TLS, or ACTIVEMQ_USE_SSL=off"
        if isinstance(exc, TimeoutError) and "handshake" in str(exc):
            return LinkDown(f"the broker at {self.address} does not answer in TLS: {use_tls_port}")
        if isinstance(exc, ssl.SSLError) and exc.reason in NO_TLS_REASONS:
            where = f"the broker at {self.address} does not use TLS at this port"
            return LinkBlocked(f"{where}: {use_tls_port}")
        if isinstance(exc, ssl.SSLError) and _OUR_CERTIFICATE.search(str(exc)):
            return LinkBlocked(
                f"{failed}: set ACTIVEMQ_SSL_CERT_FILE (now {self.cert_file}) to a certificate that the broker accepts"
            )
        if isinstance(exc, ssl.SSLError) and not isinstance(exc, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            return LinkBlocked(f"{failed}: check ACTIVEMQ_SSL_CA_CERTS={self.ca_file} and ACTIVEMQ_HOST={self.host}")
        return LinkDown(failed)

    def timeout_error(self, waited_s: float) -> LinkDown:
        """The error for a CONNECT that the broker did not answer in time."""
        return LinkDown(f"the broker at {self.address} did not answer within {waited_s:g} s")

    def receipt_error(self, command: str) -> LinkDown:
        """The error for a *command* that the broker did not confirm in time."""
        return LinkDown(f"no RECEIPT for {command} from {self.address} within {self.receipt_s:g} s")

    def send_error(self, text: str) -> LinkDown:
        """The error for an ERROR frame that answers a SEND: LinkBlocked for a missing right and for a full broker."""
        refused = f"the broker at {self.address} rejects messages of the user {self.user!r}: {text}"
        grant = f"grant this user the right to send to {', '.join(self.announce)} (FASTMON_ANNOUNCE)"
        room = "make room at the broker: its disk, or its limit for this destination, is full"
        if _NOT_ALLOWED.search(text):
            return LinkBlocked(f"{refused}: {grant}")
        if _BROKER_FULL.search(text):
            return LinkBlocked(f"{refused}: {room}")
        if _SEND_FAILED in text:
            return LinkBlocked(f"{refused}: {grant}, or {room}")
        return self.broker_error(text)

    def broker_error(self, text: str) -> LinkDown:
        """The error for any other ERROR frame of the broker."""
        if self.durable and _DEAD_SESSION.search(text):
            session = f"earlier session of client id {self.client_id!r}"
            return LinkDown(f"the broker at {self.address} still has an {session}: {text}")
        if _NOT_ALLOWED.search(text):
            hint = "set ACTIVEMQ_USER and ACTIVEMQ_PASSWORD to a login that may use FASTMON_SUBSCRIBE and _ANNOUNCE"
            return LinkBlocked(f"the broker at {self.address} rejects the user {self.user!r}: {text}: {hint}")
        return LinkDown(f"the broker at {self.address} sent an ERROR: {text}")
