"""A broker that runs, for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.testbed.stomp_broker.clients import World, running


@pytest.fixture
def world() -> Iterator[World]:
    with running() as world:
        yield world
