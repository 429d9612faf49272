"""The CA certificates that the monitor's certificate is verified with: one choice for requests and for `status`."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.util.ssl_ import create_urllib3_context

from fastmon_client.environment import from_home
from fastmon_client.files import check_regular


@dataclass(frozen=True, slots=True)
class TrustStore:
    """A PEM file, or a folder of hashed ones."""

    path: str
    name: str
    """Where the choice comes from."""

    @classmethod
    def of(cls, variables: Mapping[str, str]) -> TrustStore:
        """FASTMON_MONITOR_CA; else SSL_CERT_FILE or SSL_CERT_DIR; else the system's CAs; else those of certifi.

        Raises: ValueError if a path begins with `~` and there is no home folder.
        """
        for name in ("FASTMON_MONITOR_CA", "SSL_CERT_FILE", "SSL_CERT_DIR"):
            if path := variables.get(name):
                return cls(str(from_home(path)), name)
        system = ssl.get_default_verify_paths()
        if system.openssl_cafile and Path(system.openssl_cafile).is_file():
            return cls(system.openssl_cafile, "the system's CAs")
        if system.openssl_capath and any(Path(system.openssl_capath).glob("*.0")):
            return cls(system.openssl_capath, "the system's CAs")
        return cls(DEFAULT_CA_BUNDLE_PATH, "CAs of the Python package certifi")

    def __str__(self) -> str:
        return f"{self.name}: {self.path}"

    def context(self) -> ssl.SSLContext:
        """A context as requests makes it.

        Raises: OSError if the file or folder cannot be used.
        """
        context = create_urllib3_context()
        if Path(self.path).is_dir():
            context.load_verify_locations(capath=self.path)
        else:
            check_regular(Path(self.path))
            context.load_verify_locations(cafile=self.path)
        return context
