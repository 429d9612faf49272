"""Programs of Debian that some tests need."""

from __future__ import annotations

import os
import shutil

import pytest

PACKAGES = {
    "curl": "curl", "fish": "fish", "man": "man-db", "mandoc": "mandoc", "prometheus": "prometheus",
    "promtool": "prometheus", "systemd-analyze": "systemd", "zsh": "zsh",
}  # fmt: skip
"""Program -> its package."""


def needs(program: str) -> pytest.MarkDecorator:
    """Skip a test if *program* is not on this machine; in the gate, which installs all, it fails instead."""
    is_missing = shutil.which(program) is None and "FASTMON_TEST_ALL" not in os.environ
    return pytest.mark.skipif(is_missing, reason=f"{program} is missing: apt-get install {PACKAGES[program]}")
