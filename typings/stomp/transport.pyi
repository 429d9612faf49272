import selectors
import socket as _socket
import threading
from collections.abc import Callable, Sequence
from typing import Any

from .listener import ConnectionListener, Publisher
from .utils import Frame

class BaseTransport(Publisher):
    listeners: dict[str, ConnectionListener]
    running: bool
    # False once a TLS connection stands: its socket does not block.
    blocking: bool
    send_queue: Any
    sel: selectors.BaseSelector | None
    connected: bool
    connection_error: bool
    disconnecting: bool
    current_host_and_port: tuple[str, int] | None
    notified_on_disconnect: bool
    create_thread_fc: Callable[[Callable[[], None]], threading.Thread]
    io_thread: threading.Thread | None
    def __init__(
        self, auto_decode: bool = ..., encoding: str = ..., is_eol_fc: Callable[[bytes], bool] = ...
    ) -> None: ...
    def override_threading(self, create_thread_fc: Callable[[Callable[[], None]], threading.Thread]) -> None: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def is_connected(self) -> bool: ...
    def set_connected(self, connected: bool) -> None: ...
    def set_receipt(self, receipt_id: str, value: str | None) -> None: ...
    def process_frame(self, f: Frame, frame_str: bytes) -> None: ...
    def notify(self, frame_type: str, frame: Frame | None = ...) -> None: ...
    def transmit(self, frame: Frame) -> None: ...
    def send(self, encoded_frame: bytes) -> None: ...
    def receive(self) -> bytes: ...
    def cleanup(self) -> None: ...
    def attempt_connection(self) -> None: ...
    def disconnect_socket(self) -> None: ...
    def wait_for_connection(self, timeout: float | None = ...) -> None: ...

class Transport(BaseTransport):
    socket: _socket.socket | None
    vhost: str | None
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
        keepalive: bool | tuple[Any, ...] | None = ...,
        vhost: str | None = ...,
        auto_decode: bool = ...,
        encoding: str = ...,
        recv_bytes: int = ...,
        is_eol_fc: Callable[[bytes], bool] = ...,
        bind_host_port: tuple[str, int] | None = ...,
    ) -> None: ...
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
    def shutdown_queue(self) -> None: ...
