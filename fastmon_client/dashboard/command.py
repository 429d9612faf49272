"""`fastmon-client dashboard`: its address, its token and its session."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import click
from loguru import logger

from fastmon_client.addresses import checked_host
from fastmon_client.dashboard.acknowledgements import Acknowledgements
from fastmon_client.dashboard.api import Details
from fastmon_client.dashboard.auth import MIN_TOKEN_BITS, MIN_TOKEN_CHARS, DashboardToken, is_loopback, token_bits
from fastmon_client.dashboard.details import TableDetails
from fastmon_client.dashboard.journal import Journal, Kept
from fastmon_client.dashboard.server import listen, serve
from fastmon_client.environment import secret_source
from fastmon_client.files import exposed, read_text
from fastmon_client.options import state_folder
from fastmon_client.session import Session
from fastmon_client.shifts import Shifts
from fastmon_client.shutdown import ShutdownReason, shutdown_on

_SETTINGS = "--auth-token (FASTMON_DASHBOARD_TOKEN_FILE, FASTMON_DASHBOARD_TOKEN)"


@dataclass(frozen=True, slots=True)
class DashboardOptions:
    """The options of the command."""

    listen: str
    token_file: str | None
    public_url: str | None
    """The address of a TLS proxy in front."""
    kept: Kept
    """Acknowledgements and journal."""
    shifts: Shifts
    """Of the reports."""


def serve_session(
    session: Session, details: TableDetails, options: DashboardOptions, environ: Mapping[str, str]
) -> ShutdownReason:
    """Serve *session* and *details* until a signal, or until the monitor denies the first connection.

    Raises: click.UsageError if an option is invalid, or a public address has no token.
    """
    address, public_url = options.listen, options.public_url
    host, port = _host_and_port(address)
    token = _token(options.token_file, environ)
    public_host = _public_host(public_url) if public_url else None
    if token is None and public_host is not None:
        raise click.UsageError(f"--public-url {public_url} is public: set {_SETTINGS}")
    if token is None and not is_loopback(host):
        raise click.UsageError(f"--listen {address} is public: set {_SETTINGS}, or listen on 127.0.0.1 and use ssh -L")
    try:
        sock = listen(host, port)
    except OSError as exc:
        raise click.UsageError(f"--listen {address}: {exc.strerror}: use another address or port") from exc
    with sock, closing(details):
        port = sock.getsockname()[1]
        if not is_loopback(host):
            logger.warning("dashboard token is sent unencrypted: use a TLS proxy or ssh -L")
        click.echo(f"dashboard http://{f'[{host}]' if ':' in host else host}:{port}/  (Ctrl-C to stop)")
        return asyncio.run(_serve(session, sock, DashboardToken(token, port, public_host), details, options))


async def _serve(
    session: Session, sock: socket.socket, key: DashboardToken, details: Details, options: DashboardOptions
) -> ShutdownReason:
    loop, until = asyncio.get_running_loop(), asyncio.Event()

    def stop() -> None:
        loop.call_soon_threadsafe(until.set)

    def on_session_end(_running: asyncio.Future[None]) -> None:
        if not (session.refusal and session.connected_once):  # otherwise the pages show the reason
            until.set()

    with shutdown_on(stop, None) as end:
        running = asyncio.ensure_future(asyncio.to_thread(session.run))
        running.add_done_callback(on_session_end)
        try:
            await serve(session.snapshot, sock, key, until, options.kept, details, options.shifts)
        finally:
            session.stop()
            await running
    return end


@contextmanager
def opened_state(path: Path | None) -> Iterator[Kept]:
    """What is kept in the folder *path*; without one, until the process ends.

    Raises: click.UsageError if the folder cannot be used.
    """
    folder = state_folder(path)
    with closing(folder) if folder else nullcontext():
        try:
            kept = Kept(Acknowledgements(folder), Journal(folder))
        except OSError as exc:
            raise click.UsageError(f"--state {path}: {exc.strerror}: use a folder that you may write") from exc
        yield kept


def _host_and_port(address: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{address}")
        host, port = checked_host(parts.hostname or ""), parts.port
    except ValueError as exc:
        raise click.UsageError(f"--listen {address}: {exc}: use HOST:PORT") from exc
    if port is None or parts.netloc != address:
        raise click.UsageError(f"--listen {address}: use HOST:PORT, for example 127.0.0.1:8010")
    return host, port


def _public_host(url: str) -> str:
    try:
        parts = urlsplit(url)
        host, _port = checked_host(parts.hostname or ""), parts.port
    except ValueError as exc:
        raise click.UsageError(f"--public-url {url}: {exc}: use https://HOST") from exc
    if parts.scheme != "https" or parts.query or parts.fragment or "@" in parts.netloc:
        raise click.UsageError(f"--public-url {url}: use https://HOST or https://HOST/PATH")
    return host


def _token(token_file: str | None, environ: Mapping[str, str]) -> str | None:
    """The token, if set. Errors do not show the file name: it may be the token itself."""
    try:
        fixed, path = (None, Path(token_file)) if token_file else secret_source(environ, "FASTMON_DASHBOARD_TOKEN")
    except ValueError as exc:
        raise click.UsageError(str(exc)) from None
    try:
        text = read_text(path) if path else fixed or ""
    except (OSError, ValueError) as exc:
        what = f"{_SETTINGS}: {type(exc).__name__}"
        raise click.UsageError(f"{what}: set a readable file with the token, never the token") from None
    if path and (warning := exposed(path)):
        logger.warning("{}", warning)
    token = text.strip()
    if not token and not path:
        return None
    if len(token) < MIN_TOKEN_CHARS or not (token.isascii() and token.isprintable()):
        raise click.UsageError(
            f"{_SETTINGS}: token needs at least {MIN_TOKEN_CHARS} printable characters: use openssl rand -hex 20"
        )
    if token_bits(token) < MIN_TOKEN_BITS:
        raise click.UsageError(f"{_SETTINGS}: token could be guessed (its characters repeat): use openssl rand -hex 20")
    return token
