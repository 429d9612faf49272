"""All settings read at once: each with its value and source, or with what is wrong about it.

This module owns that one wrong setting hides no other. It must not know which settings there are.
"""

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
    """What was read, by field of `Settings`; a field that stands in *errors* bears its default in *values*."""

    values: dict[str, Any] = field(default_factory=dict, repr=False)
    sources: dict[str, str] = field(default_factory=dict)
    errors: dict[str, ConfigError] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()

    def value(self, field_name: str) -> Any:
        """Return one value, for those that need no namespace and no token, hence not all. Raises `ConfigError`."""
        if field_name in self.errors:
            raise self.errors[field_name]
        return self.values[field_name]


def read_settings(
    setting: Iterable[tuple[str, Setting]], environ: Mapping[str, str], *, working_folder: Path, home: Path
) -> LoadResult:
    """Read every setting; raises `ConfigError` only where a `.env` file cannot be read at all."""
    declarations = dict(setting)
    environment = Environment(environ, working_folder, home)
    reading = LoadResult(unknown=environment.unknown(declarations.values()))
    for name, each in declarations.items():
        try:
            reading.values[name], reading.sources[name] = environment.value(each)
        except ConfigError as error:
            reading.values[name], reading.sources[name] = each.parse(each.default), environment.origin(each)
            reading.errors[name] = error
    _settle(reading, environment)
    return reading


def _settle(reading: LoadResult, environment: Environment) -> None:
    """Apply each rule between settings, unless one that it looks at is wrong already."""
    values, sources = reading.values, reading.sources
    tls = ("broker_use_ssl", "broker_ca_file", "broker_cert_file", "broker_key_file")
    for looked_at, rule in (
        (("namespace", "testbed_config"), partial(resolve_namespace, values, sources)),
        (tls, partial(validate_tls, values, sources, environment)),
        (("mode", "watch_dirs"), partial(validate_mode, values)),
    ):
        if not reading.errors.keys() & set(looked_at):
            try:
                rule()
            except ConfigError as error:
                reading.errors[looked_at[0]] = error
