"""Renders a snapshot for a window of any size. Pure.

Everything from the network goes through `escape` into a `Text`, never through markup. Colour only repeats words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from fastmon_client.formatting import age, clock_time, escape, gaps, lag, of, short_age, size, volume
from fastmon_client.live.columns import Column, Row, table

_ALERT = "bold white on red"
_BADGES = {"LIVE": "bold black on green", "CONNECTING": "bold black on yellow", "DEAD": _ALERT, "REFUSED": _ALERT}


def render(snapshot: Mapping[str, Any], width: int, height: int) -> RenderableType:
    """The whole screen: at max_lines *height* lines of *width* columns."""
    runs, recent = snapshot["runs"], snapshot["recent"]
    tone = "" if snapshot["connection"]["state"] == "LIVE" else "dim"
    head = [_connection(snapshot), *_outdated_note(snapshot), *_alarms(snapshot["alarms"], max(1, height // 4))]
    parts: list[RenderableType] = [_cut(line, width) for line in head[: max(1, height - 1)]]
    left = height - len(parts) - 1  # the footer
    if runs and left >= 2:
        shown = runs[: max(1, (left - 2) // 2)]
        parts.append(table(_RUNS, shown, width, tone))
        left -= 1 + len(shown)
        if len(shown) < len(runs) and left >= 1:
            older = snapshot.get("runs_total", len(runs)) - len(shown)
            parts.append(_cut(Text(f"and {older} older runs  {_loading(snapshot)}", "dim"), width))
            left -= 1
    elif left >= 1 and not runs:
        parts.append(_cut(Text(_loading(snapshot) or "No runs received yet.", "dim"), width))
        left -= 1
    if recent and left >= 3:
        parts += [Text(""), table(_RECENT, recent[: left - 2], width, tone)]
        left -= 2 + len(recent[: left - 2])
    parts += [Text("")] * left
    if height > 1:
        parts.append(_cut(_footer(snapshot), width))
    return Group(*parts)


def _cut(line: Text, width: int) -> Text:
    line.no_wrap = True
    line.truncate(width, overflow="ellipsis")
    return line


def _connection(snapshot: Mapping[str, Any]) -> Text:
    found = snapshot["connection"]
    state, age_s = escape(found["state"]), found["heartbeat_age_s"]
    line = Text.assemble((f" {state} ", _BADGES.get(state, "bold")), f" since {clock_time(found['since'])}")
    if age_s is not None:
        line.append(f"  heart-beat {age(age_s)} ago", "" if state == "LIVE" else "bold")
    if state != "LIVE" and found["reason"]:
        line.append(f"  {escape(found['reason'])}")
    return line.append(f"  reconnects {found['reconnects']}  {escape(snapshot['monitor'])}")


def _outdated_note(snapshot: Mapping[str, Any]) -> list[Text]:
    """The warning above numbers that may be outdated."""
    found = snapshot["connection"]
    if found["state"] == "LIVE" or not snapshot["runs"]:
        return []
    age_s = found["heartbeat_age_s"]
    when = "" if age_s is None else f" ({age(age_s)} ago)"
    return [Text(f"Last received numbers{when}: the current state is UNKNOWN.", "bold")]


def _alarms(alarms: Sequence[Row], max_lines: int) -> list[Text]:
    active = [alarm for alarm in alarms if alarm["until"] is None]
    ended = [alarm for alarm in alarms if alarm["until"] is not None]
    lines = [_alarm(alarm, "ALARM", _ALERT) for alarm in active] + [_alarm(alarm, "ended", "dim") for alarm in ended]
    if len(lines) <= max_lines:
        return lines
    hidden, style = len(lines) - max_lines + 1, _ALERT if len(active) >= max_lines else "dim"
    return [*lines[: max_lines - 1], Text(f" {len(active)} alarms in all ", style) if max_lines == 1 and active
            else Text(f" and {hidden} more ", style)]  # fmt: skip


def _alarm(alarm: Row, word: str, style: str) -> Text:
    kind = escape(alarm["kind"]).replace("_", " ")
    run = "" if alarm["run"] is None else f"  run {escape(alarm['run'])}"
    until = "" if alarm["until"] is None else f" until {clock_time(alarm['until'])}"
    # Evidence first: a narrow window cuts the end of the line.
    return Text(f" {word} {kind}{run}: {escape(alarm['evidence'])}  since {clock_time(alarm['since'])}{until} ", style)


def _loading(snapshot: Mapping[str, Any]) -> str:
    """What is still read from the monitor's tables."""
    return escape(snapshot.get("loading", {}).get("text", ""))


def _footer(snapshot: Mapping[str, Any]) -> Text:
    filters = snapshot["filters"]
    chosen = [*filters.get("agents", ()), *filters.get("run_ids", ()), filters.get("namespace")]
    only = f"  only {escape(', '.join(each for each in chosen if each))}" if any(chosen) else ""
    sparks = _sparks(snapshot["rates"]["tf_files"][-24:])
    return Text(
        f"{sparks} {clock_time(snapshot['at'])} UTC  up {age(snapshot['uptime_s'])}  Ctrl-C to stop{only}", "dim"
    )


def _sparks(counts: Sequence[int]) -> str:
    """The TF files of the last two minutes as a sparkline."""
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


def _style_if(is_bad: Callable[[Row], bool], style: str) -> Callable[[Row], str]:
    return lambda row: style if is_bad(row) else ""


_RUNS = (
    Column("run", 0, lambda run: escape(run["run"]), style=lambda _run: "bold"),
    Column("namespace", 11, lambda run: escape(run["namespace"] or "-"), min_width=6),
    Column("state", 0, _state, style=_style_if(lambda run: run["stale"], "bold yellow")),
    Column("STFs", 3, lambda run: of(run["stfs_seen"], run["stfs_expected"]), right=True),
    Column("skipped", 9, lambda run: "-" if run["stfs_skipped"] is None else str(run["stfs_skipped"]), right=True),
    Column("missing", 2, _missing, style=_style_if(lambda run: run["stfs_missing"] != 0, "bold red"), min_width=10),
    Column("incomplete", 8, lambda run: str(run["stfs_incomplete"]), right=True),
    Column("TF files", 0, lambda run: of(run["tf_files"], run["tf_expected"]), right=True),
    Column("counts", 1, _counts, min_width=8,
           style=_style_if(lambda run: run["verified"] != "VERIFIED", "bold yellow")),
    Column("at", 12, lambda run: clock_time(run["verified_at"])),
    Column("volume", 6, lambda run: volume(run["bytes"], run["tf_files_without_size"]), right=True),
    Column("rate", 5, lambda run: f"{run['rate_hz']:.1f}/s", right=True),
    Column("lag p50/p95 s", 7, _lag, right=True),
    Column("last", 4, lambda run: short_age(run["last_age_s"]), right=True),
    Column("backfilled", 10, lambda run: str(run["backfilled"]), right=True),
)  # fmt: skip
_RECENT = (
    Column("at", 1, lambda row: clock_time(row["at"])),
    Column("run", 5, lambda row: escape(row["run"])),
    Column("TF file", 0, lambda row: escape(row["tf_filename"]), min_width=30),
    Column("size", 2, lambda row: size(row["size_bytes"]), right=True),
    Column("STF", 6, lambda row: escape(row["stf_filename"]), min_width=24),
    Column("status", 4, lambda row: escape(row["status"] or "-")),
    Column("", 3, _marks),
)
