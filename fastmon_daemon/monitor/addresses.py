"""The monitor's address: which proxy leads to it, and how it may be shown.

It must not know requests.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import ip_address
from urllib.parse import urlsplit


def proxies(base_url: str, environ: Mapping[str, str]) -> dict[str, str]:
    """The proxy for the monitor out of *environ*; none for loopback and for what `no_proxy` names."""
    parts = urlsplit(base_url)
    proxy, direct = (
        environ.get(name) or environ.get(name.upper(), "") for name in (f"{parts.scheme}_proxy", "no_proxy")
    )
    host = (parts.hostname or "").lower()
    domains = [name.strip().lower().lstrip(".") for name in direct.split(",") if name.strip()]
    spared = any(name in {"*", host} or host.endswith(f".{name}") for name in domains)
    return {parts.scheme: proxy} if proxy and not spared and not _is_loopback(host) else {}


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def without_userinfo(url: str) -> str:
    """*url* without user name and password."""
    return re.sub(r"//[^/?#]*@", "//", url)
