"""What the settings expose to the network: secrets in clear, and endpoints without a token."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from fastmon_daemon.base.network import is_loopback
from fastmon_daemon.settings.schema import Settings


def exposures(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield what others on the network can read, and what to do about it."""
    monitor = urlsplit(settings.monitor_url)
    host = monitor.hostname or ""
    if settings.monitor_token and monitor.scheme == "http" and not is_loopback(host):
        yield f"SWF_API_TOKEN is sent in clear to {host}", "write https:// in SWF_MONITOR_URL"
    uses_broker = settings.mode == "message" or settings.notify == "stomp"
    in_clear = settings.broker_password and not settings.broker_use_ssl
    if uses_broker and in_clear and not is_loopback(settings.broker_host):
        tls = "set ACTIVEMQ_USE_SSL=on, ACTIVEMQ_SSL_CA_CERTS and the port of the broker for TLS"
        yield f"ACTIVEMQ_PASSWORD is sent in clear to {settings.broker_host}", tls
    if settings.http and not is_loopback(settings.http.host) and not settings.http_token:
        found = f"FASTMON_HTTP={settings.http}: whoever reaches this address can read the metrics and the status"
        yield found, "set FASTMON_HTTP_TOKEN or FASTMON_HTTP_TOKEN_FILE, or listen on 127.0.0.1"
