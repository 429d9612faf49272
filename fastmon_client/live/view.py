"""From a snapshot to what stands on a screen of so many columns and rows.

Pure. It must not know the stream, the clock or the terminal. Whatever came over the network goes through `plain` into a
`CharField`, never through markup. What matters is said in words; colour only repeats it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from fastmon_client.formatting import age, clock_time, escape, gaps, lag, of, short_age, size
from fastmon_client.live.columns import Column, Row, table

_LOUD = "bold white on red"
_BADGES = {"LIVE": "bold black on green", "CONNECTING": "bold black on yellow", "DEAD": _LOUD, "REFUSED": _LOUD}


def render(snapshot: Mapping[str, Any], width: int, height: int) -> RenderableType:
    """The whole screen: never more than *height* lines of *width* columns."""
    runs, recent = snapshot["runs"], snapshot["recent"]
    tone = "" if snapshot["connection"]["state"] == "LIVE" else "dim"
    head = [_connection(snapshot), *_no_longer_true(snapshot), *_alarms(snapshot["alarms"], max(1, height // 4))]
    parts: list[RenderableType] = [_cut(line, width) for line in head[: max(1, height - 1)]]
    left = height - len(parts) - 1  # the foot
    if runs and left >= 2:
        shown = runs[: max(1, (left - 2) // 2)]
        parts.append(table(_RUNS, shown, width, tone))
        left -= 1 + len(shown)
        if len(shown) < len(runs) and left >= 1:
            parts.append(_cut(Text(f"and {len(runs) - len(shown)} older runs", "dim"), width))
            left -= 1
    elif left >= 1 and not runs:
        parts.append(_cut(Text("No run and no TF file was heard of yet.", "dim"), width))
        left -= 1
    if recent and left >= 3:
        parts += [Text(""), table(_RECENT, recent[: left - 2], width, tone)]
        left -= 2 + len(recent[: left - 2])
    parts += [Text("")] * left
    if height > 1:
        parts.append(_cut(_foot(snapshot), width))
    return Group(*parts)


def _cut(line: Text, width: int) -> Text:
    line.no_wrap = True
    line.truncate(width, overflow="ellipsis")
    return line


def _connection(snapshot: Mapping[str, Any]) -> Text:
    found = snapshot["connection"]
    state, heard = escape(found["state"]), found["heartbeat_age_s"]
    line = Text.assemble((f" {state} ", _BADGES.get(state, "bold")), f" since {clock_time(found['since'])}")
    if heard is not None:
        line.append(f"  heart-beat {age(heard)} ago", "" if state == "LIVE" else "bold")
    if state != "LIVE" and found["reason"]:
        line.append(f"  {escape(found['reason'])}")
    return line.append(f"  reconnects {found['reconnects']}  {escape(snapshot['monitor'])}")


def _no_longer_true(snapshot: Mapping[str, Any]) -> list[Text]:
    """Numbers that nobody vouches for any more are shown, but never without this line."""
    found = snapshot["connection"]
    if found["state"] == "LIVE" or not snapshot["runs"]:
        return []
    heard = found["heartbeat_age_s"]
    when = "" if heard is None else f", {age(heard)} ago"
    return [Text(f"These are the last numbers heard{when}: what is now is UNKNOWN.", "bold")]


def _alarms(alarms: Sequence[Row], most: int) -> list[Text]:
    active = [alarm for alarm in alarms if alarm["until"] is None]
    over = [alarm for alarm in alarms if alarm["until"] is not None]
    lines = [_alarm(alarm, "ALARM", _LOUD) for alarm in active] + [_alarm(alarm, "ended", "dim") for alarm in over]
    if len(lines) <= most:
        return lines
    hidden, style = len(lines) - most + 1, _LOUD if len(active) >= most else "dim"
    return [*lines[: most - 1], Text(f" {len(active)} alarms in all ", style) if most == 1 and active
            else Text(f" and {hidden} more ", style)]  # fmt: skip


def _alarm(alarm: Row, word: str, style: str) -> Text:
    kind = escape(alarm["kind"]).replace("_", " ")
    run = "" if alarm["run"] is None else f"  run {escape(alarm['run'])}"
    until = "" if alarm["until"] is None else f" until {clock_time(alarm['until'])}"
    # What is wrong comes first: the end of the line is what a narrow window cuts off.
    return Text(f" {word} {kind}{run}: {escape(alarm['evidence'])}  since {clock_time(alarm['since'])}{until} ", style)


def _foot(snapshot: Mapping[str, Any]) -> Text:
    asked = snapshot["filters"]
    chosen = [*asked.get("agents", ()), *asked.get("run_ids", ()), asked.get("namespace")]
    only = f"  only {escape(', '.join(each for each in chosen if each))}" if any(chosen) else ""
    sparks = _sparks(snapshot["rates"]["tf_files"][-24:])
    return Text(f"{sparks} {clock_time(snapshot['at'])} UTC  up {age(snapshot['uptime_s'])}  Ctrl-C ends{only}", "dim")


def _sparks(counts: Sequence[int]) -> str:
    """The TF files of the last two minutes as little bars."""
    top = max([1, *counts])
    return "".join(" ▁▂▃▄▅▆▇█"[-(-8 * count // top)] for count in counts)


def _state(run: Row) -> str:
    return f"{escape(run['state'])} STALE" if run["stale"] else escape(run["state"])


def _missing(run: Row) -> str:
    if run["stfs_missing"] is None:
        return "UNKNOWN"
    named = f": {', '.join(gaps(run['missing']))}" if run["missing"] else ""
    return f"{run['stfs_missing']}{named}"


def _counts(run: Row) -> str:
    return escape(f"{run['verified']}: {run['doubt']}" if run["doubt"] else run["verified"])


def _lag(run: Row) -> str:
    return f"{lag(run['lag_p50_s'])} / {lag(run['lag_p95_s'])}"


def _marks(row: Row) -> str:
    return " ".join(mark for mark in ("late", "backfilled") if row[mark])


def _where(is_bad: Callable[[Row], bool], style: str) -> Callable[[Row], str]:
    return lambda row: style if is_bad(row) else ""


_RUNS = (
    Column("run", 0, lambda run: escape(run["run"]), style=lambda _run: "bold"),
    Column("namespace", 11, lambda run: escape(run["namespace"] or "-"), least=6),
    Column("state", 0, _state, style=_where(lambda run: run["stale"], "bold yellow")),
    Column("STFs", 3, lambda run: of(run["stfs_seen"], run["stfs_expected"]), right=True),
    Column("skipped", 9, lambda run: "-" if run["stfs_skipped"] is None else str(run["stfs_skipped"]), right=True),
    Column("missing", 2, _missing, style=_where(lambda run: run["stfs_missing"] != 0, "bold red"), least=10),
    Column("incomplete", 8, lambda run: str(run["stfs_incomplete"]), right=True),
    Column("TF files", 0, lambda run: of(run["tf_files"], run["tf_expected"]), right=True),
    Column("counts", 1, _counts, least=8,
           style=_where(lambda run: run["verified"] != "VERIFIED", "bold yellow")),
    Column("at", 12, lambda run: clock_time(run["verified_at"])),
    Column("volume", 6, lambda run: size(run["bytes"]), right=True),
    Column("rate", 5, lambda run: f"{run['rate_hz']:.1f}/s", right=True),
    Column("lag p50/p95 s", 7, _lag, right=True),
    Column("last", 4, lambda run: short_age(run["last_age_s"]), right=True),
    Column("backfilled", 10, lambda run: str(run["backfilled"]), right=True),
)  # fmt: skip
_RECENT = (
    Column("at", 1, lambda row: clock_time(row["at"])),
    Column("run", 5, lambda row: escape(row["run"])),
    Column("TF file", 0, lambda row: escape(row["tf_filename"]), least=30),
    Column("size", 2, lambda row: size(row["size_bytes"]), right=True),
    Column("STF", 6, lambda row: escape(row["stf_filename"]), least=24),
    Column("status", 4, lambda row: escape(row["status"] or "-")),
    Column("", 3, _marks),
)
