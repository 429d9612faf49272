"""Another user of this host, who writes where the operator works."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.hostile.attack import Scene, attack

NOBODY = 65534


@pytest.fixture
def trap() -> Iterator[socket.socket]:
    """The port to which the attacker wants the token to be sent."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        listener.settimeout(0.1)
        yield listener


@attack(
    "a `.env` of another user in the working folder, with his port as the monitor; a FIFO called `.env`", target="both"
)
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_env_file_of_somebody_else_sends_no_token_to_his_port(scene: Scene, trap: socket.socket) -> None:
    url = f"http://127.0.0.1:{trap.getsockname()[1]}"
    env = scene.folder / ".env"
    calls = (("fastmon_daemon", "check"), ("fastmon_daemon", "run"), ("fastmon_client", "status"))
    answers = []
    env.write_text(f"SWF_MONITOR_URL={url}\n")
    os.chown(env, NOBODY, NOBODY)
    for program, command in calls:
        answers.append(scene.call(command, program=program, SWF_MONITOR_URL="", HOME=os.devnull))
    env.unlink()
    os.mkfifo(env)
    for program, command in calls:
        answers.append(scene.call(command, program=program, SWF_MONITOR_URL="", HOME=os.devnull))
    assert [each.returncode for each in answers] == [78] * 6
    assert all("belongs to user nobody" in each.stderr for each in answers[:3])
    assert all("not a regular file" in each.stderr for each in answers[3:])
    with pytest.raises(TimeoutError):
        trap.accept()
    scene.note = "exit code 78; nothing was sent"
