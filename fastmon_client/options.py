"""Options shared by several commands, and the monitor, broker and session that they configure."""

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
"""Default of --message-types."""
MAX_DURATION_S = 365 * 24 * 3600
"""Upper limit of all durations."""


class CommaList(click.ParamType[tuple[str, ...]]):
    """A comma-separated list."""

    name = "LIST"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:  # noqa: ARG002
        """The items of *value*."""
        return value if isinstance(value, tuple) else tuple(part.strip() for part in value.split(",") if part.strip())


class Duration(click.ParamType[float]):
    """A duration: seconds, or a number with s, m or h."""

    name = "DURATION"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """*value* in seconds."""
        found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", str(value), re.ASCII)
        if found is None:
            self.fail(f"invalid duration: {value!r}: use for example 90, 90s, 10m or 2h", param, ctx)
        seconds = float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]
        if seconds > MAX_DURATION_S:
            self.fail(f"too long: {str(value)[:40]}: the limit is {MAX_DURATION_S // 3600}h, a year", param, ctx)
        return seconds


monitor_url = click.option(
    "--monitor-url", metavar="URL", help=f"Base URL of the monitor  [SWF_MONITOR_URL, {DEFAULT_URL}]"
)
message_types = click.option(
    "--message-types",
    type=CommaList(),
    default=",".join(SHOWN_TYPES),
    show_default=True,
    help="Show only these message types.",
)
_SESSION_OPTIONS = (
    monitor_url,
    click.option(
        "--agents", type=CommaList(), default="", help="Show only these agents (processed_by); * and ? are wildcards."
    ),
    click.option("--run-ids", type=CommaList(), default="", help="Show only these runs."),
    click.option("--namespace", help="Show only this namespace."),
    click.option("--stale-after", type=Duration(), default="60s", show_default=True,
                 help="Mark a running run STALE after this time without a TF file."),
    click.option("--transport", type=click.Choice(["sse", "stomp"]), default="sse", show_default=True,
                 help="Read messages from the monitor's stream, or from the broker (ACTIVEMQ_HOST, ...)."),
    click.option("--topic", default="/topic/fastmon_client", show_default=True,
                 help="Subscribe to this destination, with --transport stomp."),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOptions:
    """The options that `start` and `dashboard` share."""

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
        """A session that shows messages of *types*.

        Raises: click.UsageError if a setting is invalid.
        """
        filter_ = MessageFilter(types=types, agents=self.agents, run_ids=self.run_ids, namespace=self.namespace)
        monitor, broker = monitor_from(self.monitor_url, environ), broker_from(self.transport, self.topic, environ)
        state = AppState(monitor.url, filter_, now(), stale_after_s=self.stale_after, intervals=intervals)
        return Session(monitor, filter_.subscribed_types, state, output, stop_conditions, broker)


def session_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of `SessionOptions` to *command*, whose first argument it becomes."""

    @wraps(command)
    def wrapper(**values: Any) -> None:
        chosen = SessionOptions(**{each.name: values.pop(each.name) for each in fields(SessionOptions)})
        command(chosen, **values)

    for option in reversed(_SESSION_OPTIONS):
        wrapper = option(wrapper)
    return wrapper


def broker_from(transport: str, topic: str, environ: Mapping[str, str]) -> BrokerConfig | None:
    """The broker of the environment if *transport* is stomp, else None.

    Raises: click.UsageError if a setting is invalid.
    """
    if transport != "stomp":
        return None
    if not topic.strip():
        raise click.UsageError("--topic is empty: use /topic/NAME")
    try:
        return BrokerConfig.of(environ, topic)
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc


def monitor_from(url: str | None, environ: Mapping[str, str]) -> MonitorSession:
    """The monitor of the option, or else of the environment.

    Raises: click.UsageError, without secrets, if a setting is invalid.
    """
    url = url or environ.get("SWF_MONITOR_URL") or DEFAULT_URL
    ca = environ.get("FASTMON_MONITOR_CA") or None
    host = _checked_host(url)
    _check_ca(ca)
    is_local = host in ("localhost", "::1") or host.startswith("127.")
    return MonitorSession(url=url, token=_token(environ), ca=ca, proxies={} if is_local else get_environ_proxies(url))


def _checked_host(url: str) -> str:
    if re.search("[@?#]", url):  # may contain a secret: do not show it
        raise click.UsageError("--monitor-url (SWF_MONITOR_URL) contains a user, a password or a query: remove it")
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname, parts.port  # .port raises ValueError
    except ValueError as exc:
        raise click.UsageError(f"--monitor-url (SWF_MONITOR_URL): {exc}: use http://HOST:PORT") from exc
    if parts.scheme not in ("http", "https") or not host:
        raise click.UsageError(f"--monitor-url (SWF_MONITOR_URL): {url!r} is not an http:// or https:// URL")
    return host


def _check_ca(path: str | None) -> None:
    try:
        ssl.create_default_context(cafile=path)
    except OSError as exc:
        raise click.UsageError(f"FASTMON_MONITOR_CA={path}: {exc}: set a readable PEM file") from exc


def _token(environ: Mapping[str, str]) -> Callable[[], str]:
    """Returns the token; reads a token file for each request."""
    path = environ.get("SWF_API_TOKEN_FILE")

    def read() -> str:
        try:
            text = Path(path).read_text(encoding="utf-8") if path else environ.get("SWF_API_TOKEN", "")
        except (OSError, UnicodeError) as exc:
            raise AccessDenied(f"SWF_API_TOKEN_FILE={path}: {type(exc).__name__}: set a readable file") from None
        token = text.strip()
        if not (token.isascii() and token.isprintable()):  # an error of requests would show it
            name = "SWF_API_TOKEN_FILE" if path else "SWF_API_TOKEN"
            raise AccessDenied(f"{name}: the token contains a line break or another invalid character")
        return token

    return read


def settings_with_sources(url: str | None, environ: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """Name, value (without secrets) and source of each setting."""

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
