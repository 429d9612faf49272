"""The monitor, the broker and the topic that the settings name, and where each setting comes from."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from ipaddress import ip_address
from urllib.parse import urlsplit

import click
from requests.utils import select_proxy, should_bypass_proxies

from fastmon_client.addresses import checked_host
from fastmon_client.broker_config import BrokerConfig
from fastmon_client.environment import Environment, lookup, secret_source
from fastmon_client.files import read_error, read_text
from fastmon_client.monitor_session import AccessDenied, MonitorSession
from fastmon_client.shifts import DEFAULT_SHIFTS, Shifts
from fastmon_client.trust import TrustStore

DEFAULT_URL = "http://localhost:8002"
DEFAULT_TOPIC = "/topic/epictopic"
"""Also the daemon's default of FASTMON_ANNOUNCE; tests/client/test_environment.py compares them."""

_PROXY_SCHEMES = ("http", "https", "socks4", "socks4a", "socks5", "socks5h")
_URL_SETTING = "--monitor-url (SWF_MONITOR_URL)"


def monitor_from(url: str | None, variables: Mapping[str, str]) -> MonitorSession:
    """The monitor of the option, or else of the *variables*.

    Raises: click.UsageError, without secrets, if a setting is invalid.
    """
    url = url or variables.get("SWF_MONITOR_URL") or DEFAULT_URL
    host = _host_of(url)
    trust = _trust_store(variables)
    proxies = {} if _is_loopback(host) else proxies_for(url, variables)
    _check_proxy(select_proxy(url, proxies))
    return MonitorSession(url=url, token=_token(variables), trust=trust, proxies=proxies)


def topic_from(topic: str | None, variables: Mapping[str, str]) -> str:
    """The topic of the option, else the first of FASTMON_ANNOUNCE, else `/topic/epictopic`.

    Raises: click.UsageError if there is none: a subscription to a queue would take its messages from others.
    """
    if topic is not None:
        if not topic.strip():
            raise click.UsageError("--topic is empty: use /topic/NAME")
        return topic.strip()
    announced = [each.strip() for each in variables.get("FASTMON_ANNOUNCE", DEFAULT_TOPIC).split(",") if each.strip()]
    topics = [each for each in announced if not each.startswith("/queue/")]
    if not topics:
        raise click.UsageError(
            f"FASTMON_ANNOUNCE={variables['FASTMON_ANNOUNCE']!r} names no topic: use --topic /topic/NAME"
        )
    return topics[0]


def broker_from(topic: str | None, variables: Mapping[str, str]) -> BrokerConfig:
    """The broker of the *variables*, with the topic of `topic_from`.

    Raises: click.UsageError if a setting is invalid.
    """
    try:
        return BrokerConfig.of(variables, topic_from(topic, variables))
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc


def shifts_from(shifts: str | None, zone: str | None, variables: Mapping[str, str]) -> Shifts:
    """The shifts and the time zone of the options, or else of the *variables*.

    Raises: click.UsageError if one of them is invalid.
    """
    try:
        return Shifts.parse(shifts or variables.get("FASTMON_SHIFTS", ""), zone or variables.get("FASTMON_ZONE", ""))
    except ValueError as exc:
        raise click.UsageError(f"--shifts (FASTMON_SHIFTS), --zone (FASTMON_ZONE): {exc}") from exc


def proxies_for(url: str, variables: Mapping[str, str]) -> dict[str, str]:
    """The proxies for *url* by the rules of requests, which itself reads the environment only."""
    if should_bypass_proxies(url, no_proxy=variables.get("no_proxy") or variables.get("NO_PROXY") or ""):
        return {}
    lower_last = sorted(variables, key=str.islower)
    named = {name.lower(): variables[name] for name in lower_last if name.lower().endswith("_proxy")}
    return {name.removesuffix("_proxy"): proxy for name, proxy in named.items() if name != "no_proxy"}


def settings_with_sources(
    url: str | None, environment: Environment, topic: str | None = None
) -> list[tuple[str, str, str]]:
    """Name, value (without secrets) and source of each setting.

    Raises: click.UsageError if a setting is invalid.
    """
    values, source = environment.values, environment.source

    def plain(name: str, *aliases: str, default: str = "not set") -> tuple[str, str, str]:
        return name, lookup(values, name, *aliases) or default, source(name, *aliases)

    def secret(name: str, *aliases: str) -> tuple[str, str, str]:
        text, file = secret_source(values, name, *aliases)
        names = [each + ("_FILE" if file else "") for each in (name, *aliases)]
        return name, f"in the file {file}" if file else "set" if text else "not set", source(*names)

    trust = _trust_store(values)
    try:
        return [
            ("SWF_MONITOR_URL", url, "--monitor-url") if url else plain("SWF_MONITOR_URL", default=DEFAULT_URL),
            secret("SWF_API_TOKEN"),
            plain("FASTMON_MONITOR_CA"),
            ("trusted CAs", trust.path, trust.name),
            ("FASTMON_ANNOUNCE", topic, "--topic") if topic else plain("FASTMON_ANNOUNCE", default=DEFAULT_TOPIC),
            plain("ACTIVEMQ_HOST", default="localhost"),
            plain("ACTIVEMQ_PORT", default="61612"),
            plain("ACTIVEMQ_USER", "MQ_USER"),
            secret("ACTIVEMQ_PASSWORD", "MQ_PASSWD"),
            plain("ACTIVEMQ_USE_SSL", default="on" if "MQ_CAFILE" in values else "off"),
            plain("ACTIVEMQ_SSL_CA_CERTS", "MQ_CAFILE"),
            plain("ACTIVEMQ_SSL_CERT_FILE"),
            plain("ACTIVEMQ_SSL_KEY_FILE"),
            secret("FASTMON_DASHBOARD_TOKEN"),
            plain("FASTMON_SHIFTS", default=DEFAULT_SHIFTS),
            plain("FASTMON_ZONE", default="that of the system"),
        ]
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc


def _host_of(url: str) -> str:
    if re.search("[@?#]", url):  # may contain a secret: do not show it
        raise click.UsageError(f"{_URL_SETTING} contains a user, a password or a query: remove it")
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname, parts.port  # .port raises ValueError
        if parts.scheme not in ("http", "https") or not host:
            raise click.UsageError(f"{_URL_SETTING}: {url!r} is not an http:// or https:// URL")
        return checked_host(host)
    except ValueError as exc:
        raise click.UsageError(f"{_URL_SETTING}: {exc}: use http://HOST:PORT") from exc


def _check_proxy(proxy: str | None) -> None:
    if not proxy:
        return
    try:  # no message shows the value: it may contain a password
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")  # as requests completes it
        is_valid = parts.scheme in _PROXY_SCHEMES and parts.port != 0 and checked_host(parts.hostname or "")
    except ValueError:
        is_valid = False
    if not is_valid:
        raise click.UsageError("the proxy variable for the monitor is not a URL: use http://HOST:PORT, or unset it")
    if parts.scheme.startswith("socks") and find_spec("socks") is None:
        raise click.UsageError("a SOCKS proxy needs PySocks: pip install 'requests[socks]', or name an HTTP proxy")


def _trust_store(variables: Mapping[str, str]) -> TrustStore:
    try:
        trust = TrustStore.of(variables)
    except ValueError as exc:
        raise click.UsageError(f"FASTMON_MONITOR_CA, SSL_CERT_FILE or SSL_CERT_DIR: {exc}") from exc
    try:
        trust.context()
    except OSError as exc:  # of ssl: no certificate in it
        reason = "not a PEM file of certificates" if isinstance(exc, ssl.SSLError) else exc.strerror or exc
        raise click.UsageError(f"{trust.name}={trust.path}: {reason}: set a readable PEM file") from exc
    return trust


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _token(variables: Mapping[str, str]) -> Callable[[], str]:
    """Returns the token; reads a token file for each request.

    Raises: click.UsageError if it is set twice.
    """
    try:
        fixed, path = secret_source(variables, "SWF_API_TOKEN")
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc

    def read() -> str:
        try:
            text = read_text(path) if path else fixed or ""
        except (OSError, ValueError) as exc:
            raise AccessDenied(f"SWF_API_TOKEN_FILE={path}: {read_error(exc)}: set a readable file") from None
        token = text.strip()
        if not (token.isascii() and token.isprintable()):  # an error of requests would show it
            name = "SWF_API_TOKEN_FILE" if path else "SWF_API_TOKEN"
            raise AccessDenied(f"{name}: the token contains a line break or another invalid character")
        return token

    return read
