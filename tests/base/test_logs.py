"""The log on stderr: secrets, and what others sent."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from loguru import logger

from fastmon_daemon.base import logs

SENT = "502 \x1b[2J\x00gone\r\n<3>2026-11-21T20:00:00.000Z CRITICAL forged\u2028\u202e"


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    yield
    logger.remove()


@pytest.mark.field("20")
@pytest.mark.parametrize("journal", [False, True])
def test_what_others_sent_is_escaped_once_and_is_one_line(capsys: pytest.CaptureFixture[str], journal: bool) -> None:
    logs.configure("INFO", logs.SecretRedactor(), journal=journal)
    logger.warning("the monitor said {}: {}", "no", SENT)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(
        r"the monitor said no: 502 \x1b[2J\x00gone\r\n<3>2026-11-21T20:00:00.000Z CRITICAL forged\u2028\u202e"
    )


@pytest.mark.field("20")
@pytest.mark.parametrize("journal", [False, True])
def test_no_line_of_a_traceback_can_look_like_a_log_line(capsys: pytest.CaptureFixture[str], journal: bool) -> None:
    logs.configure("INFO", logs.SecretRedactor("hush-hush"), journal=journal)
    try:
        raise ValueError(f"hush-hush {SENT}")
    except ValueError as exc:
        logger.opt(exception=exc).error("unexpected\nerror")
    out = capsys.readouterr().err
    first, *more = out.split("\n")[:-1]
    assert first.endswith(r"ERROR    unexpected\nerror")
    prefix = "<3>    " if journal else "    "
    assert more[0] == f"{prefix}Traceback (most recent call last):"
    assert all(line.startswith(prefix) for line in more)
    assert "hush" not in out
    assert "\x1b" not in out


def test_a_secret_with_invisible_characters_is_redacted(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("INFO", logs.SecretRedactor("pass\u00a0word"), journal=False)
    logger.info("login with {}", "pass\u00a0word")
    assert capsys.readouterr().err.endswith("login with ***\n")


def test_a_message_of_a_library_is_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("INFO", logs.SecretRedactor(), journal=False)
    logging.getLogger("some.library").error("bad \x1b[31m %s", "{braces}")
    assert capsys.readouterr().err.endswith("some.library: bad \\x1b[31m {braces}\n")
