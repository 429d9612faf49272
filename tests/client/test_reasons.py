"""The settings with their sources, the broker, proxies and token that they name; and reasons, word by word."""

from __future__ import annotations

import socket
import ssl
from http.client import BadStatusLine, HTTPException, IncompleteRead, LineTooLong, RemoteDisconnected
from pathlib import Path
from typing import Any

import click
import pytest
import requests
from tenacity import RetryCallState
from urllib3.exceptions import DecodeError, ReadTimeoutError

from fastmon_client.broker_config import BrokerConfig
from fastmon_client.environment import Environment, from_home, lookup, secret_source
from fastmon_client.files import MAX_BYTES, exposed, read_error, read_text, trust_problem
from fastmon_client.monitor_session import AccessDenied, MonitorSession
from fastmon_client.reasons import SlowResponse, causes_of, certificate_hint, reason_of
from fastmon_client.retrying import ConnectionEnded, reconnect
from fastmon_client.settings import (
    DEFAULT_SHIFTS,
    monitor_from,
    proxies_for,
    settings_with_sources,
    shifts_from,
    topic_from,
)

URL = "http://monitor.example:8002"


def environment(**variables: str) -> Environment:
    return Environment(variables, None, None)


def rows(*names: str, url: str | None = None, topic: str | None = None, **variables: str) -> dict[str, tuple[str, str]]:
    found = settings_with_sources(url, environment(**variables), topic)
    return {name: (value, source) for name, value, source in found if name in names or not names}


def test_every_setting_has_its_default() -> None:
    found = rows()
    trusted, name = found.pop("trusted CAs")
    assert Path(trusted).exists()
    assert name in ("the system's CAs", "CAs of the Python package certifi")
    assert found == {key: (value, "default") for key, value in {
        "SWF_MONITOR_URL": "http://localhost:8002", "SWF_API_TOKEN": "not set", "FASTMON_MONITOR_CA": "not set",
        "FASTMON_ANNOUNCE": "/topic/epictopic", "ACTIVEMQ_HOST": "localhost", "ACTIVEMQ_PORT": "61612",
        "ACTIVEMQ_USER": "not set", "ACTIVEMQ_PASSWORD": "not set", "ACTIVEMQ_USE_SSL": "off",
        "ACTIVEMQ_SSL_CA_CERTS": "not set", "ACTIVEMQ_SSL_CERT_FILE": "not set", "ACTIVEMQ_SSL_KEY_FILE": "not set",
        "FASTMON_DASHBOARD_TOKEN": "not set", "FASTMON_SHIFTS": DEFAULT_SHIFTS, "FASTMON_ZONE": "that of the system",
    }.items()}  # fmt: skip


def test_every_setting_has_its_value_and_no_secret_is_shown() -> None:
    names = ("SWF_MONITOR_URL", "SWF_API_TOKEN", "ACTIVEMQ_PASSWORD", "ACTIVEMQ_USER", "ACTIVEMQ_USE_SSL",
             "ACTIVEMQ_SSL_CA_CERTS", "FASTMON_ANNOUNCE")  # fmt: skip
    given = {"SWF_API_TOKEN_FILE": "/secret", "MQ_PASSWD": "hush", "MQ_USER": "me", "MQ_CAFILE": "/ca.pem"}
    assert rows(*names, url=URL, topic="/topic/x", **given) == {
        "SWF_MONITOR_URL": (URL, "--monitor-url"), "SWF_API_TOKEN": ("in the file /secret", "environment"),
        "ACTIVEMQ_PASSWORD": ("set", "environment"), "ACTIVEMQ_USER": ("me", "environment"),
        "ACTIVEMQ_USE_SSL": ("on", "default"), "ACTIVEMQ_SSL_CA_CERTS": ("/ca.pem", "environment"),
        "FASTMON_ANNOUNCE": ("/topic/x", "--topic"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("values", "expected"),
    [({}, None), ({"A": "1"}, "1"), ({"B": "2"}, "2"), ({"A": "", "B": "2"}, "2"), ({"A": "1", "B": "1"}, "1")],
)
def test_a_setting_has_an_alias(values: dict[str, str], expected: str | None) -> None:
    assert lookup(values, "A", "B") == expected


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"A": "1", "B": "2"}, "A and its alias B differ: unset one of them"),
        ({"A": "1", "A_FILE": "2"}, "A (value not shown) and A_FILE are both set: unset one of them"),
        ({"B": "1", "B_FILE": "2"}, "B (value not shown) and B_FILE are both set: unset one of them"),
        ({"A": "1", "B_FILE": "2"}, "A (value not shown) and a file for it are both set: unset one of them"),
        ({"A_FILE": "1", "B_FILE": "2"}, "A_FILE='1' and its alias B_FILE='2' differ: unset one of them"),
    ],
)
def test_a_secret_that_is_set_twice_is_an_error_that_does_not_show_it(values: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match="unset one") as refusal:
        secret_source(values, "A", "B")
    assert str(refusal.value) == said


def test_a_secret_is_text_or_a_file() -> None:
    assert secret_source({}, "A", "B") == (None, None)
    assert secret_source({"B": "1"}, "A", "B") == ("1", None)
    assert secret_source({"B_FILE": "~/x"}, "A", "B") == (None, Path.home() / "x")
    assert (from_home("~"), from_home("/a/~"), from_home("~x/y")) == (Path.home(), Path("/a/~"), Path("~x/y"))


def test_the_topic_is_that_of_the_option_or_the_first_that_is_announced() -> None:
    assert topic_from(" /topic/x ", {}) == "/topic/x"
    assert topic_from(None, {"FASTMON_ANNOUNCE": " /queue/a ,, /topic/b ,/topic/c"}) == "/topic/b"
    for topic, variables, said in (
        (" ", {}, "--topic is empty: use /topic/NAME"),
        (None, {"FASTMON_ANNOUNCE": "/queue/a"}, "FASTMON_ANNOUNCE='/queue/a' names no topic: use --topic /topic/NAME"),
    ):
        with pytest.raises(click.UsageError) as refusal:
            topic_from(topic, variables)
        assert refusal.value.message == said


def test_the_option_comes_before_the_variable() -> None:
    variables = {"FASTMON_SHIFTS": "a=01:00", "FASTMON_ZONE": "Europe/Berlin", "SWF_MONITOR_URL": "http://a"}
    assert [shifts_from(*each, variables).names for each in ((None, None), ("b=02:00", None))] == [("a",), ("b",)]
    assert [shifts_from(None, each, variables).zone_name for each in (None, "UTC")] == ["Europe/Berlin", "UTC"]
    assert [monitor_from(each, variables).url for each in (None, "http://b")] == ["http://a", "http://b"]
    assert monitor_from(None, {}).url == "http://localhost:8002"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://me:hush@m", "contains a user, a password or a query: remove it"),
        ("http://m?hush", "contains a user, a password or a query: remove it"),
        ("http://m#hush", "contains a user, a password or a query: remove it"),
        ("ftp://m", ": 'ftp://m' is not an http:// or https:// URL"), ("m", ": 'm' is not an http:// or https:// URL"),
        ("http://", ": 'http://' is not an http:// or https:// URL"),
        ("http://m:x", ": Port could not be cast to integer value as 'x': use http://HOST:PORT"),
    ],
)  # fmt: skip
def test_a_url_that_cannot_be_used_is_named(url: str, said: str) -> None:
    with pytest.raises(click.UsageError) as refusal:
        monitor_from(url, {})
    assert refusal.value.message == f"--monitor-url (SWF_MONITOR_URL){'' if said[0] == ':' else ' '}{said}"
    assert "hush" not in refusal.value.message


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, {}), ({"HTTP_PROXY": "http://a"}, {"http": "http://a"}),
        ({"HTTP_PROXY": "http://a", "http_proxy": "http://b", "ALL_PROXY": "http://c"},
         {"http": "http://b", "all": "http://c"}),
        ({"http_proxy": "http://b", "NO_PROXY": "monitor.example"}, {}),
        ({"http_proxy": "http://b", "no_proxy": "other", "NO_PROXY": "monitor.example"}, {"http": "http://b"}),
    ],
)  # fmt: skip
def test_proxies_are_those_of_the_variables(variables: dict[str, str], expected: dict[str, str]) -> None:
    assert proxies_for(URL, variables) == expected
    assert dict(monitor_from(URL, variables).proxies) == expected


@pytest.mark.parametrize("host", ["localhost", "a.localhost", "127.0.0.2", "[::1]"])
def test_this_host_is_reached_without_a_proxy(host: str) -> None:
    assert dict(monitor_from(f"http://{host}:8002", {"http_proxy": "http://b"}).proxies) == {}


@pytest.mark.parametrize("proxy", ["http://b:0", "http://", "ftp://b", "http://b..c", "http://b:x", "b c"])
def test_a_proxy_that_cannot_be_used_is_named_and_not_shown(proxy: str) -> None:
    with pytest.raises(click.UsageError) as refusal:
        monitor_from(URL, {"http_proxy": proxy})
    assert refusal.value.message == (
        "the proxy variable for the monitor is not a URL: use http://HOST:PORT, or unset it"
    )
    assert monitor_from(URL, {"http_proxy": "b:3128"}).proxies == {"http": "b:3128"}


def test_the_token_is_read_for_each_request_and_never_shown(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(" first \n")
    token = monitor_from(URL, {"SWF_API_TOKEN_FILE": str(file)}).token
    assert token() == "first"
    file.write_text("second")
    assert token() == "second"
    assert (monitor_from(URL, {}).token(), monitor_from(URL, {"SWF_API_TOKEN": " x "}).token()) == ("", "x")
    file.write_text("hu\nsh")
    fixed = monitor_from(URL, {"SWF_API_TOKEN": "hü"}).token
    for refused, name in ((token, "SWF_API_TOKEN_FILE"), (fixed, "SWF_API_TOKEN")):
        with pytest.raises(AccessDenied) as denied:
            refused()
        assert str(denied.value) == f"{name}: the token contains a line break or another invalid character"
    file.write_bytes(b"\xff")
    with pytest.raises(AccessDenied) as denied:
        token()
    assert str(denied.value) == f"SWF_API_TOKEN_FILE={file}: not UTF-8 text: set a readable file"


# The broker


def test_the_broker_has_its_defaults_and_its_variables(tmp_path: Path) -> None:
    found = BrokerConfig.of({"ACTIVEMQ_HOST": ""}, "/topic/x")
    assert (found.host, found.port, found.topic, found.user, found.password()) == (
        "localhost", 61612, "/topic/x", "", "",
    )  # fmt: skip
    assert (found.use_tls, found.ca, found.cert, found.key) == (False, None, None, None)
    assert found.tls() is None
    (tmp_path / "password").write_text("hush\n")
    found = BrokerConfig.of({
        "ACTIVEMQ_HOST": "::1", "ACTIVEMQ_PORT": "65535", "MQ_USER": "me", "MQ_CAFILE": "~/ca.pem",
        "ACTIVEMQ_PASSWORD_FILE": str(tmp_path / "password"), "ACTIVEMQ_SSL_CERT_FILE": "~/cert.pem",
        "ACTIVEMQ_SSL_KEY_FILE": "/key.pem",
    }, "/topic/x")  # fmt: skip
    assert (found.host, found.port, found.user, found.password(), found.url) == (
        "::1", 65535, "me", "hush", "stomp://[::1]:65535/topic/x",
    )  # fmt: skip
    home = Path.home()
    assert (found.use_tls, found.ca, found.cert, found.key) == (
        True, str(home / "ca.pem"), str(home / "cert.pem"), "/key.pem",
    )  # fmt: skip
    assert BrokerConfig.of({"ACTIVEMQ_PASSWORD": "x"}, "t").password() == "x"


@pytest.mark.parametrize(
    ("setting", "use_tls"), [("True", True), ("on", True), ("1", True), ("yes", True), ("False", False), ("off", False),
                             ("0", False), ("no", False)],
)  # fmt: skip
def test_tls_to_the_broker_is_on_or_off(setting: str, use_tls: bool) -> None:
    assert BrokerConfig.of({"ACTIVEMQ_USE_SSL": setting, "MQ_CAFILE": "/ca"}, "t").use_tls is use_tls


@pytest.mark.parametrize("port", ["0", "65536", "", "-1", "6161²", "x"])
def test_a_port_is_from_1_to_65535(port: str) -> None:
    if not port:
        assert BrokerConfig.of({"ACTIVEMQ_PORT": port}, "t").port == 61612
        return
    with pytest.raises(ValueError, match=rf"^invalid ACTIVEMQ_PORT={port}: set a port from 1 to 65535$"):
        BrokerConfig.of({"ACTIVEMQ_PORT": port}, "t")


# Files


def test_a_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * MAX_BYTES)
    assert len(read_text(file)) == MAX_BYTES == 1024 * 1024
    file.write_bytes(b"x" * (MAX_BYTES + 1))
    with pytest.raises(OSError, match="more than 1048576 bytes"):
        read_text(file)
    with pytest.raises(OSError, match="not a regular file"):
        read_text(tmp_path)


def test_what_others_can_read_or_write_is_told(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    said = {}
    for mode in (0o600, 0o640, 0o604, 0o602):
        file.chmod(mode)
        said[mode] = exposed(file), trust_problem(file, file.stat())
    readable = f"{file}: contains a secret that other users can read: chmod o-rwx {file}"
    writable = f"other users can write it: check its content, then chmod go-w {file}"
    assert said == {0o600: (None, None), 0o640: (None, None), 0o604: (readable, None), 0o602: (None, writable)}
    assert exposed(tmp_path / "absent") is None


def test_why_a_file_cannot_be_read() -> None:
    assert [read_error(error) for error in (
        FileNotFoundError(2, "No such file"), OSError(), UnicodeDecodeError("utf-8", b"x", 0, 1, "y"), ValueError("z"),
    )] == ["No such file", "input/output error", "not UTF-8 text", "z"]  # fmt: skip


# Reasons


def tls_error(kind: type[ssl.SSLError] = ssl.SSLError, **fields: Any) -> ssl.SSLError:
    error = kind(1, "text")
    for name, value in fields.items():
        setattr(error, name, value)
    return error


def raised(error: BaseException, *causes: BaseException) -> BaseException:
    last = error
    for cause in causes:
        last.__cause__ = cause
        last = cause
    return error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (raised(OSError("x"), IncompleteRead(b"")), "cut"),
        (raised(OSError("x"), SlowResponse()), "the response of the peer was not complete in time"),
        (ReadTimeoutError(None, "u", "x"), "no data from the peer in time"),  # type: ignore[arg-type]
        (DecodeError("x"), "the peer sent compressed data that cannot be read"),
        (requests.exceptions.ContentDecodingError("x"), "the peer sent compressed data that cannot be read"),
        (RemoteDisconnected("x"), "the peer closed the connection"),
        (BadStatusLine("\x15\x03\x01"), "the peer uses TLS: write https:// in SWF_MONITOR_URL"),
        (BadStatusLine("\x16\x03\x01"), "the peer uses TLS: write https:// in SWF_MONITOR_URL"),
        (BadStatusLine("SSH-2.0"), "the peer does not answer in HTTP"),
        (LineTooLong("x"), "the peer sent an invalid response (LineTooLong)"),
        (HTTPException("x"), "the peer sent an invalid response (HTTPException)"),
        (raised(requests.ConnectionError("x"), ConnectionRefusedError(111, "Connection refused")),
         "connection refused"),
        (socket.gaierror(-2, "Name or service not known"), "name or service not known"),
        (OSError("only text"), "only text"), (OSError(), "OSError"),
        (TimeoutError("_ssl.c:989: The handshake operation timed out"),
         "the peer did not answer the TLS handshake: if it does not use TLS, do so"),
        (TimeoutError("timed out"), "timed out"), (ValueError("a handshake"), "a handshake"),
        (tls_error(reason="WRONG_VERSION_NUMBER"), "the peer does not use TLS: do so"),
        (tls_error(reason="HTTP_REQUEST"), "the peer does not use TLS: do so"),
        (tls_error(reason="TLSV1_ALERT_UNKNOWN_CA"), "TLS with the peer failed (tlsv1 alert unknown ca)"),
        (tls_error(reason=None), "TLS with the peer failed (unknown reason)"),
        (tls_error(ssl.SSLEOFError, reason="UNEXPECTED_EOF"), "the peer closed the connection"),
        (tls_error(ssl.SSLZeroReturnError, reason=None), "the peer closed the connection"),
        (tls_error(ssl.SSLCertVerificationError, verify_message="self-signed", verify_code=18),
         "certificate of the peer is not trusted (self-signed)"),
    ],
)  # fmt: skip
def test_every_word_of_a_reason(error: BaseException, reason: str) -> None:
    assert reason_of(error, "the peer", plain="do so", cut="cut") == reason


def test_the_monitor_is_the_peer_unless_another_is_named() -> None:
    assert reason_of(RemoteDisconnected("x")) == "the monitor closed the connection"
    assert reason_of(IncompleteRead(b"")) == "the response was cut short"
    assert reason_of(tls_error(reason="HTTP_REQUEST")).endswith(": write http:// in SWF_MONITOR_URL")


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        (62, "set SWF_MONITOR_URL to a host name in the monitor's certificate"),
        (64, "set SWF_MONITOR_URL to a host name in the monitor's certificate"),
        (9, "check the clock of this host, and ask for a new certificate of the monitor"),
        (10, "check the clock of this host, and ask for a new certificate of the monitor"),
        (18, "set FASTMON_MONITOR_CA to the PEM file of the monitor's CA"),
    ],
)
def test_what_to_do_about_a_certificate(code: int, hint: str) -> None:
    error = raised(OSError("x"), tls_error(ssl.SSLCertVerificationError, verify_code=code))
    assert certificate_hint(error) == hint
    assert certificate_hint(OSError("x")) is None


def test_each_cause_is_told_once() -> None:
    first, second, third = OSError("1"), ValueError("2"), KeyError("3")
    raised(first, second, third, first)
    assert list(causes_of(first)) == [first, second, third]
    hidden = TypeError("x")
    hidden.__context__ = second
    assert list(causes_of(hidden)) == [hidden, second, third, first]
    hidden.__suppress_context__ = True
    assert list(causes_of(hidden)) == [hidden]


def test_the_operator_is_told_what_is_wrong() -> None:
    session = MonitorSession(url=URL, token=str)
    denied = AccessDenied("x")
    assert session.denial(denied) is denied
    assert session.denial(requests.ConnectionError("x")) is None
    for error in (requests.exceptions.InvalidURL("x"), requests.exceptions.InvalidSchema("x")):
        found = session.denial(error)
        assert str(found) == f"invalid URL: --monitor-url (SWF_MONITOR_URL) {URL}, or a proxy variable"


@pytest.mark.parametrize(
    ("attempt", "server_s", "jitter", "pause_s"),
    [
        (1, 0, 0.0, 1.0), (1, 0, 1.0, 2.0), (2, 0, 1.0, 4.0), (4, 0, 0.5, 8.5), (9, 0, 1.0, 30.0), (1, 7, 0.0, 7.0),
        (1, 7, 1.0, 8.0), (1, 300, 0.0, 300.0), (1, 301, 0.0, 300.0),
    ],
)  # fmt: skip
def test_pauses_grow_and_respect_the_server(attempt: int, server_s: float, jitter: float, pause_s: float) -> None:
    policy = reconnect(1.0, lambda: jitter)
    state = RetryCallState(policy, fn=None, args=(), kwargs={})
    state.attempt_number = attempt
    error = ConnectionEnded("x", server_s)
    state.set_exception((ConnectionEnded, error, None))
    assert policy.wait(state) == pause_s
