"""Sources of the settings: the environment, `.env`, `~/.env`, files named by `NAME_FILE`, credentials of systemd.

The environment and the folders are parameters; nothing here reads the process.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fastmon_daemon.base.errors import ConfigError
from fastmon_daemon.settings.fields import MAY_HOLD_PASSWORD, Setting, as_file
from fastmon_daemon.settings.files import check_regular, exposed, is_secret, read_env_file, read_error, read_text

_NOT_OURS = ("FASTMON_TEST_", "FASTMON_DASHBOARD_")
"""Variables of the tests, and of fastmon-client, which reads the same `.env` files."""


def read_environment(
    environ: Mapping[str, str], *, working_folder: Path | None, home: Path | None
) -> Mapping[str, str]:
    """Return all non-empty variables, unparsed; the environment overrides `.env`, which overrides `~/.env`.

    A folder is None if this process has none. Raises: ConfigError if a `.env` file cannot be read completely.
    """
    return Environment(environ, working_folder, home).values


class Environment:
    """The merged variables, and the source of each."""

    def __init__(self, environ: Mapping[str, str], working_folder: Path | None, home: Path | None) -> None:
        self._working_folder, self._home = working_folder, home
        self.values: dict[str, str] = {}
        self._sources: dict[str, str] = {}
        self._exposed: dict[str, None] = {}
        layers = {
            "~/.env": self._read(home / ".env") if home else {},
            ".env": self._read(working_folder / ".env") if working_folder else {},
            "environment": environ,
        }
        for source, layer in layers.items():
            present = {name: text.strip() for name, text in layer.items() if text and text.strip()}
            self.values |= present
            self._sources |= dict.fromkeys(present, source)
        self._add_credentials()

    def _add_credentials(self) -> None:
        """Take each credential of the service manager that is named like a secret, if nothing else sets that."""
        folder = Path(self.values.get("CREDENTIALS_DIRECTORY", "/nonexistent"))
        try:
            names = sorted(each.name for each in folder.iterdir() if is_secret(each.name))
        except OSError:
            return
        for name in names:
            if name not in self.values and f"{name}_FILE" not in self.values:
                self.values[f"{name}_FILE"] = str(folder / name)
                self._sources[f"{name}_FILE"] = "credential"

    @property
    def exposed(self) -> tuple[str, ...]:
        """Warnings of the files read so far that contain a secret and that other users can read."""
        return tuple(self._exposed)

    def value(self, setting: Setting) -> tuple[Any, str]:
        """Return the parsed value and its source. Raises: ConfigError."""
        found = [each for name in setting.names if (each := self._lookup(name, setting.secret))]
        if not found:
            return setting.parse(setting.default), "default"
        name, text, source = found[0]
        for alias, alias_text, alias_source in found[1:]:
            if alias_text != text:
                raise ConfigError(
                    f"{name}{_value_text(text, setting)} ({source}) and its alias "
                    f"{alias}{_value_text(alias_text, setting)} ({alias_source}) differ: unset one of them"
                )
        try:
            return self._resolve_paths(setting, setting.parse(text)), source
        except ValueError as error:
            raise ConfigError(f"{name}{_value_text(text, setting)} ({source}): {error}") from None

    def source(self, setting: Setting) -> str:
        """Return the source of a setting without parsing it; "default" if it is not set."""
        return next((self._sources[name] for name in _variables(setting) if name in self._sources), "default")

    def unknown(self, settings: Iterable[Setting]) -> tuple[str, ...]:
        """Return the FASTMON_ variables that belong to none of the settings, sorted."""
        known = {name for setting in settings for name in _variables(setting)}
        ours = (name for name in self.values if name.startswith("FASTMON_") and not name.startswith(_NOT_OURS))
        return tuple(sorted(set(ours) - known))

    def _lookup(self, name: str, secret: bool) -> tuple[str, str, str] | None:
        """Return the name, text and source of a variable that is set, directly or by `NAME_FILE`."""
        file = self.values.get(f"{name}_FILE") if secret else None
        if file is None:
            return (name, self.values[name], self._sources[name]) if name in self.values else None
        if name in self.values:
            raise ConfigError(f"{name} (value not shown) and {name}_FILE={file!r} are both set: unset one of them")
        try:
            text = read_text(self._absolute(Path(file))).strip()
        except (OSError, ValueError) as error:
            raise ConfigError(f"{name}_FILE={file!r}: unreadable ({read_error(error)}): use a readable file") from None
        self._warn_if_exposed(self._absolute(Path(file)))
        if not text:
            raise ConfigError(f"{name}_FILE={file!r}: the file is empty: write the secret to it, or unset {name}_FILE")
        return name, text, f"{name}_FILE"

    def _read(self, path: Path) -> dict[str, str]:
        values = read_env_file(path)
        if any(map(is_secret, values)):
            self._warn_if_exposed(path)
        return values

    def _warn_if_exposed(self, path: Path) -> None:
        if warning := exposed(path):
            self._exposed[warning] = None

    def _resolve_paths(self, setting: Setting, value: object) -> object:
        if isinstance(value, tuple):
            return tuple(self._resolve_paths(setting, each) for each in value)
        if not isinstance(value, Path):
            return value
        path = self._absolute(value)
        if setting.parse is as_file:
            try:
                check_regular(path)
                path.open("rb").close()
            except OSError as error:
                raise ValueError(f"unreadable ({read_error(error)}): use a readable file, or unset it") from None
        return path

    def _absolute(self, path: Path) -> Path:
        """Raises: ValueError if *path* begins in a folder that this process does not have."""
        path = from_home(path, self._home)
        if self._working_folder is None and not path.is_absolute():
            raise ValueError("the working folder does not exist any more: use an absolute path")
        return (self._working_folder or Path("/")) / path


def from_home(path: Path, home: Path | None) -> Path:
    """Return *path* with a leading `~` replaced by *home*. Raises: ValueError if there is no *home*."""
    if path.parts[:1] != ("~",):
        return path
    if home is None:
        raise ValueError("there is no home folder: set HOME, or use an absolute path")
    return home.joinpath(*path.parts[1:])


def _variables(setting: Setting) -> list[str]:
    """Return all variables that can set *setting*, in order of precedence."""
    return [name + suffix for name in setting.names for suffix in (("", "_FILE") if setting.secret else ("",))]


def _value_text(text: str, setting: Setting) -> str:
    secret = setting.secret or (setting.parse in MAY_HOLD_PASSWORD and re.search("[@?]", text))
    return " (value not shown)" if secret else f"={text!r}"
