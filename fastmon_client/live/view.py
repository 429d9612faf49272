"""Renders what is known for a window of any size, as lines. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.text import Text

from fastmon_client.formatting import age, escape
from fastmon_client.live import overview
from fastmon_client.live.columns import Row
from fastmon_client.live.glyphs import legend, strip_lines
from fastmon_client.live.navigation import KEYS, Navigation, identity
from fastmon_client.live.run_page import run_lines

_MIN_RUNS, _MIN_RECENT = 3, 3
"""Lines that alarms leave to them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """All that the screen shows."""

    snapshot: Mapping[str, Any]
    incidents: Sequence[Mapping[str, Any]] = ()
    """Alarms by cause, each with `acknowledged`: who, or None."""
    older: Sequence[Row] = ()
    """Runs that are not in the snapshot."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """What the monitor's tables say about the open run: see `run_page`."""
    navigation: Navigation = field(default_factory=Navigation)
    has_keys: bool = True
    """Whether there is a keyboard."""

    @property
    def runs(self) -> list[Row]:
        """The runs that the filter shows, newest first."""
        rows = [*self.snapshot["runs"]]
        listed = {row["run"] for row in rows}
        rows += [row for row in self.older if row["run"] not in listed]
        return [row for row in rows if overview.matches(row, self.navigation.filter)]

    @property
    def unacknowledged(self) -> list[Mapping[str, Any]]:
        """Active alarms that nobody acknowledged."""
        return [each for each in self.incidents if each["until"] is None and not each["acknowledged"]]


def render(model: Model, width: int, height: int) -> list[Text]:
    """The whole screen: at most *height* lines of *width* columns."""
    snapshot, page = model.snapshot, model.navigation.page
    foot = _footer(model, width) if height > 4 else []
    room = height - len(foot)
    head = [overview.bar(snapshot, width)]
    body: list[Text]
    if page == "run":
        body = [*overview.reason(snapshot, width, 1), Text(), *run_body(model, width, height)]
    elif page == "help":
        body = [Text(), *_help(width)]
    elif page == "runs":
        body = [*overview.reason(snapshot, width, 1), Text(), *_runs(model, width, room - 3)]
    else:
        body = _overview(model, width, room - 1)
    lines = [*head, *body][: max(1, room)]
    lines += [Text()] * (room - len(lines))
    lines = [*lines, *foot][:height]
    for line in lines:
        line.no_wrap = True
        line.truncate(width, overflow="ellipsis")
    return lines


def run_body(model: Model, width: int, height: int) -> list[Text]:
    """The shown part of the open run."""
    lines, room = _run_page(model, width), page_lines(height)
    top = min(model.navigation.top, last_top(model, width, height))
    return lines[top : top + room]


def page_lines(height: int) -> int:
    """Lines below the verdict."""
    return max(1, height - 4)


def last_top(model: Model, width: int, height: int) -> int:
    """The furthest that the open run scrolls."""
    return max(0, len(_run_page(model, width)) - page_lines(height)) if model.navigation.page == "run" else 0


def _run_page(model: Model, width: int) -> list[Text]:
    name = model.navigation.run
    row = next((row for row in [*model.snapshot["runs"], *model.older] if row["run"] == name), None)
    return run_lines(name or "", row, model.details, width)


def _overview(model: Model, width: int, room: int) -> list[Text]:
    snapshot = model.snapshot
    tone = "dim" if _is_blind(snapshot) else ""
    why = overview.reason(snapshot, width, 3 if room > 12 else 2 if room > 5 else 1)
    if room < 2:
        return why
    space = [Text()] if room > 14 else []
    shown = overview.tiles(snapshot, width, room - len(why) - 2 * len(space) - 1)
    body = [*why, *space, *shown, *space]
    left = room - len(body)
    alarm_lines = overview.alarms(model.incidents, snapshot["at"], width, max(1, left // 2 - 1)) if left > 0 else []
    need = len(alarm_lines) + len(space) if alarm_lines else 0
    rows = snapshot["recent"]
    min_recent = _MIN_RECENT + 1 + len(space) if rows and left - need >= 2 * _MIN_RUNS + _MIN_RECENT else 0
    runs = _runs(model, width, left - need - min_recent, tone)
    sequence = _sequence(model, width) if left - need - min_recent - len(runs) > 14 else []
    compared = overview.reference(snapshot, width) if left - need - min_recent - len(runs) > 2 else []
    body += [*runs, *compared, *sequence]
    if alarm_lines:
        body += [*space, *alarm_lines]
    left = room - len(body) - len(space)
    if rows and left >= 2:
        body += [*space, *overview.recent(rows[: left - 1], width, tone)]
    return body


def _is_blind(snapshot: Mapping[str, Any]) -> bool:
    """Whether the numbers are old: neither the stream nor the tables answer."""
    monitor = snapshot["tiles"]["monitor"]
    return "good" not in (monitor["stream"]["state"], monitor["tables"]["state"])


def _runs(model: Model, width: int, room: int, tone: str = "") -> list[Text]:
    """The table of runs, and a line about those that do not fit."""
    snapshot, navigation, runs = model.snapshot, model.navigation, model.runs
    loading = escape(snapshot["loading"]["text"])
    if room < 1:
        return []
    if not runs:
        none = "No run matches the filter." if navigation.filter else loading or "No runs received yet."
        return [Text(f"  {none}", "dim")]
    total = len(runs) if navigation.filter else max(len(runs), snapshot["runs_total"])
    fits = len(runs) + 1 <= room and total == len(runs)
    rows = min(len(runs), max(1, room - 1 if fits else room - 2))
    selected = navigation.selected([run["run"] for run in runs])
    lines = overview.runs_table(runs, selected, rows, width, tone)
    filtered = f"filter: {navigation.filter}" if navigation.filter else ""
    notes = [f"{total - rows} more" if total > rows else "", filtered, loading]
    if any(notes) and len(lines) < room:
        lines.append(Text("  " + " · ".join(note for note in notes if note), "dim"))
    return lines[:room]


def _sequence(model: Model, width: int) -> list[Text]:
    """The strip of the selected run, a character for each STF."""
    runs = model.runs
    run = runs[model.navigation.selected([run["run"] for run in runs])] if runs else None
    if run is None or not run.get("strip"):
        return []
    cells = run["strip"]
    title = Text(
        f"  Sequence of STFs {cells[0]['sequence']}-{cells[-1]['sequence']} of run {escape(run['run'])}:", "dim"
    )
    for each in legend():
        title.append("  ").append_text(each)
    return [Text(), title, *(Text("  ").append_text(line) for line in strip_lines(cells, width - 4)[-6:])]


def _help(width: int) -> list[Text]:
    found = [Text.assemble("  ", (f"{key:<12}", "bold"), what) for key, what in KEYS]
    found += [Text(), Text("  In the sequence of STFs, one character for each:", "dim")]
    found += [Text("  ").append_text(each) for each in legend(with_meaning=True)]
    note = "Words and numbers: docs/client.md. What each alarm means: docs/alarms.md. All times are UTC."
    return [*found, Text(), *overview.wrap(Text(f"  {note}", "dim"), width, 3)]


# The last lines


def _footer(model: Model, width: int) -> list[Text]:
    navigation, snapshot = model.navigation, model.snapshot
    if navigation.prompt:
        return _prompt(model, width)
    if navigation.types_filter:
        return [_field("Filter the runs: ", navigation.filter, "   Enter keeps it, Esc removes it", width)]
    if navigation.message:
        return [Text(f" {navigation.message}", "bold reverse")]
    filters = snapshot["filters"]
    chosen = [*filters.get("agents", ()), *filters.get("run_ids", ()), filters.get("namespace")]
    only = f"only {escape(', '.join(each for each in chosen if each))}  " if any(chosen) else ""
    right = f"{only}{escape(snapshot['monitor'])}  up {age(snapshot['uptime_s'])} "
    keys = " Ctrl-C to stop"
    if model.has_keys:
        back = [("Enter", "run"), ("/", "filter"), ("r", "runs")]
        if navigation.back:
            back = [
                ("Esc", "back"),
                *([("↑ ↓", "scroll")] if navigation.page == "run" else back[: 2 * (navigation.page == "runs")]),
            ]
        waiting = len(model.unacknowledged)
        names = [("?", "help"), ("q", "quit"), *back, ("a", f"acknowledge {waiting}" if waiting else "acknowledge")]
        keys = "".join(f" {key} {what} " for key, what in names)
    blank = width - len(keys) - len(right)
    return [Text(f"{keys}{' ' * blank}{right}" if blank > 0 else keys, "dim")]


def _prompt(model: Model, width: int) -> list[Text]:
    prompt, waiting = model.navigation.prompt, model.unacknowledged
    assert prompt is not None
    places = [place for place, each in enumerate(waiting) if identity(each) == prompt.alarm]
    if not places:
        return [Text(" The alarm has ended, or somebody else acknowledged it: press a key.", "bold reverse")]
    alarm = waiting[places[0]]
    which = f" {places[0] + 1} of {len(waiting)}" if len(waiting) > 1 else ""
    run = f", run {escape(alarm['run'])}" if alarm["run"] else ""
    head = Text(f" Acknowledge{which}: {escape(alarm['title'])}{run}: {escape(alarm['evidence'])}", "bold")
    if prompt.at_note:
        return [head, _field("Note (optional): ", prompt.note, "   Enter acknowledges, Esc cancels", width)]
    hint = "   Enter goes on, Esc cancels"
    return [head, _field("Your name: ", prompt.by, hint, width, "reverse" if prompt.is_proposed else "")]


def _field(title: str, text: str, hint: str, width: int, style: str = "") -> Text:
    """A field that is being typed into; of a long text the end is seen."""
    room = max(1, width - len(title) - 2)
    shown = escape(text)[-room:]
    line = Text.assemble((f" {title}", "bold"), (shown, style), (" ", "reverse"))
    return line.append(hint, "dim") if line.cell_len + len(hint) <= width else line
