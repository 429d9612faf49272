from __future__ import annotations

from pathlib import Path

import pytest

from tests.builders import FakeTestbed


@pytest.fixture
def testbed(tmp_path: Path) -> FakeTestbed:
    return FakeTestbed(tmp_path)
