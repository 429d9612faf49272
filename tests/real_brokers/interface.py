"""The interface of the brokers for the tests: start, stop, kill, pause and resume."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from tests.real_brokers.certificates import GOOD, INVALID, Certificates
from tests.real_brokers.processes import free_ports


class Server(ABC):
    """A broker on loopback, whose ports never change. Each method returns when it is done.

    `tls_ports` has "good" and the faults of the certificates: "wrong-host", "self-signed" and "expired".
    """

    kind: ClassVar[str]
    host = "localhost"
    user = "fastmon"
    reader = "reader"
    """A user of the real brokers that may receive and not send."""
    password = "made-for-the-tests"
    """Of both users."""

    def __init__(self, folder: Path, certificates: Certificates) -> None:
        names = (GOOD, *INVALID)
        self.folder = folder
        self.ca_file = certificates.ca_file
        self.port, *tls = free_ports(1 + len(names))
        self.tls_ports = dict(zip(names, tls, strict=True))
        self.log = folder / "broker.log"

    @property
    def tls_port(self) -> int:
        """The TLS port with the valid certificate."""
        return self.tls_ports[GOOD]

    @property
    @abstractmethod
    def version(self) -> str: ...

    @abstractmethod
    def is_running(self) -> bool: ...

    @abstractmethod
    def start(self) -> None: ...

    @abstractmethod
    def stop(self) -> None:
        """Stop as an operator would; persistent messages survive."""

    @abstractmethod
    def kill(self) -> None:
        """Kill (SIGKILL)."""

    @abstractmethod
    def pause(self) -> None:
        """Freeze (SIGSTOP): connections stay open, nothing is read or answered."""

    @abstractmethod
    def resume(self) -> None:
        """End a `pause`."""
