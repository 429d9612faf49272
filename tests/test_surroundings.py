"""The tests themselves pass where SIGINT is ignored, as under nohup or in the background."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

OF_SIGINT = (
    "tests/client/test_cli.py::test_signal_stops_with_a_summary",
    "tests/inspection/test_inspector.py::test_watch_refreshes_until_ctrl_c_and_exits_with_the_code_of_the_last_view",
)


@pytest.mark.field("27")
def test_tests_of_sigint_pass_where_it_is_ignored() -> None:
    pytest_ = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *OF_SIGINT]
    done = subprocess.run(
        ["sh", "-c", "trap '' INT; exec \"$@\"", "sh", *pytest_], cwd=Path(__file__).parents[1],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
