"""`fastmon-client dashboard`: where it listens, which token opens it, and the session that it shows."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import click
from loguru import logger

from fastmon_client.dashboard.auth import LEAST_TOKEN, DashboardToken, is_loopback
from fastmon_client.dashboard.serving import listen, serve
from fastmon_client.session import Session
from fastmon_client.shutdown import ShutdownReason, shutdown_on

_WHERE = "--auth-token (FASTMON_DASHBOARD_TOKEN_FILE, FASTMON_DASHBOARD_TOKEN)"


def show(session: Session, address: str, token_file: str | None, environ: Mapping[str, str]) -> ShutdownReason:
    """Show *session* at *address* until a signal, or until the monitor refuses before it was ever heard.

    Raises:
        click.UsageError: address and token do not go together, or are none.
    """
    host, port = _host_and_port(address)
    token = _token(token_file, environ)
    if token is None and not is_loopback(host):
        raise click.UsageError(
            f"--listen {address}: others could read along: set {_WHERE}, or listen on 127.0.0.1 and use ssh -L"
        )
    try:
        sock = listen(host, port)
    except OSError as exc:
        raise click.UsageError(f"--listen {address}: {exc.strerror}: name another address or port") from exc
    with sock:
        port = sock.getsockname()[1]
        if not is_loopback(host):
            logger.warning("the token crosses the network as it is: put a TLS proxy before it, or use ssh -L")
        click.echo(f"dashboard http://{f'[{host}]' if ':' in host else host}:{port}/  (Ctrl-C ends)")
        return asyncio.run(_serve(session, sock, DashboardToken(token, port)))


async def _serve(session: Session, sock: socket.socket, key: DashboardToken) -> ShutdownReason:
    loop, until = asyncio.get_running_loop(), asyncio.Event()

    def stop() -> None:
        loop.call_soon_threadsafe(until.set)

    def is_over(_reading: asyncio.Future[None]) -> None:
        if not (session.refusal and session.connected_once):  # else the pages say why, as long as somebody looks
            until.set()

    with shutdown_on(stop, None) as end:
        reading = asyncio.ensure_future(asyncio.to_thread(session.run))
        reading.add_done_callback(is_over)
        try:
            await serve(session.snapshot, sock, key, until)
        finally:
            session.stop()
            await reading
    return end


def _host_and_port(address: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{address}")
        host, port = parts.hostname, parts.port
    except ValueError as exc:
        raise click.UsageError(f"--listen {address}: {exc}: write HOST:PORT") from exc
    if not host or port is None or parts.netloc != address:
        raise click.UsageError(f"--listen {address}: write HOST:PORT, for example 127.0.0.1:8010")
    return host, port


def _token(token_file: str | None, environ: Mapping[str, str]) -> str | None:
    """The token, if there is one. No error shows what was given: it could be the token itself."""
    path = token_file or environ.get("FASTMON_DASHBOARD_TOKEN_FILE")
    try:
        text = Path(path).read_text(encoding="utf-8") if path else environ.get("FASTMON_DASHBOARD_TOKEN", "")
    except (OSError, UnicodeError) as exc:
        why = type(exc).__name__
        raise click.UsageError(f"{_WHERE}: {why}: name a readable file that holds the token, never the token") from None
    token = text.strip()
    if not token and not path:
        return None
    if len(token) < LEAST_TOKEN or not (token.isascii() and token.isprintable()):
        raise click.UsageError(
            f"{_WHERE}: the token must have at least {LEAST_TOKEN} printable characters: openssl rand -hex 20"
        )
    return token
