"""Configuration of all tests."""

import gc
import importlib.util
import logging
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from loguru import logger

settings.register_profile("busy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy machine")

_connect = sqlite3.connect
_opened: list[sqlite3.Connection] = []


def pytest_configure() -> None:
    """Restore the signals that a background job or nohup ignores: the programs that the tests start would, too."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for ignored in (signal.SIGQUIT, signal.SIGHUP):
        if signal.getsignal(ignored) is signal.SIG_IGN:
            signal.signal(ignored, signal.SIG_DFL)
    sqlite3.connect = _recorded  # type: ignore[assignment]
    gc.set_threshold(50_000)  # each collection looks at thousands of tests


def pytest_collection_finish() -> None:
    """No collection of garbage looks again at the modules and the thousands of tests."""
    gc.collect()
    gc.freeze()


def _recorded(*args: Any, **kwargs: Any) -> sqlite3.Connection:
    connection = _connect(*args, **kwargs)
    _opened.append(connection)
    return connection


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown() -> Iterator[None]:
    """Close the connections that a test left open: since Python 3.13 each is a ResourceWarning."""
    result = yield
    while _opened:
        with suppress(sqlite3.ProgrammingError):  # it belongs to a thread that has ended
            _opened.pop().close()
    return result


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    """Restore how libraries log, and how often: a test that configures our log would change what later ones see."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    logger.configure(patcher=lambda _: None)  # no throttle


@pytest.fixture(scope="session")
def generate() -> ModuleType:
    """The program that writes the generated documents."""
    spec = importlib.util.spec_from_file_location("generate", Path(__file__).parents[1] / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
