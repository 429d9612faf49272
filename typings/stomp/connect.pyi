# ruff: noqa: A002 (the arguments bear the names that stomp.py gave them)
from collections.abc import Mapping, Sequence
from typing import Any

from .listener import ConnectionListener
from .transport import Transport

class BaseConnection:
    transport: Transport
    def __init__(self, transport: Transport) -> None: ...
    def set_listener(self, name: str, listener: ConnectionListener) -> None: ...
    def remove_listener(self, name: str) -> None: ...
    def get_listener(self, name: str) -> ConnectionListener | None: ...
    def is_connected(self) -> bool: ...
    def set_receipt(self, receipt_id: str, value: str | None) -> None: ...
    def set_ssl(
        self,
        for_hosts: Sequence[tuple[str, int]] = ...,
        key_file: str | None = ...,
        cert_file: str | None = ...,
        ca_certs: str | None = ...,
        cert_validator: Any = ...,
        ssl_version: int = ...,
        password: str | None = ...,
        verify: bool = ...,
    ) -> None: ...
    def get_ssl(self, host_and_port: tuple[str, int] | None = ...) -> dict[str, Any] | None: ...

# Not a class of stomp.py: what its connections of 1.1 and 1.2 have in common (there by way of protocol classes).
class _Connection(BaseConnection, ConnectionListener):
    version: str
    heartbeats: tuple[int, int]
    def __init__(
        self,
        host_and_ports: Sequence[tuple[str, int]] | None = ...,
        prefer_localhost: bool = ...,
        try_loopback_connect: bool = ...,
        reconnect_sleep_initial: float = ...,
        reconnect_sleep_increase: float = ...,
        reconnect_sleep_jitter: float = ...,
        reconnect_sleep_max: float = ...,
        reconnect_attempts_max: int = ...,
        timeout: float | None = ...,
        heartbeats: tuple[int, int] = ...,
        keepalive: bool | tuple[Any, ...] | None = ...,
        vhost: str | None = ...,
        auto_decode: bool = ...,
        encoding: str = ...,
        auto_content_length: bool = ...,
        heart_beat_receive_scale: float = ...,
        bind_host_port: tuple[str, int] | None = ...,
    ) -> None: ...
    def connect(
        self,
        username: str | None = ...,
        passcode: str | None = ...,
        wait: bool = ...,
        headers: Mapping[str, str] | None = ...,
        with_connect_command: bool = ...,
        **keyword_headers: str,
    ) -> None: ...
    def disconnect(
        self, receipt: str | None = ..., headers: Mapping[str, str] | None = ..., **keyword_headers: str
    ) -> None: ...
    def send(
        self,
        destination: str,
        body: str | bytes,
        content_type: str | None = ...,
        headers: Mapping[str, str] | None = ...,
        **keyword_headers: str,
    ) -> None: ...
    def subscribe(
        self,
        destination: str,
        id: str,
        ack: str = ...,
        headers: Mapping[str, str] | None = ...,
        **keyword_headers: str,
    ) -> None: ...
    def unsubscribe(self, id: str, headers: Mapping[str, str] | None = ..., **keyword_headers: str) -> None: ...
    def send_frame(self, cmd: str, headers: dict[str, str] | None = ..., body: str | bytes = ...) -> None: ...

class StompConnection11(_Connection):
    def ack(self, id: str, subscription: str, transaction: str | None = ..., receipt: str | None = ...) -> None: ...
    def nack(
        self,
        id: str,
        subscription: str,
        transaction: str | None = ...,
        receipt: str | None = ...,
        **keyword_headers: str,
    ) -> None: ...

class StompConnection12(_Connection):
    def ack(self, id: str, transaction: str | None = ..., receipt: str | None = ...) -> None: ...
    def nack(
        self, id: str, transaction: str | None = ..., receipt: str | None = ..., **keyword_headers: str
    ) -> None: ...
