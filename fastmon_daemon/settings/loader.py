"""Load all settings at once: each with its value and source, or its error. An invalid setting hides no other.

Rules that span several settings are here: the namespace from the testbed's TOML file, TLS and its files, modes.
"""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from fastmon_daemon.base.errors import ConfigError
from fastmon_daemon.settings.environment import Environment
from fastmon_daemon.settings.fields import Setting, as_namespace
from fastmon_daemon.settings.files import read_error, read_text


@dataclass(frozen=True, kw_only=True)
class LoadResult:
    """The loaded settings, by field name of `Settings`; a field in *errors* has its default in *values*."""

    values: dict[str, Any] = field(default_factory=dict, repr=False)
    sources: dict[str, str] = field(default_factory=dict)
    errors: dict[str, ConfigError] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()
    exposed: tuple[str, ...] = ()
    """Warnings of files that contain a secret and that other users can read."""

    def value(self, field_name: str) -> Any:
        """Return one value, regardless of errors in other settings. Raises: ConfigError if this one is invalid."""
        if field_name in self.errors:
            raise self.errors[field_name]
        return self.values[field_name]


def read_settings(
    settings: Iterable[tuple[str, Setting]],
    environ: Mapping[str, str],
    *,
    working_folder: Path | None,
    home: Path | None,
) -> LoadResult:
    """Read all settings; *settings* are pairs of field name and declaration.

    A folder is None if this process has none. Raises: ConfigError if a `.env` file cannot be read completely.
    """
    declarations = dict(settings)
    environment = Environment(environ, working_folder, home)
    result = LoadResult(unknown=environment.unknown(declarations.values()))
    for name, setting in declarations.items():
        try:
            result.values[name], result.sources[name] = environment.value(setting)
        except ConfigError as error:
            result.values[name], result.sources[name] = setting.parse(setting.default), environment.source(setting)
            result.errors[name] = error
    _validate(result, environment)
    return replace(result, exposed=environment.exposed)


def _validate(result: LoadResult, environment: Environment) -> None:
    """Apply each rule that spans several settings, unless one of them already has an error."""
    values, sources = result.values, result.sources
    tls = ("broker_use_ssl", "broker_ca_file", "broker_cert_file", "broker_key_file")
    for names, rule in (
        (("namespace", "testbed_config"), partial(_resolve_namespace, values, sources)),
        (tls, partial(_validate_tls, values, sources, environment)),
        (("mode", "watch_dirs"), partial(_validate_mode, values)),
    ):
        if not result.errors.keys() & set(names):
            try:
                rule()
            except ConfigError as error:
                result.errors[names[0]] = error


def _resolve_namespace(values: dict[str, Any], sources: dict[str, str]) -> None:
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
        table = tomllib.loads(read_text(path))
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


def _validate_tls(values: dict[str, Any], sources: dict[str, str], environment: Environment) -> None:
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


def _validate_mode(values: dict[str, Any]) -> None:
    """Raises: ConfigError if continuous mode has no folders to watch."""
    if values["mode"] != "continuous":
        return
    folders: tuple[Path, ...] = values["watch_dirs"]
    if not folders:
        raise ConfigError("FASTMON_MODE=continuous needs folders to watch: set FASTMON_WATCH_DIRS")
    for folder in folders:
        if not _is_folder(folder):
            raise ConfigError(
                f"FASTMON_WATCH_DIRS={str(folder)!r} is not a folder: create it, or change FASTMON_WATCH_DIRS"
            )


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError as error:
        raise ConfigError(
            f"FASTMON_WATCH_DIRS={str(path)!r}: unreadable ({read_error(error)}): fix its permissions, or change it"
        ) from None
