"""Options shared by several commands, and the session that they configure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import Any

import click

from fastmon_client.app_state import AppState, Earlier
from fastmon_client.intervals import Intervals
from fastmon_client.message_filter import MessageFilter
from fastmon_client.session import Output, Session, StopConditions, now
from fastmon_client.settings import DEFAULT_TOPIC, DEFAULT_URL, broker_from, monitor_from
from fastmon_client.state_folder import StateFolder, StateFolderError
from fastmon_client.tffile import run_name

SHOWN_TYPES = ("tf_file_registered", "fastmon_status")
"""Default of --message-types."""
MAX_DURATION_S = 365 * 24 * 3600
"""Upper limit of all durations."""


def state_dir(what: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The option `--state`, with the help *what*: the folder of a dashboard, see `state_folder`."""
    kind = click.Path(file_okay=False, path_type=Path)
    return click.option("--state", "state_dir", metavar="DIR", type=kind, help=what)


def state_folder(path: Path | None, *, is_shared: bool = False) -> StateFolder | None:
    """The folder of the option `--state`, if it is set. Raises: click.UsageError if it cannot be used."""
    try:
        return StateFolder(path, is_shared=is_shared) if path else None
    except OSError as exc:
        raise click.UsageError(f"--state {path}: {exc.strerror}: use a folder that you may write") from exc
    except StateFolderError as exc:
        raise click.UsageError(f"--state {exc}") from exc


class CommaList(click.ParamType[tuple[str, ...]]):
    """A comma-separated list."""

    name = "LIST"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:  # noqa: ARG002
        """The items of *value*."""
        return value if isinstance(value, tuple) else tuple(part.strip() for part in value.split(",") if part.strip())


class RunIds(CommaList):
    """A comma-separated list of runs, by `run_name`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """The names of the runs in *value*."""
        return tuple(map(run_name, super().convert(value, param, ctx)))


class RunName(click.ParamType[str]):
    """A run, by `run_name`."""

    name = "RUN"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ARG002
        """The name of the run *value*."""
        return run_name(value)


class RunNumber(click.IntRange):
    """A number of a run, as the monitor has it."""

    name = "run number: write digits only"


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
transport = click.option(
    "--transport", type=click.Choice(["sse", "stomp"]), default="sse", show_default=True,
    help="Read messages from the monitor's stream, or from the broker (ACTIVEMQ_HOST, ...).",
)  # fmt: skip
topic = click.option(
    "--topic", metavar="TOPIC",
    help=f"Subscribe to this destination, with --transport stomp  [FASTMON_ANNOUNCE, {DEFAULT_TOPIC}]",
)  # fmt: skip
_SESSION_OPTIONS = (
    monitor_url,
    click.option(
        "--agents", type=CommaList(), default="", help="Show only these agents (processed_by); * and ? are wildcards."
    ),
    click.option("--run-ids", type=RunIds(), default="", help="Show only these runs."),
    click.option("--namespace", help="Show only this namespace."),
    click.option("--last", type=click.IntRange(min=0, max=200), default=20, show_default=True, metavar="N",
                 help="At the start, show the last N runs of the monitor's tables."),
    click.option("--stale-after", type=Duration(), default="60s", show_default=True,
                 help="Mark a running run as STALE after this time without a TF file."),
    transport,
    topic,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOptions:
    """The options that `start` and `dashboard` share."""

    monitor_url: str | None
    agents: tuple[str, ...]
    run_ids: tuple[str, ...]
    namespace: str | None
    last: int
    stale_after: float
    transport: str
    topic: str | None

    def session(
        self,
        types: tuple[str, ...],
        variables: Mapping[str, str],
        *,
        output: Output,
        intervals: Intervals | None,
        stop_conditions: StopConditions | None = None,
        summaries: Mapping[str, Mapping[str, Any]] | None = None,
        reference: str | None = None,
    ) -> Session:
        """A session that shows messages of *types*; *summaries* of runs were heard before, *reference* was a good run.

        Raises: click.UsageError if a setting is invalid.
        """
        filter_ = MessageFilter(types=types, agents=self.agents, run_ids=self.run_ids, namespace=self.namespace)
        monitor = monitor_from(self.monitor_url, variables)
        broker = broker_from(self.topic, variables) if self.transport == "stomp" else None
        state = AppState(
            monitor.url, filter_, now(), stale_after_s=self.stale_after, intervals=intervals,
            topic=broker.topic if broker else None, earlier=Earlier(self.last, summaries or {}),
        )  # fmt: skip
        return Session(monitor, filter_.subscribed_types, state, output, stop_conditions, broker, reference)


def session_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of `SessionOptions` to *command*, whose first argument it becomes."""

    @wraps(command)
    def wrapper(**values: Any) -> None:
        chosen = SessionOptions(**{each.name: values.pop(each.name) for each in fields(SessionOptions)})
        command(chosen, **values)

    for option in reversed(_SESSION_OPTIONS):
        wrapper = option(wrapper)
    return wrapper
