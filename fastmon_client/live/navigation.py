"""Where the shifter is, and what a key does. Pure."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

Page = Literal["overview", "runs", "run", "help"]

KEYS = (
    ("?", "Show the keys"),
    ("/", "Filter the runs: text, open, missing, unknown"),
    ("↑ ↓, k j", "Next run, previous run; in a run: scroll"),
    ("Enter", "Open the run"),
    ("r", "All runs"),
    ("a", "Acknowledge the first alarm; ↑ ↓ choose another"),
    ("Esc", "Back; in the overview: without filter"),
    ("Ctrl-L", "Redraw the screen"),
    ("q", "Quit, with the summary"),
)
MAX_FILTER, MAX_NAME, MAX_NOTE = 60, 60, 300
"""Characters; name and note as the acknowledgements keep them."""


@dataclass(frozen=True, slots=True)
class AcknowledgePrompt:
    """Asks who takes note of an alarm."""

    alarm: tuple[str, str]
    """Its kind and subject: another one may begin while the name is typed."""
    by: str
    note: str = ""
    at_note: bool = False
    """Whether the note is asked for, not the name."""
    is_proposed: bool = True
    """Whether the name is a proposal, which the first typed character replaces."""


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """Take note of an alarm."""

    incident: Mapping[str, Any]
    by: str
    note: str


Action = Acknowledge | Literal["quit", "redraw"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a key refers to."""

    runs: Sequence[str]
    """Names of the runs that the filter shows, newest first."""
    unacknowledged: Sequence[Mapping[str, Any]]
    """Active alarms that nobody acknowledged."""
    page_lines: int
    """A page of the list or the run."""
    last_top: int
    """The furthest that the open run scrolls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Navigation:
    """The page, the selection, and what is being typed."""

    page: Page = "overview"
    back: tuple[Page, ...] = ()
    """The pages that Esc leads back to."""
    run: str | None = None
    """The selected run; None: the newest."""
    top: int = 0
    """First shown line of the open run."""
    filter: str = ""
    types_filter: bool = False
    prompt: AcknowledgePrompt | None = None
    name: str = ""
    """Who acknowledged last."""
    message: str = ""
    """The answer to the last key, if it needs one."""

    def selected(self, runs: Sequence[str]) -> int:
        """The place of the selected run in *runs*."""
        return runs.index(self.run) if self.run in runs else 0

    def press(self, key: str, seen: Seen) -> tuple[Navigation, Action | None]:
        """What is so after *key*, and what is to be done."""
        now = replace(self, message="")
        if key == "redraw":
            return now, "redraw"
        if now.types_filter:
            return now._type_filter(key), None
        if now.prompt:
            return now._answer(now.prompt, key, seen)
        if key == "q":
            return now, "quit"
        if key == "a":
            return now._ask(seen), None
        return now._move(key, seen), None

    def _move(self, key: str, seen: Seen) -> Navigation:
        lists_runs = self.page in ("overview", "runs")
        if key == "?" and self.page != "help":
            return self._open("help")
        if key == "r" and self.page != "runs":
            return replace(self, page="runs", back=("overview",))
        if key == "/":
            return replace(self if lists_runs else replace(self, page="overview", back=()), types_filter=True)
        if key == "enter" and lists_runs and seen.runs:
            return replace(self._open("run"), run=seen.runs[self.selected(seen.runs)], top=0)
        if key in ("esc", "?", "r"):
            return self._close()
        return self._step(key, seen)

    def _open(self, page: Page) -> Navigation:
        return replace(self, page=page, back=(*self.back, self.page))

    def _close(self) -> Navigation:
        if self.back:
            return replace(self, page=self.back[-1], back=self.back[:-1])
        return replace(self, filter="")

    def _step(self, key: str, seen: Seen) -> Navigation:
        far, page = sys.maxsize, max(1, seen.page_lines - 1)
        steps = {"up": -1, "k": -1, "down": 1, "j": 1, "page up": -page, "page down": page, " ": page,
                 "home": -far, "g": -far, "end": far, "G": far}  # fmt: skip
        step = steps.get(key, 0)
        if self.page == "run":
            return replace(self, top=max(0, min(seen.last_top, self.top + step)))
        if not step or not seen.runs or self.page == "help":
            return self
        place = max(0, min(len(seen.runs) - 1, self.selected(seen.runs) + step))
        return replace(self, run=seen.runs[place])

    def _type_filter(self, key: str) -> Navigation:
        if key == "enter":
            return replace(self, types_filter=False)
        if key == "esc":
            return replace(self, types_filter=False, filter="")
        return replace(self, filter=_typed(self.filter, key, MAX_FILTER))

    def _ask(self, seen: Seen) -> Navigation:
        if not seen.unacknowledged:
            return replace(self, message="No alarm to acknowledge.")
        return replace(self, prompt=AcknowledgePrompt(identity(seen.unacknowledged[0]), self.name))

    def _answer(self, prompt: AcknowledgePrompt, key: str, seen: Seen) -> tuple[Navigation, Action | None]:
        alarms = [identity(each) for each in seen.unacknowledged]
        if key == "esc":
            return replace(self, prompt=None), None
        if prompt.alarm not in alarms:
            return replace(self, prompt=None, message="Not acknowledged: the alarm ended, or somebody did it."), None
        place = alarms.index(prompt.alarm)
        by = prompt.by.strip()
        if key in ("up", "down"):
            place = (place + (1 if key == "down" else -1)) % len(alarms)
            prompt = replace(prompt, alarm=alarms[place])
        elif key == "enter" and prompt.at_note:
            return replace(self, prompt=None, name=by), Acknowledge(seen.unacknowledged[place], by, prompt.note.strip())
        elif key == "enter":
            prompt = replace(prompt, at_note=bool(by))
        elif prompt.at_note:
            prompt = replace(prompt, note=_typed(prompt.note, key, MAX_NOTE))
        else:
            before = "" if prompt.is_proposed and len(key) == 1 else prompt.by
            prompt = replace(prompt, by=_typed(before, key, MAX_NAME), is_proposed=False)
        return replace(self, prompt=prompt), None


def identity(incident: Mapping[str, Any]) -> tuple[str, str]:
    """What tells an alarm from others, as its acknowledgement does."""
    return str(incident["kind"]), str(incident["subject"])


def _typed(text: str, key: str, limit: int) -> str:
    if key == "backspace":
        return text[:-1]
    if key == "clear":
        return ""
    return (text + key)[:limit] if len(key) == 1 else text
