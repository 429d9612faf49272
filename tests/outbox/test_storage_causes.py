"""Why the database cannot be used, and the remedy for each cause."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from fastmon_daemon.base.errors import StorageUnavailable
from fastmon_daemon.outbox import Outbox, attach, open_outbox
from fastmon_daemon.outbox.database import connect
from tests.preloaded import run

SHIFTER = """
import os, sys
import fastmon_daemon.cli, fastmon_daemon.commands.inspect, fastmon_daemon.commands.run, rich.console, unicodedata
sys.argv = ["fastmon-daemon", *sys.argv[1:]]
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
fastmon_daemon.cli.main()
"""


@pytest.fixture
def database(tmp_path: Path) -> Path:
    open_outbox(tmp_path / "outbox.db").close()
    return tmp_path / "outbox.db"


@pytest.fixture
def holder(database: Path) -> Iterator[subprocess.Popen[str]]:
    """Another program, within a transaction for writing."""
    script = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "c.execute('begin immediate'); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(database)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def failure(outbox: Outbox) -> str:
    with pytest.raises(StorageUnavailable) as caught, outbox.transaction():
        outbox.remember("a", "b")
    outbox.close()
    return str(caught.value)


@pytest.mark.field("19")
def test_the_program_that_holds_the_database_is_named(database: Path, holder: subprocess.Popen[str]) -> None:
    db = connect(database)
    db.execute("pragma busy_timeout = 0")
    message = failure(Outbox(db))
    assert f"held by another program (database is locked): process {holder.pid} (" in message
    assert "make room" not in message


@pytest.mark.field("19")
def test_a_removed_file_is_said_to_be_removed(database: Path) -> None:
    database.unlink()
    with pytest.raises(StorageUnavailable, match="the file was removed: stop the daemon, and restore") as caught:
        attach(database)
    assert "make room" not in str(caught.value)


@pytest.mark.field("19")
@pytest.mark.parametrize("command", [["inspect"], ["run", "--once"]])
def test_too_few_descriptors_are_named_with_their_limit(database: Path, command: list[str]) -> None:
    result = subprocess.run(
        ["sh", "-c", 'ulimit -n 5; exec "$@"', "sh", sys.executable, "-m", "fastmon_daemon", *command],
        env={"PATH": os.environ["PATH"], "FASTMON_DB": str(database), "HOME": str(database.parent),
             "FASTMON_NAMESPACE": "ns", "SWF_MONITOR_URL": "http://127.0.0.1:1", "ACTIVEMQ_PORT": "1"},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert result.returncode == 75
    assert "raise the limit of 5 (ulimit -n; LimitNOFILE= of a unit)" in result.stderr
    assert "make room" not in result.stderr


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that all users may search, as pytest's own are not."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.field("19")
@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("hide", ["folder", "file"])
@pytest.mark.parametrize("command", [["inspect"], ["run", "--once"]])
def test_another_user_learns_what_to_type(public: Path, hide: str, command: list[str]) -> None:
    database = public / "state" / "outbox.db"
    open_outbox(database).close()
    database.parent.chmod(0o700 if hide == "folder" else 0o755)
    environ = {"PATH": os.environ["PATH"], "FASTMON_DB": str(database), "FASTMON_NAMESPACE": "ns"}
    result = run(["-c", SHIFTER, *command], cwd=Path("/"), timeout=60, env=environ)
    assert result.returncode == 3, result.stderr
    (line,) = result.stderr.strip().splitlines()[-1:]
    assert line.startswith(f"fastmon-daemon: {database}")
    assert "belongs to root: type sudo -u root before the command" in line
    assert "Traceback" not in result.stderr


@pytest.mark.field("27c")
def test_a_large_log_is_emptied_when_its_reader_has_gone_and_no_reader_is_waited_for(database: Path) -> None:
    log = database.with_name("outbox.db-wal")
    with_reader = connect(database)
    outbox = open_outbox(database)
    with_reader.execute("begin")
    with_reader.execute("select count(*) from stf").fetchone()
    for number in range(300):
        with outbox.transaction():
            outbox.remember("large", f"{number:03}" * 15_000)
    outbox.truncate_log()  # would wait for ever
    large = log.stat().st_size
    assert large > 10_000_000
    with_reader.execute("commit")
    with_reader.close()
    outbox.truncate_log()
    assert log.stat().st_size == 0
    assert outbox.recall("large") == "299" * 15_000
    outbox.close()
