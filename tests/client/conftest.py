"""Configuration of the client's tests: they read no `~/.env` of the user who runs them."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", os.devnull)
