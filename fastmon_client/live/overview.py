"""The parts of the screen, as lines: verdict, tiles, runs, alarms, recent TF files. Pure.

Everything from the network goes through `escape` into a `Text`, never through markup. Words are those of the page.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.text import Text

from fastmon_client.dashboard.guide import entry_of
from fastmon_client.formatting import age, clock_time, count_of, escape, gaps, lag, of, short_age, size, volume
from fastmon_client.live.columns import Column, Row, table
from fastmon_client.live.glyphs import BARS, SHAPES, WORDS, chip, sparkline, strip
from fastmon_client.snapshot import TileState

MIN_TILE = 17
"""Columns of a tile; in a narrower window they are lines."""
MIN_NAMED, MIN_DOUBT, MAX_DOUBT = 9, 16, 48
"""Columns from which on the missing STFs, or the doubt, are worth being shown although they are cut."""
MAX_STRIP = 60
MAX_ENDED = 3
"""Lines about alarms that ended."""


def wrap(text: Text, width: int, max_lines: int, indent: int = 1) -> list[Text]:
    """*text* in at most *max_lines* lines, the last one cut; those after the first are indented."""
    rest, lines = text, list[Text]()
    while rest.cell_len > width and len(lines) < max_lines - 1:
        limit = len(_cut(rest.copy(), width, "crop"))
        place = rest.plain.rfind(" ", limit // 2, limit + 1)
        place = place if place > 0 else max(1, limit)
        lines.append(rest[:place])
        rest = Text.assemble(" " * min(indent, width // 4), rest[place + (rest.plain[place] == " ") :])
    return [*lines, _cut(rest, width)]


def _cut(text: Text, width: int, overflow: Any = "ellipsis") -> Text:
    text.truncate(width, overflow=overflow)
    return text


# The verdict


def bar(snapshot: Mapping[str, Any], width: int) -> Text:
    """The verdict as a bar: word, since when; the clock on the right."""
    verdict = snapshot["verdict"]
    state: TileState = verdict["state"]
    left = f" {SHAPES[state]} {escape(verdict['word'])}"
    since = verdict["since"]
    if since:
        lasting = age((datetime.fromisoformat(snapshot["at"]) - datetime.fromisoformat(since)).total_seconds())
        long = f"{left}   since {moment(since, snapshot['at'])} · for {lasting}"
        left = long if len(long) <= width else f"{left}  since {clock_time(since)}"
    right = f"{clock_time(snapshot['at'])} UTC "
    blank = width - len(left) - len(right)
    text = f"{left}{' ' * blank}{right}" if blank >= 2 else left
    return Text(text.ljust(width)[:width], BARS[state])


def moment(iso: str, now: str) -> str:
    """The time, with the date if it is not that of *now*."""
    return clock_time(iso) if iso[:10] == now[:10] else f"{escape(iso[:10])} {clock_time(iso)}"


def reason(snapshot: Mapping[str, Any], width: int, max_lines: int) -> list[Text]:
    """Why, and the one thing to do."""
    verdict = snapshot["verdict"]
    why = wrap(Text(f" {escape(verdict['reason'])}", "bold"), width, max(1, max_lines - 1))
    if not verdict["remedy"] or max_lines < 2:
        return why
    return [*why, *wrap(Text(f" → {escape(verdict['remedy'])}"), width, max(1, max_lines - len(why)), 3)]


# The tiles


@dataclass(frozen=True, slots=True)
class Tile:
    """What one tile says."""

    title: str
    state: TileState
    figure: Text
    more: str
    """Beside the figure, while all is good."""
    text: str
    short: str
    """One line that says it all."""


def tiles(snapshot: Mapping[str, Any], width: int, max_lines: int) -> list[Text]:
    """Side by side, or below each other in a narrow window; missing STFs are the last to be left out."""
    found, gap = _tiles(snapshot), 2 if width < 100 else 4
    tile_width = (width - 2 - (len(found) - 1) * gap) // len(found)
    if tile_width < MIN_TILE or max_lines < 4:
        rows = [_tile_line(tile, width) for tile in found]
        return rows if max_lines >= len(rows) else [rows[place] for place in sorted((1, 0, 2, 3)[: max(1, max_lines)])]
    columns = [_tile_lines(tile, tile_width, snapshot["rates"]["tf_files"]) for tile in found]
    lines = []
    for parts in zip(*columns, strict=True):
        line = Text(" ")
        for part in parts:
            line.append_text(_cut(part, tile_width)).append(" " * (tile_width - part.cell_len + gap))
        line.rstrip()
        lines.append(line)
    return lines


def _tiles(snapshot: Mapping[str, Any]) -> list[Tile]:
    found, connection = snapshot["tiles"], snapshot["connection"]
    flow, missing, daemon, monitor = (found[name] for name in ("flow", "missing", "daemon", "monitor"))
    last = "no TF file yet" if flow["age_s"] is None else f"last {age(flow['age_s'])} ago"
    count, beat, state = missing["count"], daemon["heartbeat_age_s"], escape(connection["state"])
    agents = daemon["agents"]
    facts = [
        "" if daemon["backlog"] is None else f"backlog {daemon['backlog']}",
        count_of(len(agents), "agent") if len(agents) > 1 else "",
    ]
    heard = "" if connection["heartbeat_age_s"] is None else f"heard {age(connection['heartbeat_age_s'])} ago"
    lost = count_of(connection["reconnects"], "reconnect") if connection["reconnects"] else ""
    rate = f"{flow['rate_hz']:.1f}"
    stfs = "? not known" if count is None else count_of(count, "STF")
    lives = "no heart-beat" if beat is None else f"heart-beat {age(beat)} ago"
    heart = ("", lives) if beat is None else ("heart-beat ", " ".join(age(beat).split()[:2]))

    def tile(title: str, part: Mapping[str, Any], figure: Text, more: str, short: str) -> Tile:
        text = escape(part["text"])
        return Tile(title, part["state"], figure, more, text, short if part["state"] == "good" else text)

    return [
        tile("Flow", flow, _figure("", rate, " TF files / s"), last, f"{rate} TF files / s, {last}"),
        tile("Missing", missing, _figure("", *stfs.partition(" ")), "", escape(missing["text"])),
        tile("Daemon", daemon, _figure(*heart), _joined(facts), _joined([lives, *facts])),
        tile("Monitor", monitor, _figure("stream ", state), _joined([heard, lost]),
             _joined([f"stream {state}", heard, lost])),
    ]  # fmt: skip


def _figure(before: str, number: str, *unit: str) -> Text:
    return Text.assemble(before, (number, "bold"), *unit)


def _joined(parts: Sequence[str]) -> str:
    return " · ".join(part for part in parts if part)


def _tile_line(tile: Tile, width: int) -> Text:
    line = Text.assemble(f" {tile.title:<8}", (f"{SHAPES[tile.state]} ", chip(tile.state).style))
    if width >= 60:
        line.append(f"{WORDS[tile.state]:<8}", chip(tile.state).style)
    return line.append(f" {tile.short}")


def _tile_lines(tile: Tile, width: int, rates: Sequence[int]) -> list[Text]:
    """Title and state, the figure, and two lines more."""
    title = Text(tile.title, "bold").append(" " if width < 20 else "  ").append_text(chip(tile.state))
    if tile.state != "good" or not tile.more:
        rest = wrap(Text(tile.text), width, 2, 0)
    elif tile.title == "Flow":
        rest = [Text(tile.more), Text(sparkline(rates[:-1], width), "green")]
    else:
        rest = [Text(tile.more), Text(tile.text, "dim")]
    return [title, tile.figure, *rest, Text()][:4]


# The runs


def runs_table(runs: Sequence[Row], selected: int, max_rows: int, width: int, tone: str = "") -> list[Text]:
    """The rows around the selected one, with their titles; the arrow marks it."""
    first = max(0, min(selected - max_rows + 1, len(runs) - max_rows))
    shown = runs[first : first + max_rows]
    lines = table(RUN_COLUMNS, shown, max(1, width - 2), tone)
    marked = []
    for place, line in enumerate(lines):
        is_selected = place - 1 + first == selected and place > 0
        if is_selected:
            line.stylize("bold")
        marked.append(Text.assemble(("▸ " if is_selected else "  ", "bold"), line))
    return marked


def matches(run: Row, filter_: str) -> bool:
    """Whether each word of *filter_* occurs in what the row says."""
    words = [run["run"], run["namespace"] or "", run["state"], run["verified"]]
    words += ["stale"] if run["stale"] else []
    words += ["open"] if run["state"] in ("imminent", "running", "paused") else []
    words += ["missing"] if run["stfs_missing"] or run["stfs_incomplete"] else []
    text = " ".join(words).lower()
    return all(word in text for word in filter_.lower().split())


def _state(run: Row) -> str:
    return f"{escape(run['state'])}, stale" if run["stale"] else escape(run["state"])


def _missing(run: Row) -> str:
    named = f": {', '.join(gaps(run['missing']))}" if run["missing"] else ""
    return "?" if run["stfs_missing"] is None else f"{run['stfs_missing']}{named}"


def _drawn_missing(run: Row, width: int) -> Text:
    """The number, and which ones, if at least some of them fit."""
    count, text = run["stfs_missing"], _missing(run)
    style = "" if count == 0 else "yellow" if count is None else "bold red"
    return Text(_shortened(text, width, MIN_NAMED), style)


def _counts(run: Row) -> str:
    return (
        run["verified"] if run["verified"] == "VERIFIED" else escape(f"{run['verified']}: {run['doubt']}".rstrip(": "))
    )


def _drawn_counts(run: Row, width: int) -> Text:
    return Text(_shortened(_counts(run), width, MIN_DOUBT), "" if run["verified"] == "VERIFIED" else "yellow")


def _shortened(text: str, width: int, min_width: int) -> str:
    """*text*, or only what stands before its colon, if little of the rest would fit."""
    return text if len(text) <= width or width >= min_width else text.partition(":")[0]


def _styled_if(is_so: Callable[[Row], bool], style: str) -> Callable[[Row], str]:
    return lambda row: style if is_so(row) else ""


def _some(pick: Callable[[Row], Any]) -> Callable[[Sequence[Row]], bool]:
    return lambda rows: any(pick(row) for row in rows)


def _several(name: str) -> Callable[[Sequence[Row]], bool]:
    return lambda rows: len({row[name] for row in rows} - {None}) > 1


RUN_COLUMNS = (
    Column("Run", 0, lambda run: escape(run["run"]), max_width=24, min_width=10),
    Column("Namespace", 11, lambda run: escape(run["namespace"] or "-"), max_width=20,
           when=_several("namespace")),
    Column("State", 1, _state, style=_styled_if(lambda run: run["stale"], "bold yellow")),
    Column("STFs", 6, lambda run: of(run["stfs_seen"], run["stfs_expected"]), right=True),
    Column("Missing", 0, _missing, min_width=7, max_width=24, when=_some(lambda run: run["stfs_missing"] != 0),
           draw=_drawn_missing),
    Column("Incomplete", 5, lambda run: str(run["stfs_incomplete"]), right=True,
           when=_some(lambda run: run["stfs_incomplete"]),
           style=_styled_if(lambda run: run["stfs_incomplete"], "yellow")),
    Column("Skipped", 10, lambda run: "?" if run["stfs_skipped"] is None else str(run["stfs_skipped"]), right=True,
           when=_some(lambda run: run["stfs_skipped"])),
    Column("TF files", 3, lambda run: of(run["tf_files"], run["tf_expected"]), right=True),
    Column("Backfilled", 12, lambda run: str(run["backfilled"]), right=True, when=_some(lambda run: run["backfilled"])),
    Column("Counts", 4, _counts, min_width=8, max_width=MAX_DOUBT, draw=_drawn_counts),
    Column("Volume", 9, lambda run: volume(run["bytes"], run["tf_files_without_size"]), right=True,
           when=_some(lambda run: run["bytes"])),
    Column("Rate", 7, lambda run: f"{run['rate_hz']:.1f}/s" if run["rate_hz"] else "-", right=True,
           when=_some(lambda run: run["rate_hz"])),
    Column("Lag, 95 %", 13, lambda run: lag(run["lag_p95_s"]), right=True,
           when=_some(lambda run: run["lag_p95_s"] is not None)),
    Column("Last", 8, lambda run: short_age(run["last_age_s"]), right=True),
    Column("Sequence of STFs", 2, lambda run: "x" * len(run["strip"]), min_width=16, max_width=MAX_STRIP,
           when=_some(lambda run: run.get("strip")), draw=lambda run, width: strip(run["strip"], width)),
)  # fmt: skip


# Alarms


def alarms(incidents: Sequence[Mapping[str, Any]], now: str, width: int, max_lines: int) -> list[Text]:
    """One for one cause, each with what to do if there is room; then those that ended."""
    active = sorted((each for each in incidents if each["until"] is None), key=lambda each: bool(each["acknowledged"]))
    ended = [each for each in incidents if each["until"] is not None]
    for in_detail in (4, 3, 2, 1, 0):
        lines = [line for each in active for line in _incident(each, now, in_detail, width)]
        if len(lines) <= max_lines:
            break
    if len(lines) > max_lines:
        more = len(lines) - max_lines + 1
        note = Text(f"{count_of(len(active), 'alarm')} in all" if max_lines == 1 else f"and {more} more", "bold")
        return [*lines[: max_lines - 1], note]
    over = [
        Text(f" ended {clock_time(each['since'])} to {clock_time(each['until'])} · {_what(each)}: "
             f"{escape(each['evidence'])}{_by(each, now)}", "dim")
        for each in ended
    ]  # fmt: skip
    room = min(MAX_ENDED, max_lines - len(lines))
    if len(over) > room > 0:
        over = [*over[: room - 1], Text(f" {count_of(len(ended), 'ended alarm')} of the last 10 minutes", "dim")]
    return [_cut(line, width) for line in [*lines, *over[: max(0, room)]]]


def _what(incident: Mapping[str, Any]) -> str:
    run = f" · run {escape(incident['run'])}" if incident["run"] else ""
    return f"{escape(incident['title'])}{run}"


def _named(text: str, incident: Mapping[str, Any]) -> str:
    """*text* of the guide, with the number of the run."""
    return text.replace("RUN", escape(incident["run"] or "RUN"))


def _by(incident: Mapping[str, Any], now: str) -> str:
    found = incident["acknowledged"]
    if not found:
        return ""
    note = f": {escape(found['note'])}" if found["note"] else ""
    return f" · acknowledged by {escape(found['by'])} at {moment(found['at'], now)}{note}"


def _incident(incident: Mapping[str, Any], now: str, in_detail: int, width: int) -> list[Text]:
    state: TileState = "bad" if incident["severity"] == "bad" else "warning"
    is_calm = bool(incident["acknowledged"])
    word = "noted" if is_calm else "ALARM" if state == "bad" else "warning"
    style = "dim" if is_calm else BARS[state]
    head = Text.assemble((f" {SHAPES[state]} {word} ", style), (f" {_what(incident)}", "dim" if is_calm else "bold"))
    since = f" · since {moment(incident['since'], now)}"
    evidence = escape(incident["evidence"])
    if is_calm:
        return [head.append(f"{_by(incident, now)}{since}: {evidence}", "dim")]
    if in_detail == 0:
        return [head.append(f": {evidence}{since}")]
    lines = [head.append(since)] if in_detail > 1 else [head.append(f": {evidence}{since}")]
    lines += wrap(Text(f"   {evidence}"), width, in_detail - 1, 3) if in_detail > 1 else []
    lines += wrap(Text(f"   → {_named(incident['action'], incident)}"), width, in_detail, 5)
    for step in entry_of(incident["kind"]).diagnosis if in_detail > 3 else ():
        lines += wrap(Text(f"     - {_named(step, incident)}", "dim"), width, 3, 7)
    if in_detail > 2:
        lines += [Text(f"   Also: {_what(each)}: {escape(each['evidence'])}") for each in incident["consequences"]]
    return lines


# Recent TF files


def reference(snapshot: Mapping[str, Any], width: int) -> list[Text]:
    """How the current run compares with the reference run; no line without one."""
    found = snapshot.get("reference")
    return wrap(Text(f"  {escape(found['text'])}", "dim"), width, 2) if found else []


def recent(rows: Sequence[Row], width: int, tone: str = "") -> list[Text]:
    """The newest TF files, with their titles."""
    return [Text.assemble("  ", line) for line in table(_RECENT, rows, max(1, width - 2), tone)]


def _marks(row: Row) -> str:
    return ", ".join(mark for mark in ("late", "backfilled") if row[mark])


_RECENT = (
    Column("At", 1, lambda row: clock_time(row["at"])),
    Column("Recent TF files", 0, lambda row: escape(row["tf_filename"]), min_width=28),
    Column("Run", 5, lambda row: escape(row["run"]), max_width=24, when=_several("run")),
    Column("Size", 2, lambda row: size(row["size_bytes"]), right=True,
           when=_some(lambda row: row["size_bytes"] is not None)),
    Column("STF", 6, lambda row: escape(row["stf_filename"]), min_width=24),
    Column("Status", 4, lambda row: escape(row["status"] or "-"), max_width=20,
           when=_some(lambda row: row["status"] != "registered")),
    Column("Marks", 3, _marks, when=_some(_marks)),
)  # fmt: skip
