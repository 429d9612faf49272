"""Load all settings at once: each with its value and source, or its error. An invalid setting hides no other."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from fastmon_daemon.base.errors import ConfigError
from fastmon_daemon.settings.environment import Environment
from fastmon_daemon.settings.fields import Setting
from fastmon_daemon.settings.validators import resolve_namespace, validate_mode, validate_tls


@dataclass(frozen=True, kw_only=True)
class LoadResult:
    """The loaded settings, by field name of `Settings`; a field in *errors* has its default in *values*."""

    values: dict[str, Any] = field(default_factory=dict, repr=False)
    sources: dict[str, str] = field(default_factory=dict)
    errors: dict[str, ConfigError] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()

    def value(self, field_name: str) -> Any:
        """Return one value, regardless of errors in other settings. Raises: ConfigError if this one is invalid."""
        if field_name in self.errors:
            raise self.errors[field_name]
        return self.values[field_name]


def read_settings(
    settings: Iterable[tuple[str, Setting]], environ: Mapping[str, str], *, working_folder: Path, home: Path
) -> LoadResult:
    """Read all settings; *settings* are pairs of field name and declaration.

    Raises: ConfigError if a `.env` file is unreadable.
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
    return result


def _validate(result: LoadResult, environment: Environment) -> None:
    """Apply each rule that spans several settings, unless one of them already has an error."""
    values, sources = result.values, result.sources
    tls = ("broker_use_ssl", "broker_ca_file", "broker_cert_file", "broker_key_file")
    for names, rule in (
        (("namespace", "testbed_config"), partial(resolve_namespace, values, sources)),
        (tls, partial(validate_tls, values, sources, environment)),
        (("mode", "watch_dirs"), partial(validate_mode, values)),
    ):
        if not result.errors.keys() & set(names):
            try:
                rule()
            except ConfigError as error:
                result.errors[names[0]] = error
