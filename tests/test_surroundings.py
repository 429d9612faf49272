"""The tests pass in any surroundings: a background job, or `nohup`, that ignores SIGINT; `make test` runs each once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def test_programs_of_a_test_do_not_ignore_sigint() -> None:
    program = "import signal; print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert found.stdout == "False\n"


@pytest.mark.field("27")
def test_sigint_is_restored_where_the_caller_of_pytest_ignores_it() -> None:
    test = f"{Path(__file__).relative_to(ROOT)}::{test_programs_of_a_test_do_not_ignore_sigint.__name__}"
    ran = subprocess.run(
        ["sh", "-c", "trap '' INT; exec \"$@\"", "sh", sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider",
         test], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert "1 passed" in ran.stdout, ran.stdout


def test_files_that_wait_are_found_by_what_they_start() -> None:
    """The others are all that `make test-waiting` does not name; without a name, it would run everything."""
    shown = subprocess.run(
        ["make", "-n", "test-waiting"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    ).stdout
    files = [word for word in shown.split() if word.startswith("tests/")]
    assert all((ROOT / file).is_file() for file in files)
    assert {"tests/service/test_daemon.py", "tests/client/test_live.py", "tests/broker/test_tls.py"} <= {*files}
    assert "tests/client/test_view.py" not in files
    folders = {file.split("/")[1] for file in files}
    assert not folders & {"bench", "browser", "deploy", "faults", "hostile", "packaging", "programs", "real_brokers"}
