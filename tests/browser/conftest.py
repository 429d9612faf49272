"""One Chromium per test file. The tests run only with `-m browser` (`make test-browser`)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.client.client_process import Experiment

if TYPE_CHECKING:
    from tests.browser.browsing import Browser

HERE = Path(__file__).parent


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    """Without the marker, skip the import of selenium, which takes a second per worker."""
    return None if "browser" in config.option.markexpr else True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("browser")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    from tests.browser.browsing import browsing

    with browsing() as running:
        yield running


@pytest.fixture
def browser(chromium: Browser) -> Iterator[Browser]:
    """One empty page without console errors, also after each test."""
    chromium.console_errors()
    yield chromium
    for handle in chromium.driver.window_handles[1:]:
        chromium.driver.switch_to.window(handle)
        chromium.driver.close()
    chromium.driver.switch_to.window(chromium.driver.window_handles[0])
    chromium.run_script("try { localStorage.clear() } catch {}")
    chromium.driver.get("about:blank")


@pytest.fixture
def experiment() -> Iterator[Experiment]:
    with Experiment(per_stf=3, age_s=0.0, heartbeat_s=1.0) as running:
        yield running
