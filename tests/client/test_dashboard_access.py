"""Access to the page: sessions that end, invalid tokens, tokens that could be guessed, a TLS proxy in front."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest
import requests
from loguru import logger

from fastmon_client.dashboard import auth
from fastmon_client.dashboard.auth import Access, DashboardToken, Guesses, Sessions, TooManyGuesses, token_bits
from fastmon_client.log_throttle import LogThrottle
from tests.client.dashboard_server import Served, served
from tests.client.snapshots import snapshot
from tests.processes import DEADLINE_S

TOKEN = "a-token-that-nobody-guesses"
PUBLIC = "dashboard.example"


@pytest.fixture
def log_lines() -> Iterator[list[str]]:
    lines: list[str] = []
    sink = logger.add(lambda text: lines.append(str(text)), format="{message}", level="WARNING")
    yield lines
    logger.remove(sink)


class Time:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def locked() -> Iterator[Served]:
    with served(snapshot, TOKEN) as running:
        yield running


def sign_in(where: Served, token: str = TOKEN, **headers: str) -> requests.Response:
    return requests.post(
        f"{where.url}/login", {"token": token}, timeout=DEADLINE_S, allow_redirects=False, headers=headers
    )


def cookie(answer: requests.Response) -> dict[str, str]:
    return {"Cookie": answer.headers["Set-Cookie"].split(";")[0]}


def status(where: Served, headers: dict[str, str]) -> int:
    return requests.get(where.url, timeout=DEADLINE_S, allow_redirects=False, headers=headers).status_code


def test_each_session_has_its_own_cookie(locked: Served) -> None:
    first, second = (cookie(sign_in(locked)) for _ in range(2))
    assert first != second
    assert [status(locked, each) for each in (first, second, {"Cookie": first["Cookie"][:-1]})] == [200, 200, 303]


def test_signing_out_ends_this_session_only_with_its_open_page(locked: Served) -> None:
    mine, others = (cookie(sign_in(locked)) for _ in range(2))
    with requests.get(f"{locked.url}/events", headers=mine, timeout=DEADLINE_S, stream=True) as page:
        lines = page.iter_lines()
        next(lines)
        answer = requests.post(f"{locked.url}/logout", headers=mine, timeout=DEADLINE_S, allow_redirects=False)
        assert (answer.status_code, answer.headers["Location"]) == (303, "login")
        assert "Max-Age=0" in answer.headers["Set-Cookie"]
        assert list(lines)[-1] == b""  # it ends
    assert [status(locked, each) for each in (mine, others)] == [303, 200]


def test_sign_out_button_is_there_only_with_a_token(locked: Served) -> None:
    page = requests.get(locked.url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=DEADLINE_S).text
    assert 'action="logout"' in page
    with served(snapshot) as without:
        assert "logout" not in requests.get(without.url, timeout=DEADLINE_S).text


def test_signing_out_without_a_session_does_nothing(locked: Served) -> None:
    assert requests.post(f"{locked.url}/logout", timeout=DEADLINE_S, allow_redirects=False).status_code == 303
    assert requests.get(f"{locked.url}/logout", timeout=DEADLINE_S, allow_redirects=False).status_code == 405


def test_session_ends_when_it_is_not_used() -> None:
    time = Time()
    sessions = Sessions(time)
    value = sessions.begin()
    for _ in range(3):
        time.now += auth.SESSION_IDLE_S
        assert sessions.is_open(value)
    time.now += auth.SESSION_IDLE_S + 1
    assert not sessions.is_open(value)


def test_session_ends_when_it_is_old() -> None:
    time = Time()
    sessions = Sessions(time)
    value = sessions.begin()
    while time.now - 1000.0 + 3600.0 <= auth.SESSION_MAX_S:
        time.now += 3600.0
        assert sessions.is_open(value)
    time.now += 3600.0
    assert not sessions.is_open(value)


def test_sessions_are_bounded_and_the_unused_end_first() -> None:
    sessions = Sessions()
    first, second = sessions.begin(), sessions.begin()
    assert sessions.is_open(first)
    for _ in range(auth.MAX_SESSIONS - 1):
        sessions.begin()
    assert (sessions.is_open(first), sessions.is_open(second)) == (True, False)


def test_guesses_are_limited_and_logged(locked: Served, log_lines: list[str]) -> None:
    session = cookie(sign_in(locked))
    codes = [sign_in(locked, f"wrong-{n}").status_code for n in range(auth.MAX_GUESSES + 5)]
    assert codes[: auth.MAX_GUESSES] == [403] * auth.MAX_GUESSES
    assert codes[-1] == 429
    answer = sign_in(locked)
    assert (answer.status_code, "Set-Cookie" in answer.headers) == (429, False)
    assert auth.TOO_MANY in answer.text
    bearer = requests.get(locked.url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=DEADLINE_S)
    assert (bearer.status_code, bearer.headers["Retry-After"]) == (429, "6")
    assert status(locked, session) == 200  # who is signed in stays so
    assert log_lines == ["dashboard: invalid token from 127.0.0.1\n"]


def test_guesses_of_programs_count_too() -> None:
    access = Access(DashboardToken(TOKEN), LogThrottle())
    for _ in range(auth.MAX_GUESSES):
        assert not access.allows({"authorization": "Bearer wrong"}, "192.0.2.1")
    with pytest.raises(TooManyGuesses):
        access.allows({"authorization": f"Bearer {TOKEN}"}, "192.0.2.1")
    assert access.allows({"authorization": f"Bearer {TOKEN}"}, "192.0.2.2")
    assert not access.allows({}, "192.0.2.1")


def test_guesses_come_back_and_are_bounded() -> None:
    time = Time()
    guesses = Guesses(LogThrottle(), time)
    for _ in range(auth.MAX_GUESSES):
        guesses.failed("2001:db8::1")
    assert [guesses.may(each) for each in ("2001:db8::2", "2001:db8:0:1::1", "192.0.2.1")] == [False, True, True]
    time.now += auth.GUESS_EVERY_S
    assert guesses.may("2001:db8::1")
    guesses.failed("2001:db8::1")
    assert not guesses.may("2001:db8::1")
    for n in range(5000):
        guesses.failed(f"198.51.{n // 250}.{n % 250}")
    assert guesses.may("2001:db8::1")  # forgotten: the table has an end


@pytest.mark.parametrize(
    "token",
    ["", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "1234567890123456", "abcdefghijklmnopqrstuvwxyz", "passwordpassword",
     "abababababababababababababab", "00000000-0000-0000-0000-000000000001"],
)  # fmt: skip
def test_token_that_could_be_guessed_is_recognized(token: str) -> None:
    assert token_bits(token) < auth.MIN_TOKEN_BITS


def test_random_tokens_are_long_enough() -> None:
    makers = (lambda: secrets.token_hex(20), lambda: secrets.token_hex(16), lambda: secrets.token_urlsafe(16))
    assert all(token_bits(make()) >= auth.MIN_TOKEN_BITS for make in makers for _ in range(300))
    assert token_bits(TOKEN) >= auth.MIN_TOKEN_BITS


def test_cookie_behind_a_proxy_is_for_https_only() -> None:
    with served(snapshot, TOKEN, public_host=PUBLIC) as behind:
        said = sign_in(behind, Host=PUBLIC).headers["Set-Cookie"]
    assert said.startswith(f"__Host-fastmon_dashboard_{behind.port}=")
    assert {"Secure", "HttpOnly", "SameSite=strict", "Path=/"} <= {each.strip() for each in said.split(";")}
    assert "Domain" not in said


@pytest.mark.parametrize(
    ("host", "code"),
    [(PUBLIC, 200), (f"{PUBLIC}:8443", 200), ("localhost", 200), ("evil.example", 421), ("10.0.0.1", 421)],
)
def test_page_behind_a_proxy_has_one_name(host: str, code: int) -> None:
    with served(snapshot, TOKEN, public_host=PUBLIC) as behind:
        assert status(behind, {"Host": host, "Authorization": f"Bearer {TOKEN}"}) == code


def test_proxy_tells_whose_guess_it_is(log_lines: list[str]) -> None:
    with served(snapshot, TOKEN, public_host=PUBLIC) as behind:
        for n in range(auth.MAX_GUESSES + 1):
            code = sign_in(behind, f"wrong-{n}", Host=PUBLIC, **{"X-Forwarded-For": "192.0.2.7"}).status_code
        assert code == 429
        assert sign_in(behind, Host=PUBLIC, **{"X-Forwarded-For": "192.0.2.8"}).status_code == 303
    assert log_lines == ["dashboard: invalid token from 192.0.2.7\n"]


def test_without_a_proxy_nobody_chooses_an_address(locked: Served) -> None:
    codes = [
        sign_in(locked, "wrong", **{"X-Forwarded-For": f"192.0.2.{n}"}).status_code for n in range(auth.MAX_GUESSES + 1)
    ]
    assert codes[-1] == 429
