"""Configuration of all tests."""

import importlib.util
import signal
from pathlib import Path
from types import ModuleType

import pytest


def pytest_configure() -> None:
    """Restore SIGINT: a background job ignores it, and so would the programs that the tests start and interrupt."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def generate() -> ModuleType:
    """The program that writes the generated documents."""
    spec = importlib.util.spec_from_file_location("generate", Path(__file__).parents[1] / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
