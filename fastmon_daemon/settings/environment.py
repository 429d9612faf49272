"""The variables that settings are read from: the environment, `.env`, `~/.env` and the files that `NAME_FILE` names.

This module owns which of them wins and where each came from. It must not know which settings there are, and it reads
no environment of its own: that and the folders are handed in.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dotenv import dotenv_values

from fastmon_daemon.base.errors import ConfigError
from fastmon_daemon.settings.fields import MAY_HOLD_PASSWORD, Setting, as_file


def read_environment(environ: Mapping[str, str], *, working_folder: Path, home: Path) -> Mapping[str, str]:
    """Return all variables that are set and not empty: the environment's, then `.env`'s, then `~/.env`'s.

    Nothing is parsed, so a command that needs no namespace and no token can do with this. Raises `ConfigError`
    if a `.env` file cannot be read.
    """
    return Environment(environ, working_folder, home).values


class Environment:
    """The three layers merged, and where each variable came from."""

    def __init__(self, environ: Mapping[str, str], working_folder: Path, home: Path) -> None:
        self._working_folder, self._home = working_folder, home
        self.values: dict[str, str] = {}
        self.origins: dict[str, str] = {}
        layers = {
            "~/.env": _env_file(home / ".env"),
            ".env": _env_file(working_folder / ".env"),
            "environment": environ,
        }
        for origin, layer in layers.items():
            present = {name: text.strip() for name, text in layer.items() if text and text.strip()}
            self.values |= present
            self.origins |= dict.fromkeys(present, origin)

    def value(self, setting: Setting) -> tuple[Any, str]:
        """Return the parsed value and its source."""
        found = [each for name in setting.names if (each := self._lookup(name, setting.secret))]
        if not found:
            return setting.parse(setting.default), "default"
        name, text, source = found[0]
        for other, other_text, other_source in found[1:]:
            if other_text != text:
                raise ConfigError(
                    f"{name}{_shown(text, setting)} ({source}) and {other}{_shown(other_text, setting)} "
                    f"({other_source}) mean the same setting and differ: unset one of them"
                )
        try:
            return self._placed(setting, setting.parse(text)), source
        except ValueError as error:
            raise ConfigError(f"{name}{_shown(text, setting)} ({source}): {error}") from None

    def origin(self, setting: Setting) -> str:
        """Return where the setting was given, be it well or badly; "default" where nowhere."""
        given = (name + suffix for name in setting.names for suffix in (("", "_FILE") if setting.secret else ("",)))
        return next((self.origins[name] for name in given if name in self.origins), "default")

    def unknown(self, settings: Iterable[Setting]) -> tuple[str, ...]:
        """Return the variables that look like ours and belong to none of the settings."""
        known = {
            name + suffix
            for setting in settings
            for name in setting.names
            for suffix in (("", "_FILE") if setting.secret else ("",))
        }
        ours = (name for name in self.values if name.startswith("FASTMON_") and not name.startswith("FASTMON_TEST_"))
        return tuple(sorted(set(ours) - known))

    def _lookup(self, name: str, secret: bool) -> tuple[str, str, str] | None:
        file = self.values.get(f"{name}_FILE") if secret else None
        if file is None:
            return (name, self.values[name], self.origins[name]) if name in self.values else None
        if name in self.values:
            raise ConfigError(f"{name} (value not shown) and {name}_FILE={file!r} are both set: unset one of them")
        try:
            text = self._absolute(Path(file)).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{name}_FILE={file!r}: cannot be read ({reason(error)}); name a readable file") from None
        if not text:
            raise ConfigError(f"{name}_FILE={file!r}: the file is empty; write the secret into it, or unset the name")
        return name, text, f"{name}_FILE"

    def _placed(self, setting: Setting, value: object) -> object:
        if isinstance(value, tuple):
            return tuple(self._placed(setting, each) for each in value)
        if not isinstance(value, Path):
            return value
        path = self._absolute(value)
        if setting.parse is as_file:
            try:
                path.open("rb").close()
            except OSError as error:
                raise ValueError(f"cannot be read ({reason(error)}); name a readable file, or unset it") from None
        return path

    def _absolute(self, path: Path) -> Path:
        return self._working_folder / from_home(path, self._home)


def from_home(path: Path, home: Path) -> Path:
    """Return the path with a leading `~` replaced by the home folder."""
    return home.joinpath(*path.parts[1:]) if path.parts[:1] == ("~",) else path


def _env_file(path: Path) -> dict[str, str]:
    try:
        return {name: text or "" for name, text in dotenv_values(path, interpolate=False).items()}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({reason(error)}); mend or remove the file") from None


def reason(error: OSError | UnicodeDecodeError) -> str:
    """Say in a few words, for a `ConfigError`, why a file could not be read."""
    return (error.strerror or "input/output error") if isinstance(error, OSError) else "it is not UTF-8 text"


def _shown(text: str, setting: Setting) -> str:
    secret = setting.secret or (setting.parse in MAY_HOLD_PASSWORD and re.search("[@?]", text))
    return " (value not shown)" if secret else f"={text!r}"
