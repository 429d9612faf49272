"""Whoever may write into a watched folder."""

from __future__ import annotations

import itertools
import os
import threading
import time
from contextlib import suppress
from pathlib import Path

from tests.hostile.attack import Scene, attack
from tests.intake.test_continuous_mode import QUICK, file_of, names
from tests.processes import wait_until

SECONDS = 8.0
SPARSE = 200_000_000_000


def exchange(folder: Path, secret: Path, until: float) -> None:
    """A file, a FIFO, links to a secret and to the folder of it, under the same names, in turn."""
    for number in itertools.cycle(range(900, 904)):
        if time.monotonic() > until:
            return
        path, below = folder / file_of(number), folder / f"below {number}"
        with suppress(OSError):
            path.unlink()
        kind = (number + int(time.monotonic() * 2)) % 3
        with suppress(OSError):
            if kind == 0:
                path.write_bytes(b"data")
            elif kind == 1:
                os.mkfifo(path)
            else:
                path.symlink_to(secret)
        with suppress(OSError):
            below.unlink() if below.is_symlink() else below.rename(folder / f"{below.name} gone {time.monotonic_ns()}")
            below.symlink_to(secret.parent)
        threading.Event().wait(0.003)


def touch(folder: Path, until: float) -> None:
    """Events without end, and names that are no STF's."""
    for number in itertools.count():
        if time.monotonic() > until:
            return
        (folder / f"no-number-{'x' * 200}-{chr(97 + number % 26) * (1 + number // 26 % 20)}.stf").write_bytes(b"x")


@attack(
    "files exchanged with FIFOs and links to a secret, events without end, a sparse file of 200 GB, in a watched folder"
)
def test_writer_of_a_watched_folder_does_not_stop_the_daemon(scene: Scene) -> None:
    folder, outside = scene.folder / "watched", scene.folder / "outside"
    for each in (folder, outside):
        each.mkdir()
    secret = outside / file_of(1, run=6666)
    secret.write_bytes(b"nobody may register this")
    secret.chmod(0o600)
    daemon = scene.start("run", **QUICK, FASTMON_WATCH_DIRS=str(folder))
    wait_until(lambda: "for namespace ns" in scene.log(), "the daemon is up")
    with (folder / file_of(800)).open("wb") as sparse:
        sparse.truncate(SPARSE)
    until = time.monotonic() + SECONDS
    attackers = [
        threading.Thread(target=exchange, args=(folder, secret, until)),
        threading.Thread(target=touch, args=(folder, until)),
    ]
    good: list[str] = []

    def stfs() -> list[str]:
        return names(scene, "stf-files", "stf_filename")

    with scene.attacked(daemon, feed=False):
        for attacker in attackers:
            attacker.start()
        while time.monotonic() < until:
            good.append(file_of(len(good) + 1))
            (folder / good[-1]).write_bytes(b"a good one")
            threading.Event().wait(0.4)
        for attacker in attackers:
            attacker.join()
        wait_until(lambda: set(good) <= set(stfs()), "all good files are registered")
    assert file_of(800) in stfs()
    assert file_of(1, run=6666) not in stfs()
    assert secret.stat().st_size not in {row["file_size_bytes"] for row in scene.rows("stf-files")}
    scene.note = f"{len(good)} of {len(good)} good files were registered, the secret was not"


def test_hanging_file_system_is_known_to_inspect_and_to_health(scene: Scene) -> None:
    folder = scene.folder / "watched"
    folder.mkdir()
    (folder / file_of(1)).write_bytes(b"data")
    program = (
        "import threading; from pathlib import Path; from fastmon_daemon.intake import watcher;"
        "watcher.STALLED_AFTER_S = 1.0; real = Path.lstat;"
        "Path.lstat = lambda path: threading.Event().wait() if path.suffix == '.stf' else real(path);"
        "from fastmon_daemon.cli import main; main()"
    )
    scene.start("run", code=program, **QUICK, FASTMON_WATCH_DIRS=str(folder))
    wait_until(lambda: "for namespace ns" in scene.log(), "the daemon is up")
    wait_until(lambda: "intake stopped: watcher: no progress for" in scene.call("inspect").stdout, "inspect says so")
    assert scene.call("inspect").returncode == 1
    health = scene.rows("systemagents")
    wait_until(lambda: scene.rows("systemagents")[0]["status"] == "WARNING", f"the heart-beat says so: {health}")
