"""A running broker for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.testbed.stomp_broker.clients import BrokerRig, running_broker


@pytest.fixture
def rig() -> Iterator[BrokerRig]:
    with running_broker() as rig:
        yield rig
