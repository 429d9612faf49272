"""What settings mean together: the namespace that a testbed's file gives, TLS and a mode with what they need.

This module owns the rules between settings. It must not know how a single setting is declared or which source wins.
"""

import tomllib
from pathlib import Path
from typing import Any

from fastmon_daemon.base.errors import ConfigError
from fastmon_daemon.settings.environment import Environment, reason
from fastmon_daemon.settings.fields import as_namespace


def resolve_namespace(values: dict[str, Any], sources: dict[str, str]) -> None:
    """Take the namespace from the testbed's TOML where FASTMON_NAMESPACE does not give it."""
    if values["namespace"]:
        return
    path: Path | None = values["testbed_config"]
    if path is None:
        raise ConfigError(
            "FASTMON_NAMESPACE is not set, nor is SWF_TESTBED_CONFIG: set FASTMON_NAMESPACE to the testbed's namespace"
        )
    values["namespace"] = _namespace_from_toml(path)
    sources["namespace"] = "SWF_TESTBED_CONFIG"


def _namespace_from_toml(path: Path) -> str:
    where, remedy = f"SWF_TESTBED_CONFIG={str(path)!r}", "mend it, or set FASTMON_NAMESPACE"
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{where}: cannot be read ({reason(error)}); {remedy}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{where}: is not TOML ({error}); {remedy}") from None
    testbed = table.get("testbed")
    namespace = testbed.get("namespace") if isinstance(testbed, dict) else None
    if not isinstance(namespace, str) or not namespace.strip():
        raise ConfigError(f"{where}: has no `[testbed] namespace`; {remedy}")
    try:
        return as_namespace(namespace.strip())
    except ValueError as error:
        raise ConfigError(f"{where}: namespace {namespace!r}: {error}; {remedy}") from None


def validate_tls(values: dict[str, Any], sources: dict[str, str], environment: Environment) -> None:
    """Turn TLS on for MQ_CAFILE alone, and refuse TLS without the file that makes it mean something."""
    if "MQ_CAFILE" in environment.values and sources["broker_use_ssl"] == "default":
        values["broker_use_ssl"], sources["broker_use_ssl"] = True, "MQ_CAFILE"
    if values["broker_use_ssl"] and values["broker_ca_file"] is None:
        raise ConfigError(
            f"ACTIVEMQ_USE_SSL={environment.values['ACTIVEMQ_USE_SSL']!r} asks for TLS, but no CA file is set: "
            "set ACTIVEMQ_SSL_CA_CERTS (or MQ_CAFILE), or set ACTIVEMQ_USE_SSL=off"
        )
    if values["broker_key_file"] is not None and values["broker_cert_file"] is None:
        raise ConfigError(
            f"ACTIVEMQ_SSL_KEY_FILE={str(values['broker_key_file'])!r} has no certificate: "
            "set ACTIVEMQ_SSL_CERT_FILE as well, or unset it"
        )


def validate_mode(values: dict[str, Any]) -> None:
    """Refuse to watch nothing."""
    if values["mode"] != "continuous":
        return
    folders: tuple[Path, ...] = values["watch_dirs"]
    if not folders:
        raise ConfigError("FASTMON_MODE=continuous watches folders: name them in FASTMON_WATCH_DIRS")
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError(f"FASTMON_WATCH_DIRS={str(folder)!r} is no folder: make it, or name another")
