"""What every broker of the tests can do: be started, stopped, killed and made silent.

Owns the interface and the ports. It must not know the brokers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from tests.real_brokers.certificates import DOUBTFUL, GOOD, Certificates
from tests.real_brokers.processes import free_ports


class Server(ABC):
    """A broker on loopback, at the same ports for life. Each act returns when it is done.

    `tls_ports` has "good" and, by what is wrong with its certificate, "wrong-host", "self-signed" and "expired".
    """

    kind: ClassVar[str]
    host = "localhost"
    user = "fastmon"
    password = "made-for-the-tests"

    def __init__(self, folder: Path, certificates: Certificates) -> None:
        names = (GOOD, *DOUBTFUL)
        self.folder = folder
        self.ca_file = certificates.ca_file
        self.port, *tls = free_ports(1 + len(names))
        self.tls_ports = dict(zip(names, tls, strict=True))
        self.log = folder / "broker.log"

    @property
    def tls_port(self) -> int:
        """The one with a certificate to trust."""
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
        """End as an operator would end it; what was persistent is there after the next `start`."""

    @abstractmethod
    def kill(self) -> None:
        """End without a word (SIGKILL)."""

    @abstractmethod
    def pause(self) -> None:
        """Fall silent (SIGSTOP): connections stay open, nothing is read or answered."""

    @abstractmethod
    def resume(self) -> None:
        """End a `pause`."""
