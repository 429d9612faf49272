"""Rules that span several settings: the namespace from the testbed's TOML file, TLS and its files, modes."""

import tomllib
from pathlib import Path
from typing import Any

from fastmon_daemon.base.errors import ConfigError
from fastmon_daemon.settings.environment import Environment, read_error
from fastmon_daemon.settings.fields import as_namespace


def resolve_namespace(values: dict[str, Any], sources: dict[str, str]) -> None:
    """Take the namespace from the testbed's TOML file if FASTMON_NAMESPACE is not set. Raises: ConfigError."""
    if values["namespace"]:
        return
    path: Path | None = values["testbed_config"]
    if path is None:
        raise ConfigError(
            "FASTMON_NAMESPACE and SWF_TESTBED_CONFIG are not set: set FASTMON_NAMESPACE to the testbed's namespace"
        )
    values["namespace"] = _namespace_from_toml(path)
    sources["namespace"] = "SWF_TESTBED_CONFIG"


def _namespace_from_toml(path: Path) -> str:
    subject, hint = f"SWF_TESTBED_CONFIG={str(path)!r}", "fix the file, or set FASTMON_NAMESPACE"
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{subject}: unreadable ({read_error(error)}): {hint}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{subject}: invalid TOML ({error}): {hint}") from None
    testbed = table.get("testbed")
    namespace = testbed.get("namespace") if isinstance(testbed, dict) else None
    if not isinstance(namespace, str) or not namespace.strip():
        raise ConfigError(f"{subject}: no `[testbed] namespace`: {hint}")
    try:
        return as_namespace(namespace.strip())
    except ValueError as error:
        raise ConfigError(f"{subject}: namespace {namespace!r} {error}: {hint}") from None


def validate_tls(values: dict[str, Any], sources: dict[str, str], environment: Environment) -> None:
    """Enable TLS if only MQ_CAFILE is set. Raises: ConfigError if a file that TLS needs is not set."""
    if "MQ_CAFILE" in environment.values and sources["broker_use_ssl"] == "default":
        values["broker_use_ssl"], sources["broker_use_ssl"] = True, "MQ_CAFILE"
    if values["broker_use_ssl"] and values["broker_ca_file"] is None:
        raise ConfigError(
            f"ACTIVEMQ_USE_SSL={environment.values['ACTIVEMQ_USE_SSL']!r}: TLS needs a CA file: "
            "set ACTIVEMQ_SSL_CA_CERTS (or MQ_CAFILE), or set ACTIVEMQ_USE_SSL=off"
        )
    if values["broker_key_file"] is not None and values["broker_cert_file"] is None:
        raise ConfigError(
            f"ACTIVEMQ_SSL_KEY_FILE={str(values['broker_key_file'])!r}: a key needs a certificate: "
            "set ACTIVEMQ_SSL_CERT_FILE, or unset ACTIVEMQ_SSL_KEY_FILE"
        )


def validate_mode(values: dict[str, Any]) -> None:
    """Raises: ConfigError if continuous mode has no folders to watch."""
    if values["mode"] != "continuous":
        return
    folders: tuple[Path, ...] = values["watch_dirs"]
    if not folders:
        raise ConfigError("FASTMON_MODE=continuous needs folders to watch: set FASTMON_WATCH_DIRS")
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError(
                f"FASTMON_WATCH_DIRS={str(folder)!r} is not a folder: create it, or change FASTMON_WATCH_DIRS"
            )
