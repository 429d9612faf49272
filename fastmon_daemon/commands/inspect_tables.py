"""The lines of `inspect`, made from the plain values of `inspection.inspector`: the verdict first, short lists last."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from fastmon_daemon.base.clock import format_age, format_time, parse_timestamp
from fastmon_daemon.base.text import count_of, escape_controls
from fastmon_daemon.commands.formatting import Unbroken, format_names, format_when, sparkline, table, wrap
from fastmon_daemon.presence.assessment import Problem

View = dict[str, Any]

_RUN_COLUMNS = 7
"""Columns of the table of runs that are shown even if they are empty."""
RATE_BINS, RATE_BIN_S, MINUTE_BINS = 30, 10, 6
"""Periods of a sparkline, seconds of each, and periods of a minute."""
_BODY_LIMIT = 500
"""Characters shown of the body of a rejected message."""
_BODY_INDENT = 4
_BLOCK_LINES = 3
"""Lines for STFs that are alike on a small screen; a longer reason is cut."""
_LEAST_RUNS = 3
"""Runs that are shown even if there are many stuck STFs on a small screen."""


def render_inspection(view: View, width: int | None) -> Iterator[str]:
    """Yield the lines of a view: the overview, rejected messages, or single STFs, depending on its keys."""
    now = parse_timestamp(view["at"])
    yield from render_verdict(view, now, width)
    yield from _source(view, now, width)
    if "states" in view:
        yield from _overview(view, now, width)
    elif "rejected" in view:
        yield from _rejected(view, now, width)
    else:
        for stf in view["stfs"]:
            yield from _stf_details(stf, now, width)


def render_verdict(view: View, now: datetime, width: int | None) -> Iterator[str]:
    """Yield the verdict, and each problem that it only names."""
    yield from wrap(view["verdict"], width)
    for each in view["problems"][1:]:
        yield from wrap(Problem(**each).line(now), width)


def render_screen(view: View, width: int, height: int) -> list[str]:
    """Return the view as at most *height* lines of *width* columns; of an overview, its long lists are cut."""
    now = parse_timestamp(view["at"])
    if "states" not in view:
        return [line[:width] for line in render_inspection(view, width)][:height]
    lines = [*wrap(view["verdict"], width)[: max(1, height // 3)], *_source(view, now, width),
             *_counts(view, now, width), *_activity(view, now, width)]  # fmt: skip
    is_filtered = "stfs" in view
    count: int = view["stf_count"] if is_filtered else view["stuck_count"]
    groups = [[stf] for stf in view["stfs"]] if is_filtered else _alike(view["stuck"])
    blocks = [(len(group), _short(group, now, width)) for group in groups]
    room = height - len(lines)
    wanted = 1 + sum(len(block) for _, block in blocks) + (count > sum(size for size, _ in blocks))
    stf_room = min(wanted, max(room - _LEAST_RUNS - 2, room // 2)) if blocks else 0
    runs = sorted(view["runs"], key=lambda run: run["state"] == "complete")  # what is complete needs nobody
    lines += _cut(list(table(*_runs(runs, now), width=None)), room - stf_room, "run") if runs else []
    if blocks:
        lines.append(f"{'selected' if is_filtered else 'stuck'}: {count}")
        lines += _cut_stfs(blocks, count, height - len(lines))
    return [line[:width].rstrip() for line in lines][:height]


def _activity(view: View, now: datetime, width: int) -> Iterator[str]:
    """Yield what only a refreshed view has: rates, and the oldest STF."""
    for name, counts in view.get("rates", {}).items():
        recent = sum(counts[-MINUTE_BINS:]) / (MINUTE_BINS * RATE_BIN_S)
        yield f"{name:<9} |{sparkline(counts)}| {recent:6.2f}/s last minute, {sum(counts)} in 5 min"
    if "rates" in view and (oldest := view["oldest"]):
        text = f"oldest: {oldest['stf']}, run {oldest['run']}, {oldest['state']} {format_age(oldest['since'], now)}"
        yield from wrap(escape_controls(text), width)[:1]


def _cut(lines: list[str], room: int, noun: str) -> list[str]:
    """Return at most *room* lines; the last tells how many are left out."""
    if len(lines) <= room:
        return lines
    shown = lines[: max(room - 1, 0)]
    return [*shown, f"  {count_of(len(lines) - len(shown), f'more {noun}')}"] if room > 0 else []


def _cut_stfs(blocks: list[tuple[int, list[str]]], count: int, room: int) -> list[str]:
    """Return at most *room* lines of *blocks* (number of STFs, lines); the last tells how many STFs are left out."""
    lines: list[str] = []
    for size, block in blocks:
        if len(lines) + len(block) + (count > size) > room:
            break
        lines += block
        count -= size
    return [*lines, f"  {count_of(count, 'more STF')}"] if count and room > 0 else lines


def _alike(stfs: list[View]) -> list[list[View]]:
    """Group the STFs of one run that are in one state for one reason; the order of the groups stays."""
    groups: dict[tuple[object, ...], list[View]] = {}
    for stf in stfs:
        groups.setdefault((stf["namespace"], stf["run"], stf["state"], stf["why"]), []).append(stf)
    return list(groups.values())


def _short(group: list[View], now: datetime, width: int) -> list[str]:
    """Return the lines for STFs that are alike: as few as possible, at most `_BLOCK_LINES`."""
    names, first = format_names(stf["stf"] for stf in group), min(group, key=lambda stf: stf["since"])
    words = (names, f"run {first['run']}", first["state"], format_age(first["since"], now), first["why"])
    text = "  ".join(map(escape_controls, words))
    return wrap(text, width, indent="    ", first="  ")[:_BLOCK_LINES]


def _source(view: View, now: datetime, width: int | None) -> Iterator[str]:
    daemon = "no daemon is running" if view["daemon"] is None else f"daemon: process {view['daemon']}"
    database = f"{escape_controls(view['database'])} ({escape_controls(view['chosen_by'])})"
    yield from wrap(f"database: {database}; {daemon}; {now:%H:%M:%SZ}", width)


def _overview(view: View, now: datetime, width: int | None) -> Iterator[str]:
    """Yield the overview, long tables last: near the prompt. No STF is in it twice."""
    yield from _counts(view, now, width)
    if view["runs"]:
        yield from table(*_runs(view["runs"], now), width)
    shown: list[View] = view["stfs"] if "stfs" in view else view["stuck"]
    if "stfs" in view:
        yield from _stfs(f"selected: {view['stf_count']}", view["stfs"], now, width, mark_stuck=True)
        yield from _more(view["stf_count"], view["stfs"])
    elif view["stuck_count"]:
        yield from _stuck(view, now, width)
        yield from _more(view["stuck_count"], view["stuck"])
    else:
        yield "nothing is stuck"
    oldest = view["oldest"]
    if oldest and oldest not in shown:
        yield from _stfs("oldest unfinished STF", [oldest], now, width)


def _calls(link: View) -> str:
    calls = link["calls"]
    return f" ({calls['in_flight']} of at most {calls['limit']} calls)" if calls else ""


def _counts(view: View, now: datetime, width: int | None) -> Iterator[str]:
    """Yield the states and links in a line each, and what else is not zero."""
    states = ", ".join(f"{count} {state}" for state, count in view["states"].items() if count)
    yield from wrap(f"STFs: {states or 'none'}", width)
    if "stfs" in view and view["stuck_count"]:
        yield f"stuck: {view['stuck_count']}"
    links = view["links"].values()
    good = ", ".join(
        f"{each['link']} {each['state']}{_calls(each)}" for each in links if each["state"] in ("up", "unknown")
    )
    if good:
        yield from wrap(f"links: {good}", width)
    for each in links:
        if each["state"] not in ("up", "unknown"):
            times = f"since {format_when(each['since'], now)}, next probe {format_when(each['next_probe_at'], now)}"
            text = f"{each['link']} {each['state']} {times}: {escape_controls(each['reason'])}"
            yield from wrap(text, width, first="" if good else "links: ")
    if rejected := view["rejected_count"]:
        yield f"rejected messages: {rejected} (list them with --rejected)"
    if any(view["stages"].values()):
        stages = view["stages"]
        text = f"workflow stages: {stages['single_updates']} single updates, {stages['coalesced_updates']} coalesced, "
        pending = f"{count_of(stages['pending'], 'transition')} pending"
        yield from wrap(f"{text}{pending}, {count_of(stages['unreportable'], 'STF')} not reportable", width)


def _runs(runs: list[View], now: datetime) -> tuple[str, tuple[str, ...], list[list[object]]]:
    """Return title, heads and rows of the table of runs."""
    heads = ("run", "namespace", "state", "expected", "known", "missing", "last message", "poll error", "pruned")
    rows = [
        (*(run[key] for key in ("run", "namespace", "state", "expected", "known", "missing")),
         format_when(run["last_message_at"], now), _poll_error(run), _pruned(run["pruned"], now))
        for run in runs
    ]  # fmt: skip
    shown = [index for index, head in enumerate(heads) if index < _RUN_COLUMNS or any(row[index] for row in rows)]
    return f"runs: {len(runs)}", tuple(heads[i] for i in shown), [[row[i] for i in shown] for row in rows]


def _poll_error(run: View) -> str | None:
    if run["claimed"]:
        return run["reconcile_error"]  # type: ignore[no-any-return]
    other = run["other_namespace"]
    return f"not claimed: TF files of namespace {other}" if other else "not claimed: messages without namespace"


def _pruned(pruned: View | None, now: datetime) -> str | None:
    if pruned is None:
        return None
    counts = ", ".join(f"{count} {state}" for state, count in pruned["states"].items())
    return f"{format_when(pruned['at'], now)}: {counts}, {pruned['tf_files']} TF files"


def _stfs(title: str, stfs: list[View], now: datetime, width: int | None, *, mark_stuck: bool = False) -> Iterator[str]:
    mark = {True: ", stuck" if mark_stuck else "", False: ""}
    rows = (
        (stf["stf"], stf["run"], stf["state"] + mark[stf["stuck"]], format_when(stf["since"], now), stf["attempts"],
         format_when(stf["next_try_at"], now) if stf["next_try_at"] else stf["next"], stf["why"])
        for stf in stfs
    )  # fmt: skip
    return table(title, ("STF", "run", "state", "since", "tries", "next", "reason"), rows, width)


def _stuck(view: View, now: datetime, width: int | None) -> Iterator[str]:
    """Yield what is stuck: a row an STF, or a range of names for those that are alike."""
    rows = []
    for group in _alike(view["stuck"]):
        first = min(group, key=lambda stf: stf["since"])
        tries = [stf["next_try_at"] for stf in group if stf["next_try_at"]]
        next_try = format_when(min(tries), now) if tries else first["next"]
        attempts = max(stf["attempts"] for stf in group)
        rows.append((format_names(stf["stf"] for stf in group), first["run"], first["state"],
                     format_when(first["since"], now), attempts, next_try, first["why"]))  # fmt: skip
    heads = ("STF", "run", "state", "since", "tries", "next", "reason")
    yield from table(f"stuck: {view['stuck_count']}", heads, rows, width)


def _more(count: int, listed: list[View]) -> Iterator[str]:
    if count > len(listed):
        yield f"{count - len(listed)} more: list them with --all"


def _rejected(view: View, now: datetime, width: int | None) -> Iterator[str]:
    rows = (
        (row["id"], format_when(row["at"], now), row["reason"], row["bytes"], _shorten(row["body"], width))
        for row in view["rejected"]
    )
    heads = ("number", "at", "reason", "bytes", "body")
    yield from table(f"rejected messages: {view['rejected_count']}", heads, rows, width)
    yield from _more(view["rejected_count"], view["rejected"])


def _shorten(body: str, width: int | None) -> str:
    """The beginning of *body*: one line of *width* columns, because a body may have no space to fold it at."""
    limit = _BODY_LIMIT if width is None else min(_BODY_LIMIT, max(width - 2 * _BODY_INDENT, 20))
    return body if len(body) <= limit else f"{body[:limit]} ... (use --json for the full body)"


def _next(stf: View, now: datetime) -> str:
    """The next step of *stf*, with the distance of its time from *now*."""
    at = stf["next_try_at"]
    return stf["next"] if at is None else f"{stf['next'].partition(',')[0]}, at {format_when(at, now)}"


def _stf_details(stf: View, now: datetime, width: int | None) -> Iterator[str]:
    plan = stf["plan"]
    facts = {
        "run": f"{stf['run']} (namespace {stf['namespace']})",
        "state": f"{stf['state']}{', stuck' if stf['stuck'] else ''}, life {stf['life']}",
        "since": format_when(stf["since"], now),
        "reason": stf["why"],
        "next": _next(stf, now),
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
    known = ((key, value) for key, value in facts.items() if value is not None)
    yield from table(f"STF {stf['stf']}", ("", ""), known, width)
    tfs = (
        (tf["filename"], tf["monitor_id"], f"{_or_unknown(tf['first'])}..{_or_unknown(tf['last'])}", tf["size_bytes"],
         _precise(tf["registered_at"], now), _precise(tf["announced_at"], now), tf["adopted"])
        for tf in stf["tfs"]
    )  # fmt: skip
    heads = ("TF file", "monitor id", "TFs", "bytes", "registered", "announced", "adopted")
    yield from table(f"TF files: {len(stf['tfs'])}", heads, tfs, width)
    yield from _history(stf["history"], now, width)


def _history(history: list[View], now: datetime, width: int | None) -> Iterator[str]:
    """Yield each transition with the time since the one before, in which its step was done or waited."""
    heads = ("life", "at", "took", "trigger", "state", "note")
    rows: list[tuple[object, ...]] = []
    before = None
    for row in history:
        at = parse_timestamp(row["at"])
        took = "-" if before is None else f"{(at - before).total_seconds():.3f} s"
        rows.append((row["life"], _precise(row["at"], now), Unbroken(took), row["trigger"], row["dest"], row["note"]))
        before = at
    skip = all(row["life"] == 1 for row in history)
    return table("history", heads[skip:], [row[skip:] for row in rows], width)


def _precise(timestamp: str | None, now: datetime) -> Unbroken:
    """Return a stored time with its milliseconds."""
    if timestamp is None:
        return Unbroken("-")
    return Unbroken(f"{format_time(timestamp, now)[:-1]}.{parse_timestamp(timestamp).microsecond // 1000:03d}Z")


def _stage(stage: View) -> str:
    if stage["unreportable"]:
        return f"cannot be reported: {stage['unreportable']}"
    return stage["stage_id"] or "not reported yet"


def _or_unknown(value: object) -> object:
    return "unknown" if value is None else value
