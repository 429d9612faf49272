"""The tables and lines of `inspect`, made from the plain values of `inspection.inspector`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from fastmon_daemon.base.clock import parse_timestamp
from fastmon_daemon.base.text import escape_controls
from fastmon_daemon.commands.formatting import format_when, table

View = dict[str, Any]

_RUN_COLUMNS = 7
"""Columns of the table of runs that are shown even if they are empty."""
_BODY_LIMIT = 500
"""Characters shown of the body of a rejected message."""


def render_inspection(view: View) -> Iterator[RenderableType]:
    """Yield the lines and tables of a view: the overview, rejected messages, or single STFs, depending on its keys."""
    now = parse_timestamp(view["at"])
    daemon = "no daemon is running" if view["daemon"] is None else f"daemon: process {view['daemon']}"
    yield Text(
        f"database: {escape_controls(view['database'])} ({escape_controls(view['chosen_by'])}); "
        f"{daemon}; {now:%H:%M:%SZ}"
    )
    if view["intake_stopped"]:
        yield Text(f"intake stopped: {escape_controls(view['intake_stopped'])}: free space on the database's disk")
    if "states" in view:
        yield from _overview(view, now)
    elif "rejected" in view:
        yield from _rejected(view, now)
    else:
        for stf in view["stfs"]:
            yield from _stf_details(stf, now)


def _overview(view: View, now: datetime) -> Iterator[RenderableType]:
    """Yield the overview, long tables last: near the prompt, and cut first if `--watch` has a small screen."""
    yield table("STFs", ("state", "count"), view["states"].items())
    yield _links(view["links"], now)
    if view["runs"]:
        yield _runs(view["runs"], now)
    rejected = view["rejected_count"]
    yield Text(f"rejected messages: {rejected}{' (list them with --rejected)' if rejected else ''}")
    if any(view["stages"].values()):
        stages = view["stages"]
        yield Text(
            f"workflow stages: {stages['single_updates']} single updates, {stages['coalesced_updates']} coalesced, "
            f"{stages['pending']} transitions pending, {stages['unreportable']} STFs not reportable"
        )
    if view["oldest"]:
        yield _stfs("oldest unfinished STF", [view["oldest"]], now)
    if "stfs" in view:
        yield _stfs(f"selected: {view['stf_count']}", view["stfs"], now)
        yield from _more(view["stf_count"], view["stfs"])
    if view["stuck_count"]:
        yield _stfs(f"stuck: {view['stuck_count']}", view["stuck"], now)
        yield from _more(view["stuck_count"], view["stuck"])
    else:
        yield Text("nothing is stuck")


def _links(links: View, now: datetime) -> Table:
    rows = (
        (each["link"], each["state"], format_when(each["since"], now), each["reason"],
         format_when(each["next_probe_at"], now))
        for each in links.values()
    )  # fmt: skip
    return table("links", ("link", "state", "since", "reason", "next probe"), rows)


def _runs(runs: list[View], now: datetime) -> Table:
    heads = ("run", "namespace", "state", "expected", "known", "missing", "last message", "poll error", "pruned")
    rows = [
        (*(run[key] for key in ("run", "namespace", "state", "expected", "known", "missing")),
         format_when(run["last_message_at"], now), run["reconcile_error"], _pruned(run["pruned"], now))
        for run in runs
    ]  # fmt: skip
    shown = [index for index, head in enumerate(heads) if index < _RUN_COLUMNS or any(row[index] for row in rows)]
    return table("runs", tuple(heads[i] for i in shown), ([row[i] for i in shown] for row in rows))


def _pruned(pruned: View | None, now: datetime) -> str | None:
    if pruned is None:
        return None
    counts = ", ".join(f"{count} {state}" for state, count in pruned["states"].items())
    return f"{format_when(pruned['at'], now)}: {counts}, {pruned['tf_files']} TF files"


def _stfs(title: str, stfs: list[View], now: datetime) -> Table:
    rows = (
        (stf["stf"], stf["run"], stf["state"], format_when(stf["since"], now), stf["attempts"],
         format_when(stf["next_try_at"], now) if stf["next_try_at"] else stf["next"], stf["why"])
        for stf in stfs
    )  # fmt: skip
    return table(title, ("STF", "run", "state", "since", "tries", "next", "reason"), rows)


def _more(count: int, listed: list[View]) -> Iterator[Text]:
    if count > len(listed):
        yield Text(f"{count - len(listed)} more: list them with --all")


def _rejected(view: View, now: datetime) -> Iterator[RenderableType]:
    rows = (
        (row["id"], format_when(row["at"], now), row["reason"], row["bytes"], _shorten(row["body"]))
        for row in view["rejected"]
    )
    yield table(f"rejected messages: {view['rejected_count']}", ("number", "at", "reason", "bytes", "body"), rows)
    yield from _more(view["rejected_count"], view["rejected"])


def _shorten(body: str) -> str:
    return body if len(body) <= _BODY_LIMIT else f"{body[:_BODY_LIMIT]} ... (use --json for the full body)"


def _stf_details(stf: View, now: datetime) -> Iterator[RenderableType]:
    plan = stf["plan"]
    facts = {
        "run": f"{stf['run']} (namespace {stf['namespace']})",
        "state": f"{stf['state']}{', stuck' if stf['stuck'] else ''}, life {stf['life']}",
        "since": format_when(stf["since"], now),
        "reason": stf["why"],
        "next": stf["next"],
        "attempts": stf["attempts"],
        "last error": stf["last_error"],
        "received": f"{format_when(stf['received_at'], now)}, origin {stf['origin']}",
        "size": f"{_or_unknown(stf['size_bytes'])} bytes, {_or_unknown(stf['tf_count'])} TFs",
        "checksum": stf["checksum"],
        "execution": stf["execution_id"],
        "remark": stf["remark"],
        "sample": "not drawn yet" if plan is None else ", ".join(f"{key} {value}" for key, value in plan.items()),
        "workflow stage": _stage(stf["stage"]),
    }
    yield table(f"STF {stf['stf']}", ("", ""), facts.items())
    tfs = (
        (tf["filename"], tf["monitor_id"], f"{_or_unknown(tf['first'])}..{_or_unknown(tf['last'])}", tf["size_bytes"],
         format_when(tf["registered_at"], now), format_when(tf["announced_at"], now), tf["adopted"])
        for tf in stf["tfs"]
    )  # fmt: skip
    yield table("TF files", ("TF file", "monitor id", "TFs", "bytes", "registered", "announced", "adopted"), tfs)
    transitions = (
        (row["life"], format_when(row["at"], now), row["trigger"], row["dest"], row["note"]) for row in stf["history"]
    )
    yield table("history", ("life", "at", "trigger", "state", "note"), transitions)


def _stage(stage: View) -> str:
    if stage["unreportable"]:
        return f"cannot be reported: {stage['unreportable']}"
    return stage["stage_id"] or "not reported yet"


def _or_unknown(value: object) -> object:
    return "unknown" if value is None else value
