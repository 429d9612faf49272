"""The signals of the process."""

from __future__ import annotations

import signal

import pytest

from fastmon_daemon.service.process import SignalRequests, signals


def test_the_handlers_of_before_are_back_after_the_block() -> None:
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    woken: list[bool] = []
    requests = SignalRequests(lambda: woken.append(True))
    with signals(requests):
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGQUIT)
    assert (requests.to_stop, woken) == ("SIGTERM", [True])
    assert [signal.getsignal(number) for number in numbers] == before
