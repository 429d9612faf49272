"""Connections to names: several addresses, addresses that answer nothing, lookups that hang or fail."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from fastmon_daemon.base import network
from fastmon_daemon.base.network import connect, resolve

NAME = "broker.example.org"


@contextmanager
def silent_address(host: str = "127.0.0.1") -> Iterator[tuple[str, int]]:
    """An address that answers no SYN, as behind a firewall that drops packets: its backlog is full."""
    with ExitStack() as open_sockets:
        listening = open_sockets.enter_context(socket.socket())
        listening.bind((host, 0))
        listening.listen(0)
        for _ in range(4):
            waiting = open_sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield listening.getsockname()


@contextmanager
def accepting_address() -> Iterator[tuple[str, int]]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()


def refusing_address() -> tuple[str, int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()  # type: ignore[no-any-return]


@pytest.fixture
def name_has(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A function that gives `NAME` its addresses."""

    def give(*addresses: tuple[str, int]) -> None:
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", each) for each in addresses]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_: found)

    return give


@pytest.mark.field("14")
def test_a_name_of_which_two_of_three_addresses_answer_nothing_is_reached(name_has: Callable[..., None]) -> None:
    with silent_address() as first, silent_address() as second, accepting_address() as third:
        name_has(first, second, third)
        with connect(NAME, 1, 20.0) as connection:
            assert connection.getpeername() == third
            assert connection.gettimeout() == 20.0


def test_an_address_that_refuses_does_not_delay_the_next(
    name_has: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "ATTEMPT_DELAY_S", 1000.0)
    with accepting_address() as good:
        name_has(refusing_address(), refusing_address(), good)
        with connect(NAME, 1, 20.0) as connection:
            assert connection.getpeername() == good


def test_a_slow_address_is_used_if_all_others_refuse(name_has: Callable[..., None]) -> None:
    with socket.socket() as late:
        late.bind(("127.0.0.1", 0))
        name_has(late.getsockname(), refusing_address())
        late.listen(1)
        with connect(NAME, 1, 20.0) as connection:
            assert connection.getpeername() == late.getsockname()


def test_the_error_is_that_of_the_address(name_has: Callable[..., None]) -> None:
    name_has(refusing_address(), refusing_address())
    with pytest.raises(ConnectionRefusedError):
        connect(NAME, 1, 20.0)
    with silent_address() as silent:
        name_has(refusing_address(), silent)
        with pytest.raises(TimeoutError, match=r"no answer within 0\.3 s"):
            connect(NAME, 1, 0.3)


def test_the_families_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where IPv6 is configured and leads nowhere: three of its addresses come first."""
    tried = []

    def begin(address: Any, _options: object) -> socket.socket:
        tried.append(address[0])
        raise OSError("unreachable")

    six, four = (socket.AF_INET6, ("::1", 1, 0, 0)), (socket.AF_INET, ("127.0.0.1", 1))
    found = [(*each[:1], socket.SOCK_STREAM, 6, "", (*each[1], n)) for n in range(3) for each in (six,)]
    found += [(four[0], socket.SOCK_STREAM, 6, "", (*four[1], n)) for n in range(2)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: found)
    monkeypatch.setattr(network, "_begin", begin)
    with pytest.raises(OSError, match="unreachable"):
        connect(NAME, 1, 20.0)
    assert tried == [six[0], four[0], six[0], four[0], six[0]]


@pytest.mark.parametrize("host", ["::1", "[::1]", "localhost"])
def test_an_address_literal_and_a_name_are_reached(host: str) -> None:
    six = socket.has_dualstack_ipv6()
    address, family = (("::", 0), socket.AF_INET6) if six else (("127.0.0.1", 0), socket.AF_INET)
    with (
        socket.create_server(address, family=family, dualstack_ipv6=six) as listening,
        connect(host, listening.getsockname()[1], 20.0) as connection,
    ):
        assert connection.getpeername()[1] == listening.getsockname()[1]


@pytest.mark.field("15")
@pytest.mark.parametrize("host", ["a..b", "x" * 70, "x" * 70 + ".example.org", "\udcff.example.org"])
def test_a_name_that_idna_refuses_is_an_error_of_the_lookup(host: str) -> None:
    with pytest.raises(socket.gaierror, match="not a valid host name"):
        connect(host, 1, 20.0)


@pytest.mark.field("14", "27b")
def test_a_lookup_that_hangs_ends_in_time_and_keeps_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    answer, lookups = threading.Event(), []
    here = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 7))]

    def hang(host: str, *_: object) -> Any:
        lookups.append(host)
        answer.wait()
        return here

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    before = threading.active_count()
    for _ in range(10):
        with pytest.raises(TimeoutError, match=f"the lookup of {NAME} took longer than"):
            connect(NAME, 1, 0.01)
    assert lookups == [NAME]
    assert threading.active_count() == before + 1
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(resolve, NAME, 1, 20.0) for _ in range(2)]
        answer.set()
        assert [each.result(20) for each in waiting] == [[(socket.AF_INET, ("127.0.0.1", 7))]] * 2
    end = time.monotonic() + 20
    while threading.active_count() > before:
        assert time.monotonic() < end
        time.sleep(0.01)
    resolve(NAME, 1, 20.0)
    assert len(lookups) > 1, "an answer is not kept: the address may change"


def test_a_failed_lookup_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> Any:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    for _ in range(2):
        with pytest.raises(socket.gaierror, match="Temporary failure"):
            resolve(NAME, 1, 20.0)
