"""Rules that daemon and client share without sharing code: runs, hosts, proxies, trusted certificates."""

from __future__ import annotations

from pathlib import Path

import pytest
from requests.utils import select_proxy

from fastmon_client.addresses import checked_host
from fastmon_client.settings import proxies_for
from fastmon_client.tffile import run_name
from fastmon_client.trust import TrustStore
from fastmon_daemon.messages.fields import run_identity
from fastmon_daemon.monitor.transport import TrustStore as DaemonTrustStore
from fastmon_daemon.monitor.transport import proxies as daemon_proxies
from fastmon_daemon.settings.fields import as_host


@pytest.mark.field("3")
@pytest.mark.parametrize("run", [300123, "300123", "0300123", "0", "000", 0, "cosmic-01", "-7", "\u0663\u0664", "07a"])
def test_one_run_is_one_run_for_both(run: str | int) -> None:
    assert run_name(run) == run_identity(run)


HOSTS = (
    "localhost", "[::1]", "::1", "fe80::1%eth0", "127.0.0.1", "under_score", "münchen.example", "a.b.", "a..b", ".a",
    "a" * 63, "a" * 64, "a b", "[::1", "::1]", "[a]", "::g", "host:61612", "ä" * 70, ".".join(["a" * 60] * 5),
)  # fmt: skip


@pytest.mark.field("15")
@pytest.mark.parametrize("host", HOSTS)
def test_both_take_the_same_hosts(host: str) -> None:
    try:
        expected = as_host(host)
    except ValueError:
        with pytest.raises(ValueError, match=r"is neither a host name nor an address|is not a host name"):
            checked_host(host)
    else:
        assert checked_host(host) == expected


VARIABLES: tuple[dict[str, str], ...] = (
    {},
    {"http_proxy": "http://p:1", "HTTP_PROXY": "http://q:1"},
    {"HTTP_PROXY": "http://q:1", "https_proxy": "http://s:1"},
    {"ALL_PROXY": "http://a:1"},
    {"all_proxy": "http://a:1", "http_proxy": "http://p:1", "no_proxy": "10.0.0.0/8"},
    {"http_proxy": "http://p:1", "NO_PROXY": "*"},
    {"http_proxy": "http://p:1", "no_proxy": "monitor.example:8002,other"},
)


@pytest.mark.field("23")
@pytest.mark.parametrize("url", ["http://monitor.example:8002", "https://monitor.example", "http://10.1.2.3"])
@pytest.mark.parametrize("variables", VARIABLES)
def test_both_use_the_same_proxy(url: str, variables: dict[str, str]) -> None:
    assert select_proxy(url, proxies_for(url, variables)) == select_proxy(url, daemon_proxies(url, variables))


@pytest.mark.field("25")
@pytest.mark.parametrize("ca", [None, "/ca.pem"])
@pytest.mark.parametrize("variables", [{}, {"SSL_CERT_FILE": "/f.pem", "SSL_CERT_DIR": "/d"}, {"SSL_CERT_DIR": "/d"}])
def test_both_trust_the_same(ca: str | None, variables: dict[str, str]) -> None:
    ours = TrustStore.of(variables | ({"FASTMON_MONITOR_CA": ca} if ca else {}))
    assert str(ours) == str(DaemonTrustStore.of(Path(ca) if ca else None, variables))
