"""The options that commands share, and what options and environment name together: monitor, broker, session."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
from requests.utils import get_environ_proxies

from fastmon_client.app_state import AppState
from fastmon_client.broker_config import BrokerConfig
from fastmon_client.intervals import Intervals
from fastmon_client.message_filter import MessageFilter
from fastmon_client.monitor_session import AccessDenied, MonitorSession
from fastmon_client.session import Output, Session, StopConditions, now

DEFAULT_URL = "http://localhost:8002"
SHOWN_TYPES = ("tf_file_registered", "fastmon_status")
"""What is shown where nobody says otherwise."""
LONGEST_DURATION_S = 365 * 24 * 3600
"""The longest time that an option can set."""


class CommaList(click.ParamType[tuple[str, ...]]):
    """A list separated by commas."""

    name = "LIST"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:  # noqa: ARG002
        """The names in *value*."""
        return value if isinstance(value, tuple) else tuple(part.strip() for part in value.split(",") if part.strip())


class Duration(click.ParamType[float]):
    """Seconds, or a number with s, m or h."""

    name = "DURATION"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds."""
        found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", str(value), re.ASCII)
        if found is None:
            self.fail(f"{value!r} is no duration: write 90, 90s, 10m or 2h", param, ctx)
        seconds = float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]
        if seconds > LONGEST_DURATION_S:
            self.fail(f"{str(value)[:40]} is too long: give at most {LONGEST_DURATION_S // 3600}h, a year", param, ctx)
        return seconds


monitor_url = click.option(
    "--monitor-url", metavar="URL", help=f"Base URL of the monitor  [SWF_MONITOR_URL, {DEFAULT_URL}]"
)
message_types = click.option(
    "--message-types",
    type=CommaList(),
    default=",".join(SHOWN_TYPES),
    show_default=True,
    help="Types of message to show.",
)
agents = click.option(
    "--agents", type=CommaList(), default="", help="Show only these agents (processed_by; * and ? match)."
)
run_ids = click.option("--run-ids", type=CommaList(), default="", help="Show only these runs.")
namespace = click.option("--namespace", help="Show only this namespace.")
stale_after = click.option(
    "--stale-after",
    type=Duration(),
    default="60s",
    show_default=True,
    help="A running run without a TF file for longer is STALE.",
)

transport = click.option(
    "--transport",
    type=click.Choice(["sse", "stomp"]),
    default="sse",
    show_default=True,
    help="Where messages come from: the monitor's stream, or the broker (ACTIVEMQ_HOST, ...).",
)
topic = click.option(
    "--topic",
    default="/topic/fastmon_client",
    show_default=True,
    help="Destination at the broker, with --transport stomp.",
)
_WATCHING = (monitor_url, agents, run_ids, namespace, stale_after, transport, topic)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOptions:
    """What `start` and `dashboard` are told alike: which messages, from where, and how they are judged."""

    monitor_url: str | None
    agents: tuple[str, ...]
    run_ids: tuple[str, ...]
    namespace: str | None
    stale_after: float
    transport: str
    topic: str

    def session(
        self,
        types: tuple[str, ...],
        environ: Mapping[str, str],
        *,
        output: Output,
        intervals: Intervals | None,
        stop_conditions: StopConditions | None = None,
    ) -> Session:
        """The session that shows messages of *types*.

        Raises:
            click.UsageError: a setting cannot be used.
        """
        wanted = MessageFilter(types=types, agents=self.agents, run_ids=self.run_ids, namespace=self.namespace)
        monitor, broker = access_of(self.monitor_url, environ), broker_of(self.transport, self.topic, environ)
        state = AppState(monitor.url, wanted, now(), stale_after_s=self.stale_after, intervals=intervals)
        return Session(monitor, wanted.heard_types, state, output, stop_conditions, broker)


def session_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give *command* the options of `WatchConfig`, and that as its first argument."""

    @wraps(command)
    def called(**words: Any) -> None:
        of = SessionOptions(**{each.name: words.pop(each.name) for each in fields(SessionOptions)})
        command(of, **words)

    for option in reversed(_WATCHING):
        called = option(called)
    return called


def broker_of(transport: str, topic: str, environ: Mapping[str, str]) -> BrokerConfig | None:
    """The broker that the environment names, where messages come from it; else None.

    Raises:
        click.UsageError: a setting cannot be used.
    """
    if transport != "stomp":
        return None
    if not topic.strip():
        raise click.UsageError("--topic is empty: write /topic/NAME")
    try:
        return BrokerConfig.of(environ, topic)
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc


def access_of(url: str | None, environ: Mapping[str, str]) -> MonitorSession:
    """The monitor that the option, or else the environment, names.

    Raises:
        click.UsageError: a setting cannot be used; no secret is shown.
    """
    url = url or environ.get("SWF_MONITOR_URL") or DEFAULT_URL
    ca = environ.get("FASTMON_MONITOR_CA") or None
    host = _checked_host(url)
    _check_ca(ca)
    is_here = host in ("localhost", "::1") or host.startswith("127.")
    return MonitorSession(url=url, token=_token(environ), ca=ca, proxies={} if is_here else get_environ_proxies(url))


def _checked_host(url: str) -> str:
    if re.search("[@?#]", url):  # a secret may stand there, and no error may show it
        raise click.UsageError("--monitor-url (SWF_MONITOR_URL) has a name, a password or a query in it: take it out")
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname, parts.port  # a wrong port is found when it is asked for
    except ValueError as exc:
        raise click.UsageError(f"--monitor-url (SWF_MONITOR_URL): {exc}: write http://HOST:PORT") from exc
    if parts.scheme not in ("http", "https") or not host:
        raise click.UsageError(f"--monitor-url (SWF_MONITOR_URL): {url!r} is no http:// or https:// URL")
    return host


def _check_ca(path: str | None) -> None:
    try:
        ssl.create_default_context(cafile=path)
    except OSError as exc:
        raise click.UsageError(f"FASTMON_MONITOR_CA={path}: {exc}: name a readable PEM file") from exc


def _token(environ: Mapping[str, str]) -> Callable[[], str]:
    """The token, read anew at each request where it comes from a file."""
    path = environ.get("SWF_API_TOKEN_FILE")

    def read() -> str:
        try:
            text = Path(path).read_text(encoding="utf-8") if path else environ.get("SWF_API_TOKEN", "")
        except (OSError, UnicodeError) as exc:
            raise AccessDenied(f"SWF_API_TOKEN_FILE={path}: {type(exc).__name__}: name a readable file") from None
        token = text.strip()
        if not (token.isascii() and token.isprintable()):  # requests would print it in its error
            name = "SWF_API_TOKEN_FILE" if path else "SWF_API_TOKEN"
            raise AccessDenied(f"{name}: there are line breaks or other strange characters in the token")
        return token

    return read


def settings_of(url: str | None, environ: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """Name, value (no secret) and source of each setting."""

    def sourced(name: str, default: str) -> tuple[str, str, str]:
        text = environ.get(name)
        return (name, text, "environment") if text else (name, default, "default")

    file = environ.get("SWF_API_TOKEN_FILE")
    secret = "in SWF_API_TOKEN_FILE" if file else "set" if environ.get("SWF_API_TOKEN") else "not set"
    return [
        ("SWF_MONITOR_URL", url, "--monitor-url") if url else sourced("SWF_MONITOR_URL", DEFAULT_URL),
        ("SWF_API_TOKEN", secret, "environment" if file or environ.get("SWF_API_TOKEN") else "default"),
        sourced("SWF_API_TOKEN_FILE", "not set"),
        sourced("FASTMON_MONITOR_CA", "the system's CAs"),
    ]
