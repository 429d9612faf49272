"""What the settings name: monitor, proxy, token, broker, topic, certificates; and how invalid ones are refused."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import click
import pytest
from requests.utils import DEFAULT_CA_BUNDLE_PATH

from fastmon_client import trust
from fastmon_client.environment import Environment
from fastmon_client.monitor_session import AccessDenied
from fastmon_client.settings import broker_from, monitor_from, settings_with_sources, shifts_from, topic_from
from fastmon_client.trust import TrustStore

URL = "http://monitor.example:8002"
PROXY = "the proxy variable for the monitor is not a URL: use http://HOST:PORT, or unset it"


def refusal(call: Any) -> str:
    with pytest.raises(click.UsageError) as refused:
        call()
    return refused.value.message


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://ana@monitor", "contains a user, a password or a query: remove it"),
        ("http://monitor?token=x", "contains a user, a password or a query: remove it"),
        ("http://monitor#x", "contains a user, a password or a query: remove it"),
        ("ftp://monitor", "'ftp://monitor' is not an http:// or https:// URL"),
        ("monitor:8002", "'monitor:8002' is not an http:// or https:// URL"),
        ("http://:8002", "'http://:8002' is not an http:// or https:// URL"),
        ("http://monitor:99999", "Port out of range 0-65535: use http://HOST:PORT"),
        ("http://a..b", "use http://HOST:PORT"),
    ],
)
def test_an_invalid_url_is_refused(url: str, said: str) -> None:
    found = refusal(lambda: monitor_from(url, {}))
    assert found.startswith("--monitor-url (SWF_MONITOR_URL)")
    assert said in found


def test_the_url_is_that_of_the_option_then_of_the_variable_then_the_default() -> None:
    variables = {"SWF_MONITOR_URL": "http://other"}
    found = [monitor_from(*each).url for each in ((URL, variables), (None, variables), (None, {}))]
    assert found == [URL, "http://other", "http://localhost:8002"]


@pytest.mark.parametrize(
    ("proxy", "is_valid"),
    [("http://proxy:3128", True), ("proxy:3128", True), ("https://proxy", True), ("ftp://proxy", False),
     ("http://proxy:0", False), ("http://", False), ("http://proxy:x", False), ("http://a..b:1", False)],
)  # fmt: skip
def test_a_proxy_is_a_url_whose_value_is_not_shown(proxy: str, is_valid: bool) -> None:
    variables = {"http_proxy": proxy}
    if is_valid:
        assert monitor_from(URL, variables).proxies == {"http": proxy}
    else:
        assert refusal(lambda: monitor_from(URL, variables)) == PROXY


def test_a_socks_proxy_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastmon_client.settings.find_spec", lambda _name: None)
    assert "PySocks" in refusal(lambda: monitor_from(URL, {"all_proxy": "socks5h://proxy:1080"}))
    assert monitor_from(URL, {"http_proxy": "http://proxy:1080"}).proxies


@pytest.mark.parametrize("host", ["localhost", "a.localhost", "127.0.0.1", "127.9.9.9", "[::1]"])
def test_no_proxy_is_asked_for_this_host(host: str) -> None:
    assert monitor_from(f"http://{host}:8002", {"http_proxy": "http://proxy:1"}).proxies == {}


def test_proxies_of_lower_case_count_and_some_hosts_have_none() -> None:
    both = {"HTTP_PROXY": "http://upper:1", "http_proxy": "http://lower:1", "NO_PROXY": "other.example"}
    assert monitor_from(URL, both).proxies == {"http": "http://lower:1"}
    for name in ("no_proxy", "NO_PROXY"):
        assert monitor_from(URL, {"http_proxy": "http://proxy:1", name: "monitor.example"}).proxies == {}


# The token


@pytest.mark.parametrize(
    ("content", "token"), [(b"abc\n", "abc"), (b" abc ", "abc"), (b"", ""), (b"a\nb", None), ("ä".encode(), None)]
)
def test_the_token_of_a_file_is_read_for_each_request(tmp_path: Path, content: bytes, token: str | None) -> None:
    file = tmp_path / "token"
    monitor = monitor_from(URL, {"SWF_API_TOKEN_FILE": str(file)})
    with pytest.raises(AccessDenied) as missing:
        monitor.token()
    assert str(missing.value) == f"SWF_API_TOKEN_FILE={file}: No such file or directory: set a readable file"
    file.write_bytes(content)
    if token is None:
        with pytest.raises(
            AccessDenied, match=r"^SWF_API_TOKEN_FILE: the token contains a line break or another invalid"
        ):
            monitor.token()
    else:
        assert monitor.token() == token


def test_an_invalid_or_doubled_token_is_named_without_its_value(tmp_path: Path) -> None:
    with pytest.raises(AccessDenied, match=r"^SWF_API_TOKEN: the token contains a line break or another invalid"):
        monitor_from(URL, {"SWF_API_TOKEN": "a\x07b"}).token()
    assert monitor_from(URL, {}).token() == ""
    both = {"SWF_API_TOKEN": "hush", "SWF_API_TOKEN_FILE": "x"}
    said = "SWF_API_TOKEN (value not shown) and SWF_API_TOKEN_FILE are both set: unset one of them"
    assert refusal(lambda: monitor_from(URL, both)) == said
    assert refusal(lambda: settings_with_sources(None, Environment(both, None, None))) == said
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff")
    with pytest.raises(AccessDenied, match="not UTF-8 text: set a readable file"):
        monitor_from(URL, {"SWF_API_TOKEN_FILE": str(binary)}).token()


# Broker, topic, shifts


def test_topics_and_their_refusals() -> None:
    assert topic_from(" /topic/a ", {}) == "/topic/a"
    assert topic_from(None, {}) == "/topic/epictopic"
    assert topic_from(None, {"FASTMON_ANNOUNCE": "/queue/q, b"}) == "b"
    assert refusal(lambda: topic_from(" ", {})) == "--topic is empty: use /topic/NAME"
    said = "FASTMON_ANNOUNCE='/queue/q,' names no topic: use --topic /topic/NAME"
    assert refusal(lambda: topic_from(None, {"FASTMON_ANNOUNCE": "/queue/q,"})) == said


def test_an_invalid_broker_and_invalid_shifts_are_usage_errors() -> None:
    assert refusal(lambda: broker_from(None, {"ACTIVEMQ_PORT": "0"})) == (
        "invalid ACTIVEMQ_PORT=0: set a port from 1 to 65535"
    )
    assert refusal(lambda: shifts_from("x", None, {})).startswith("--shifts (FASTMON_SHIFTS), --zone (FASTMON_ZONE): ")
    assert shifts_from(None, None, {"FASTMON_SHIFTS": "a=09:00", "FASTMON_ZONE": "UTC"}).names == ("a",)
    assert shifts_from("b=09:00", "UTC", {"FASTMON_SHIFTS": "x", "FASTMON_ZONE": "x"}).zone_name == "UTC"


def test_each_setting_has_its_value_and_its_source(tmp_path: Path) -> None:
    plain = {name: (value, source) for name, value, source in settings_with_sources(None, Environment({}, None, None))}
    assert plain["SWF_MONITOR_URL"] == ("http://localhost:8002", "default")
    assert plain["ACTIVEMQ_USE_SSL"] == ("off", "default")
    assert plain["SWF_API_TOKEN"] == plain["ACTIVEMQ_USER"] == ("not set", "default")
    values = {"SWF_API_TOKEN_FILE": "/t", "MQ_PASSWD": "hush", "MQ_CAFILE": "/ca", "FASTMON_ANNOUNCE": "/topic/a"}
    found = settings_with_sources("http://m", Environment(values, None, None), "/topic/b")
    rows = {name: (value, source) for name, value, source in found}
    assert rows["SWF_MONITOR_URL"] == ("http://m", "--monitor-url")
    assert rows["SWF_API_TOKEN"] == ("in the file /t", "environment")
    assert rows["ACTIVEMQ_PASSWORD"] == ("set", "environment")
    assert rows["ACTIVEMQ_USE_SSL"] == ("on", "default")
    assert rows["ACTIVEMQ_SSL_CA_CERTS"] == ("/ca", "environment")
    assert rows["FASTMON_ANNOUNCE"] == ("/topic/b", "--topic")


# Certificates


def test_a_file_of_certificates_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    text = tmp_path / "ca.pem"
    text.write_text("no certificate")
    for path, why in ((text, "not a PEM file of certificates"), (tmp_path / "none", "No such file or directory")):
        said = f"FASTMON_MONITOR_CA={path}: {why}: set a readable PEM file"
        assert refusal(lambda path=path: monitor_from(URL, {"FASTMON_MONITOR_CA": str(path)})) == said
    (tmp_path / "folder").mkdir()
    assert monitor_from(URL, {"SSL_CERT_DIR": str(tmp_path / "folder")}).trust.name == "SSL_CERT_DIR"


def test_a_home_folder_that_there_is_not_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError

    monkeypatch.setattr(Path, "home", no_home)
    assert refusal(lambda: monitor_from(URL, {"FASTMON_MONITOR_CA": "~/ca.pem"})) == (
        "FASTMON_MONITOR_CA, SSL_CERT_FILE or SSL_CERT_DIR: ~/ca.pem: there is no home folder: set HOME, or use an "
        "absolute path"
    )


def test_certificates_are_those_of_the_system_else_of_certifi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which ones the system has, OpenSSL tells."""
    file, folder, empty = tmp_path / "file.pem", tmp_path / "folder", tmp_path / "empty"
    file.touch()
    folder.mkdir()
    empty.mkdir()
    (folder / "0a1b2c3d.0").touch()
    system = (str(file), "the system's CAs")
    certifi = (DEFAULT_CA_BUNDLE_PATH, "CAs of the Python package certifi")
    for of_file, of_folder, expected in (
        (file, folder, system), (tmp_path / "none", folder, (str(folder), "the system's CAs")),
        (tmp_path / "none", empty, certifi), ("", "", certifi), (folder, "", certifi),
    ):  # fmt: skip
        paths = ssl.DefaultVerifyPaths(None, None, "", str(of_file), "", str(of_folder))
        monkeypatch.setattr(trust.ssl, "get_default_verify_paths", lambda paths=paths: paths)
        found = TrustStore.of({})
        assert (found.path, found.name) == expected
    names = ("FASTMON_MONITOR_CA", "SSL_CERT_FILE", "SSL_CERT_DIR")
    assert [TrustStore.of(dict.fromkeys(names[n:], "/x")).name for n in range(3)] == list(names)
    assert str(TrustStore("/x", "y")) == "y: /x"
