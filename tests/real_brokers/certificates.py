"""Certificates for brokers on loopback, made for one test session: a valid one, and one for each kind of fault."""

from __future__ import annotations

import datetime as dt
import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import NameOID

GOOD = "good"
INVALID = ("wrong-host", "self-signed", "expired")
KEYSTORE_PASSWORD = "keystore"
_YEAR = dt.timedelta(days=365)


@dataclass(frozen=True, slots=True)
class Certificate:
    """Key and certificate of a server, as PEM for Python and as PKCS12 for Java."""

    pem: Path
    keystore: Path

    def server_context(self) -> ssl.SSLContext:
        """Return an SSL context for the embedded broker."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.pem)
        return context


@dataclass(frozen=True, slots=True)
class Certificates:
    """`ca_file` is for clients; `servers` has `GOOD` and each of `INVALID`; the CA issued all but "self-signed"."""

    ca_file: Path
    servers: dict[str, Certificate]


def make_certificates(folder: Path, now: dt.datetime) -> Certificates:
    """Write a CA and keys of servers to *folder*; *now* (aware) decides what is expired."""
    ca = trustme.CA()
    ca_file = folder / "ca.pem"
    ca.cert_pem.write_to_path(str(ca_file))
    issued = {
        GOOD: ca.issue_cert("localhost"),
        "wrong-host": ca.issue_cert("broker.example.org"),
        "expired": ca.issue_cert("localhost", not_before=now - _YEAR, not_after=now - dt.timedelta(days=1)),
    }
    pems = {
        name: leaf.private_key_pem.bytes() + b"".join(part.bytes() for part in leaf.cert_chain_pems)
        for name, leaf in issued.items()
    }
    pems["self-signed"] = _self_signed(now)
    return Certificates(ca_file, {name: _stored(folder, name, pem) for name, pem in pems.items()})


def _self_signed(now: dt.datetime) -> bytes:
    """Return key and certificate (PEM) of a self-signed localhost."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    builder = x509.CertificateBuilder(issuer_name=name, subject_name=name, public_key=key.public_key())
    certificate = (
        builder.serial_number(x509.random_serial_number())
        .not_valid_before(now - _YEAR)
        .not_valid_after(now + _YEAR)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private + certificate.public_bytes(serialization.Encoding.PEM)


def _stored(folder: Path, name: str, pem: bytes) -> Certificate:
    stored = Certificate(pem=folder / f"{name}.pem", keystore=folder / f"{name}.p12")
    key = serialization.load_pem_private_key(pem, password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    certificates = x509.load_pem_x509_certificates(pem)
    encryption = serialization.BestAvailableEncryption(KEYSTORE_PASSWORD.encode())
    for path, content in (
        (stored.pem, pem),
        (
            stored.keystore,
            pkcs12.serialize_key_and_certificates(b"broker", key, certificates[0], certificates[1:], encryption),
        ),
    ):
        path.touch(mode=0o600)
        path.write_bytes(content)
    return stored
