"""What a key does."""

from __future__ import annotations

from typing import Any

import pytest

from fastmon_client.live.navigation import Acknowledge, Action, Navigation, Seen

RUNS = ("100014", "100013", "100012")
ALARMS = tuple({"kind": "stfs_missing", "subject": run} for run in RUNS)


def after(*keys: str, start: Navigation | None = None, **seen: Any) -> tuple[Navigation, Action | None]:
    found, action = start or Navigation(name="ana"), None
    for key in keys:
        known = {"runs": RUNS, "unacknowledged": ALARMS, "page_lines": 20, "last_top": 30} | seen
        found, action = found.press(key, Seen(**known))
    return found, action


@pytest.mark.parametrize(
    ("keys", "run"),
    [("down", "100013"), ("j", "100013"), ("down down down down", "100012"), ("down up", "100014"), ("up", "100014"),
     ("end", "100012"), ("end home", "100014"), ("page down", "100012")],
)  # fmt: skip
def test_selection_moves_and_stays_in_the_list(keys: str, run: str) -> None:
    pressed = ("page down",) if keys == "page down" else keys.split()
    assert after(*pressed)[0].run == run


def test_selection_stays_on_its_run_when_a_new_one_appears() -> None:
    found, _ = after("down")
    assert found.selected(["100015", *RUNS]) == 2


@pytest.mark.parametrize(
    ("keys", "page"),
    [("enter", "run"), ("enter esc", "overview"), ("r", "runs"), ("r enter esc", "runs"), ("r r", "overview"),
     ("r enter esc esc", "overview"), ("?", "help"), ("enter ?", "help"), ("enter ? esc", "run"), ("? ?", "overview"),
     ("esc", "overview"), ("enter r", "runs"), ("? /", "overview"), ("r /", "runs"), ("? enter", "help")],
)  # fmt: skip
def test_pages(keys: str, page: str) -> None:
    assert after(*keys.split())[0].page == page


def test_enter_opens_the_selected_run() -> None:
    assert after("down", "enter")[0].run == "100013"
    assert after("enter", runs=())[0].page == "overview"


def test_an_open_run_scrolls_within_its_lines() -> None:
    assert [after("enter", *keys)[0].top for keys in (("down",), ("up",), ("page down",), ("end",), ("G", "k"))] == [
        1, 0, 19, 30, 29,
    ]  # fmt: skip


def test_a_filter_is_typed() -> None:
    typing, _ = after("/", "q", "1", "backspace", "?")
    assert (typing.filter, typing.types_filter) == ("q?", True)
    assert after("enter", start=typing)[0].filter == "q?"
    assert after("esc", start=typing)[0].filter == ""
    assert after("clear", start=typing)[0].filter == ""
    assert after("enter", "esc", start=typing)[0].filter == ""


def test_q_quits_from_each_page() -> None:
    for keys in ((), ("enter",), ("?",), ("r",)):
        assert after(*keys, "q")[1] == "quit"


def test_an_acknowledgement_has_a_name_and_a_note() -> None:
    asked, _ = after("a", "B", "e", "n", "enter", "o", "k")
    found, action = after("enter", start=asked)
    assert action == Acknowledge(ALARMS[0], "Ben", "ok")
    assert (found.prompt, found.name) == (None, "Ben")
    assert after("a", "enter", "enter", start=found)[1] == Acknowledge(ALARMS[0], "Ben", "")


def test_a_proposed_name_is_edited_by_backspace_and_replaced_by_a_character() -> None:
    assert after("a", "backspace", "b", "enter", "enter")[1] == Acknowledge(ALARMS[0], "anb", "")
    assert after("a", "b", "enter", "enter")[1] == Acknowledge(ALARMS[0], "b", "")


def test_an_acknowledgement_without_a_name_is_none() -> None:
    asked, action = after("a", "clear", " ", "enter", "enter")
    assert action is None
    assert asked.prompt is not None


@pytest.mark.parametrize(("keys", "alarm"), [("down", 1), ("down down", 2), ("up", 2), ("down up", 0)])
def test_another_alarm_can_be_chosen(keys: str, alarm: int) -> None:
    assert after("a", *keys.split(), "enter", "enter")[1] == Acknowledge(ALARMS[alarm], "ana", "")


def test_an_alarm_that_begins_meanwhile_is_not_acknowledged_in_its_place() -> None:
    asked, _ = after("a", "enter")
    newer = ({"kind": "stream_dead", "subject": ""}, *ALARMS)
    assert after("enter", start=asked, unacknowledged=newer)[1] == Acknowledge(ALARMS[0], "ana", "")


def test_an_alarm_that_ends_meanwhile_is_not_acknowledged() -> None:
    asked, _ = after("a", "enter")
    found, action = after("enter", start=asked, unacknowledged=ALARMS[1:])
    assert action is None
    assert "ended" in found.message
    assert after("down", start=found)[0].message == ""


def test_escape_cancels_an_acknowledgement() -> None:
    found, action = after("a", "esc")
    assert (found.prompt, action) == (None, None)
    assert "No alarm" in after("a", unacknowledged=())[0].message


def test_what_is_typed_is_bounded() -> None:
    found, _ = after("a", *"x" * 1000, "enter", *"y" * 1000)
    assert found.prompt is not None
    assert (len(found.prompt.by), len(found.prompt.note)) == (60, 300)


def test_a_page_of_a_very_low_window_is_one_line() -> None:
    for lines in (0, 1, 2):
        assert after("enter", "page down", page_lines=lines)[0].top == 1
    assert after("enter", "page down", page_lines=3)[0].top == 2
