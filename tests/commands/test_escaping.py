"""What the monitor sent never reaches the terminal raw, whichever command shows it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastmon_daemon.outbox import open_outbox
from tests.monitor.test_rest_client import answering
from tests.preloaded import run

PAGE = b"<h1>\x1b[2J\x1b]0;owned\x07 Bad\x00 Gateway\r\n\x9b31m</h1>"


@pytest.mark.field("20")
@pytest.mark.parametrize("words", [["check"], ["check", "--json"], ["reconcile", "--run", "7"]])
def test_an_error_page_of_the_monitor_is_escaped(words: list[str], tmp_path: Path) -> None:
    open_outbox(tmp_path / "outbox.db").close()
    head = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: " + str(len(PAGE)).encode() + b"\r\n\r\n"
    with answering(head + PAGE) as port:
        environ = {
            "HOME": str(tmp_path), "FASTMON_DB": str(tmp_path / "outbox.db"), "FASTMON_NAMESPACE": "ns",
            "SWF_MONITOR_URL": f"http://127.0.0.1:{port}", "ACTIVEMQ_PORT": "1",
        }  # fmt: skip
        shown = run(["-m", "fastmon_daemon", *words], env=environ, cwd=tmp_path, timeout=40)
    text = shown.stdout + shown.stderr
    assert "Gateway" in text
    assert not [character for character in text if not character.isprintable() and character != "\n"]
