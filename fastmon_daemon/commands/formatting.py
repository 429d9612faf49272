"""How `inspect` shows its findings to people: tables, times in UTC with their age, nothing that a terminal would obey.

It takes the values of `findings` as they are and must not know the database.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from fastmon_daemon.base.clock import parse_timestamp

View = dict[str, Any]

_BODY_SHOWN = 500
_UNCUT = 100_000  # columns: what goes into a pipe is never folded
_NAME_WIDTH = 24  # columns: an ordinary STF name is not folded on a narrow terminal
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def console() -> Console:
    """The console of stdout."""
    on_terminal = sys.stdout.isatty()
    return Console(force_terminal=on_terminal, width=None if on_terminal else _UNCUT, markup=False, highlight=False)


def escape_controls(value: object) -> str:
    """*value* as one line that any terminal shows as it is: control and invisible characters escaped."""
    text = "-" if value is None else str(value)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def format_when(text: str | None, now: datetime) -> str:
    """A stored time for people, with its distance from *now*."""
    if text is None:
        return "-"
    at = parse_timestamp(text).astimezone(UTC)
    seconds = (now - at).total_seconds()
    size, unit = next((u for u in _UNITS if abs(seconds) >= u[0]), _UNITS[-1])
    distance = f"{int(abs(seconds) / size)} {unit}"
    return f"{at:%Y-%m-%d %H:%M:%SZ} ({distance if seconds >= 0 else f'in {distance}'})"


def render_inspection(view: View) -> Iterator[RenderableType]:
    """The tables of a view: of the overview, of rejected messages or of single STFs, by what it holds."""
    now = parse_timestamp(view["at"])
    daemon = "no daemon is running" if view["daemon"] is None else f"daemon: process {view['daemon']}"
    yield Text(
        f"database: {escape_controls(view['database'])} ({escape_controls(view['chosen_by'])}); "
        f"{daemon}; {now:%H:%M:%SZ}"
    )
    if view["intake_stopped"]:
        yield Text(
            f"intake is stopped: {escape_controls(view['intake_stopped'])}: make room on the database's file system"
        )
    if "states" in view:
        yield from _overview(view, now)
    elif "rejected" in view:
        yield from _refused(view, now)
    else:
        for life in view["stfs"]:
            yield from _life(life, now)


def _overview(view: View, now: datetime) -> Iterator[RenderableType]:
    """What may be long comes last: nearest to the prompt, and cut first where a watched screen is too small."""
    yield table("STFs", ("state", "count"), view["states"].items())
    yield _links(view["links"], now)
    if view["runs"]:
        yield _runs(view["runs"], now)
    yield Text(
        f"rejected messages: {view['rejected_count']}{' (--rejected shows them)' if view['rejected_count'] else ''}"
    )
    if any(view["stages"].values()):
        owed, never = view["stages"]["owed"], view["stages"]["unreportable"]
        yield Text(f"stages: {owed} transitions to report, {never} STFs cannot be reported")
    if view["oldest"]:
        yield _stfs("oldest work", [view["oldest"]], now)
    if "stfs" in view:
        yield _stfs(f"asked for: {view['stf_count']}", view["stfs"], now)
        yield from _more(view["stf_count"], view["stfs"])
    if view["stuck_count"]:
        yield _stfs(f"stuck: {view['stuck_count']}", view["stuck"], now)
        yield from _more(view["stuck_count"], view["stuck"])
    else:
        yield Text("nothing is stuck")


def _links(links: View, now: datetime) -> Table:
    rows = (
        (
            link["link"],
            link["state"],
            format_when(link["since"], now),
            link["reason"],
            format_when(link["next_probe_at"], now),
        )
        for link in links.values()
    )
    return table("links", ("link", "state", "since", "reason", "next probe"), rows)


def _runs(runs: list[View], now: datetime) -> Table:
    rows = (
        (
            run["run"],
            run["namespace"],
            run["state"],
            run["expected"],
            run["known"],
            run["missing"],
            format_when(run["last_message_at"], now),
            run["reconcile_error"],
            _pruned(run["pruned"], now),
        )
        for run in runs
    )
    return table(
        "runs",
        (
            "run",
            "namespace",
            "state",
            "STFs expected",
            "known",
            "missing",
            "last heard of",
            "last look failed",
            "pruned",
        ),
        rows,
    )


def _pruned(pruned: View | None, now: datetime) -> str | None:
    if pruned is None:
        return None
    counts = ", ".join(f"{count} {state}" for state, count in pruned["states"].items())
    return f"{format_when(pruned['at'], now)}: {counts}, {pruned['tf_files']} TF files"


def _stfs(title: str, stfs: list[View], now: datetime) -> Table:
    rows = (
        (
            stf["stf"],
            stf["run"],
            stf["state"],
            format_when(stf["since"], now),
            stf["attempts"],
            format_when(stf["next_try_at"], now) if stf["next_try_at"] else stf["next"],
            stf["why"],
        )
        for stf in stfs
    )
    return table(title, ("STF", "run", "state", "since", "attempts", "next try", "why"), rows)


def _more(count: int, listed: list[View]) -> Iterator[Text]:
    if count > len(listed):
        yield Text(f"and {count - len(listed)} more: --all shows them")


def _refused(view: View, now: datetime) -> Iterator[RenderableType]:
    rows = (
        (row["id"], format_when(row["at"], now), row["reason"], row["bytes"], _cut(row["body"]))
        for row in view["rejected"]
    )
    yield table(f"rejected messages: {view['rejected_count']}", ("id", "at", "reason", "bytes", "message"), rows)
    yield from _more(view["rejected_count"], view["rejected"])


def _cut(body: str) -> str:
    return body if len(body) <= _BODY_SHOWN else f"{body[:_BODY_SHOWN]} ... (whole with --json)"


def _life(life: View, now: datetime) -> Iterator[RenderableType]:
    plan = life["plan"]
    drawn = "not drawn" if plan is None else ", ".join(f"{key} {value}" for key, value in plan.items())
    facts = {
        "run": f"{life['run']} (namespace {life['namespace']})",
        "state": f"{life['state']}{', stuck' if life['stuck'] else ''}, life {life['life']}",
        "since": format_when(life["since"], now),
        "why": life["why"],
        "next": life["next"],
        "attempts": life["attempts"],
        "last error": life["last_error"],
        "received": f"{format_when(life['received_at'], now)}, by {life['origin']}",
        "size": f"{_or_unknown(life['size_bytes'])} bytes, {_or_unknown(life['tf_count'])} TFs",
        "checksum": life["checksum"],
        "execution": life["execution_id"],
        "remark": life["remark"],
        "sample": drawn,
        "stage": _stage(life["stage"]),
    }
    yield table(f"STF {life['stf']}", ("", ""), facts.items())
    yield table(
        "TF files",
        ("TF file", "monitor id", "TFs", "bytes", "registered", "announced", "adopted"),
        (
            (
                tf["filename"],
                tf["monitor_id"],
                f"{_or_unknown(tf['first'])}..{_or_unknown(tf['last'])}",
                tf["size_bytes"],
                format_when(tf["registered_at"], now),
                format_when(tf["announced_at"], now),
                tf["adopted"],
            )
            for tf in life["tfs"]
        ),
    )
    rows = [
        (row["life"], format_when(row["at"], now), row["trigger"], row["dest"], row["note"]) for row in life["history"]
    ]
    yield table("history", ("life", "at", "trigger", "state", "note"), rows)


def _stage(keys: View) -> str:
    if keys["unreportable"]:
        return f"cannot be reported to the monitor: {keys['unreportable']}"
    return keys["stage_id"] or "not reported to the monitor yet"


def _or_unknown(value: object) -> object:
    return "unknown" if value is None else value


def table(title: str, heads: tuple[str, ...], rows: Iterable[Iterable[object]]) -> Table:
    """A table of ours: every cell is made visible, short names in the first column are not folded."""
    cells = [[escape_controls(cell) for cell in row] for row in rows]
    short_names = all(len(row[0]) <= _NAME_WIDTH for row in cells)
    name = Text(escape_controls(title), style="bold")
    made = Table(title=name, title_justify="left", box=box.SIMPLE, show_header=any(heads))
    for head in heads:
        made.add_column(head, overflow="fold", no_wrap=short_names and not made.columns)
    for row in cells:
        made.add_row(*map(Text, row))
    return made
