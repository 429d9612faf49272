"""Settings from the environment, `.env` and `~/.env`.

The rules are those of the daemon: tests/client/test_environment.py holds both readers to one table of files.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from fastmon_client.files import exposed, is_secret, read_env_file


class Environment:
    """All variables that are set and not empty, and where each comes from.

    The environment overrides `.env` in the working folder, which overrides `~/.env`. A folder that is None (no HOME, a
    deleted working folder) has no file.
    """

    def __init__(self, environ: Mapping[str, str], working_folder: Path | None, home: Path | None) -> None:
        """Raises: SettingsError, with file and line, if a file cannot be read whole."""
        self.values: dict[str, str] = {}
        self._sources: dict[str, str] = {}
        self.exposed: list[str]
        """Warnings of files that contain a secret and that other users can read."""
        layers = {
            "~/.env": read_env_file(home / ".env") if home else {},
            ".env": read_env_file(working_folder / ".env") if working_folder else {},
            "environment": environ,
        }
        for source, layer in layers.items():
            present = {name: text.strip() for name, text in layer.items() if text.strip()}
            self.values |= present
            self._sources |= dict.fromkeys(present, source)
        files = [folder / ".env" for folder, source in ((home, "~/.env"), (working_folder, ".env"))
                 if folder and any(map(is_secret, layers[source]))]  # fmt: skip
        with suppress(ValueError):  # no home folder: reported when the secret is read
            files += [from_home(text) for name, text in self.values.items() if is_secret(name.removesuffix("_FILE"))
                      and name.endswith("_FILE")]  # fmt: skip
        self.exposed = list(dict.fromkeys(warning for path in files if (warning := exposed(path))))

    @classmethod
    def of_process(cls) -> Environment:
        """The environment of this process.

        Raises: SettingsError.
        """
        return cls(os.environ, _folder(Path.cwd), _folder(Path.home))

    def source(self, *names: str) -> str:
        """The source of the first of *names* that is set: `environment`, `.env` or `~/.env`; else `default`."""
        return next((self._sources[name] for name in names if name in self._sources), "default")


def lookup(values: Mapping[str, str], name: str, *aliases: str, secret: bool = False) -> str | None:
    """The value of *name* or of one of its *aliases*; None if none is set.

    Raises: ValueError if two of them differ; a *secret* is not shown.
    """
    found = [(each, values[each]) for each in (name, *aliases) if values.get(each)]
    for other, text in found[1:]:
        if text != found[0][1]:
            shown = ["" if secret else f"={each!r}" for each in (found[0][1], text)]
            raise ValueError(f"{found[0][0]}{shown[0]} and its alias {other}{shown[1]} differ: unset one of them")
    return found[0][1] if found else None


def secret_source(values: Mapping[str, str], name: str, *aliases: str) -> tuple[str | None, Path | None]:
    """The text of a secret, or the file that contains it (`NAME_FILE`); both None if it is not set.

    Raises: ValueError if it is set twice.
    """
    for each in (name, *aliases):
        if values.get(each) and values.get(f"{each}_FILE"):
            raise ValueError(f"{each} (value not shown) and {each}_FILE are both set: unset one of them")
    text = lookup(values, name, *aliases, secret=True)
    file = lookup(values, f"{name}_FILE", *(f"{alias}_FILE" for alias in aliases))
    if text and file:
        raise ValueError(f"{name} (value not shown) and a file for it are both set: unset one of them")
    return text, from_home(file) if file else None


def from_home(path: str) -> Path:
    """*path*, with a leading `~` replaced by the home folder.

    Raises: ValueError if there is none.
    """
    if Path(path).parts[:1] != ("~",):
        return Path(path)
    home = _folder(Path.home)
    if home is None:
        raise ValueError(f"{path}: there is no home folder: set HOME, or use an absolute path")
    return home.joinpath(*Path(path).parts[1:])


def _folder(find: Callable[[], Path]) -> Path | None:
    try:
        return find()
    except (OSError, RuntimeError):  # deleted or unreadable; neither HOME nor an entry in passwd
        return None
