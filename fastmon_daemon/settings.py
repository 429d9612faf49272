"""The settings: each is declared once, with its environment names, default, meaning and parser.

This module owns where settings come from (the environment, `.env`, `~/.env`, `NAME_FILE`) and what they must be.
It must not know the process it runs in: the environment and the folders are handed in.
"""
# ruff: noqa: RUF009 - setting() is dataclasses.field() with our metadata, which the rule cannot see

import math
import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from dotenv import dotenv_values

from fastmon_daemon.errors import ConfigError

SYSTEM_STATE_FOLDER = Path("/var/lib/fastmon-daemon")
DATABASE_NAME = "outbox.db"

_SWITCH = dict.fromkeys(("true", "1", "yes", "on"), True) | dict.fromkeys(("false", "0", "no", "off"), False)
_LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


@dataclass(frozen=True)
class Setting:
    """How one field of `Settings` is called in the environment, what it means and how its text is read."""

    names: tuple[str, ...]
    """The environment name, then its aliases."""
    default: str
    """The default as one would write it in the environment; empty where there is none."""
    meaning: str
    parse: Callable[[str], object]
    """From text to value; `ValueError` carries the reason and the remedy."""
    secret: bool


def setting(names: str, default: str, meaning: str, parse: Callable[[str], object], secret: bool = False) -> Any:
    """Declare a field of `Settings`; `names` are separated by spaces, the first is the one we document."""
    declared = Setting(tuple(names.split()), default, meaning, parse, secret)
    return field(default=parse(default), repr=not secret, metadata={"setting": declared})


def _text(text: str) -> str:
    if any(ord(character) < 32 for character in text):
        raise ValueError("it holds a control character or a line break; give one plain line")
    return text


def _optional(text: str) -> str | None:
    return _text(text) or None


def _agent_name(text: str) -> str | None:
    if len(text) > 100:
        raise ValueError("it is longer than 100 characters; give a shorter name")
    return _optional(text)


def _namespace(text: str) -> str:
    if text and not re.fullmatch(r"[\w.:/@+-]{1,100}", text, re.ASCII):
        raise ValueError("give 1 to 100 letters, digits or . : / @ + - _")
    return text


def _path(text: str) -> Path | None:
    return Path(text) if text else None


def _file(text: str) -> Path | None:
    """Read a path whose file must exist; `_Environment.value` checks it, as it knows the working folder."""
    return _path(text)


def _testbed_config(text: str) -> Path | None:
    bare = text and "/" not in text
    return Path("workflows", text) if bare else _path(text)


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good or parts.username is not None or parts.query or parts.fragment or re.search(r"\s", text):
        raise ValueError("give http://host:port or https://host:port, a path if needed, no password and no query")
    return text.rstrip("/")


def _several(text: str) -> tuple[str, ...]:
    parts = tuple(dict.fromkeys(part for each in text.split(",") if (part := _text(each).strip())))
    if not parts:
        raise ValueError("it names no destination; give one or more, separated by commas")
    return parts


def _switch(text: str) -> bool:
    if text.lower() not in _SWITCH:
        raise ValueError("give on or off (or true, false, yes, no, 1, 0)")
    return _SWITCH[text.lower()]


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        found = next((choice for choice in choices if choice.lower() == text.lower()), None)
        if found is None:
            raise ValueError(f"give one of {', '.join(choices)}")
        return found

    return parse


def _number(convert: type[int] | type[float], rule: str, accepts: Callable[[float], bool]) -> Callable[[str], float]:
    kind = "a whole number" if convert is int else "a number"

    def parse(text: str) -> float:
        try:
            value = convert(text)
        except ValueError:
            raise ValueError(f"give {kind} {rule}") from None
        if not math.isfinite(value) or not accepts(value):
            raise ValueError(f"give {kind} {rule}")
        return value

    return parse


def _whole(low: int, high: int) -> Callable[[str], float]:
    return _number(int, f"from {low} to {high}", lambda value: low <= value <= high)


_FRACTION = _number(float, "from 0 to 1", lambda value: 0 <= value <= 1)
_SHARE = _number(float, "above 0, up to 1", lambda value: 0 < value <= 1)
_POSITIVE = _number(float, "above 0", lambda value: value > 0)
_NOT_NEGATIVE = _number(float, "of 0 or more", lambda value: value >= 0)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the daemon was told, parsed once and frozen; the fields' own declarations are the reference."""

    monitor_url: str = setting("SWF_MONITOR_URL", "http://localhost:8002", "Base URL of the monitor.", _url)
    monitor_token: str = setting("SWF_API_TOKEN", "", "Token for the monitor's REST API.", _text, secret=True)
    monitor_ca: Path | None = setting(
        "FASTMON_MONITOR_CA", "", "CA file (PEM) that the monitor's certificate is checked against.", _file
    )

    broker_host: str = setting("ACTIVEMQ_HOST", "localhost", "Host of the message broker.", _text)
    broker_port: int = setting("ACTIVEMQ_PORT", "61612", "STOMP port of the message broker.", _whole(1, 65535))
    broker_user: str = setting("ACTIVEMQ_USER MQ_USER", "", "User name at the broker.", _text)
    broker_password: str = setting("ACTIVEMQ_PASSWORD MQ_PASSWD", "", "Password at the broker.", _text, secret=True)
    broker_use_ssl: bool = setting(
        "ACTIVEMQ_USE_SSL", "off", "Speak TLS with the broker; needs a CA file. MQ_CAFILE alone turns it on.", _switch
    )
    broker_ca_file: Path | None = setting(
        "ACTIVEMQ_SSL_CA_CERTS MQ_CAFILE", "", "CA file (PEM) that the broker's certificate is checked against.", _file
    )
    broker_cert_file: Path | None = setting(
        "ACTIVEMQ_SSL_CERT_FILE", "", "Our own certificate (PEM), where the broker asks for one.", _file
    )
    broker_key_file: Path | None = setting(
        "ACTIVEMQ_SSL_KEY_FILE", "", "Private key (PEM) of our own certificate.", _file
    )
    subscribe: str = setting("FASTMON_SUBSCRIBE", "/topic/epictopic", "Destination that STFs are heard on.", _text)
    announce: tuple[str, ...] = setting(
        "FASTMON_ANNOUNCE", "/topic/epictopic", "Destinations that TFs are announced on, separated by commas.", _several
    )
    durable: bool = setting(
        "FASTMON_DURABLE", "off", "Subscribe durably: the broker keeps messages while the daemon is down.", _switch
    )
    client_id: str | None = setting(
        "FASTMON_CLIENT_ID", "", "Client id at the broker; made from namespace and instance if not set.", _optional
    )
    notify: str = setting(
        "FASTMON_NOTIFY", "stomp", "How TFs are announced: stomp, rest or off.", _one_of("stomp", "rest", "off")
    )
    late_announce_rate: float = setting(
        "FASTMON_LATE_ANNOUNCE_RATE", "30", "Late announcements per second at most; 0 is no limit.", _NOT_NEGATIVE
    )

    namespace: str = setting(
        "FASTMON_NAMESPACE", "", "Testbed namespace to serve, needed here or in SWF_TESTBED_CONFIG.", _namespace
    )
    testbed_config: Path | None = setting(
        "SWF_TESTBED_CONFIG",
        "",
        "TOML file whose `[testbed] namespace` serves if FASTMON_NAMESPACE is not set; NAME means workflows/NAME.",
        _testbed_config,
    )
    selection_fraction: float = setting(
        "FASTMON_SELECTION_FRACTION", "0.1", "Fraction of the STFs to sample, 0 to 1.", _FRACTION
    )
    tf_files_per_stf: int = setting("FASTMON_TF_FILES_PER_STF", "7", "TFs to sample from one STF.", _whole(1, 999))
    tf_count_per_stf: int = setting(
        "FASTMON_TF_COUNT_PER_STF", "1000", "TFs that one STF holds.", _whole(1, 1_000_000_000)
    )
    tf_size_fraction: float = setting(
        "FASTMON_TF_SIZE_FRACTION", "0.15", "Size of a TF as a fraction of its STF's size, up to 1.", _SHARE
    )
    tf_sequence_start: int = setting(
        "FASTMON_TF_SEQUENCE_START", "1", "Sequence number of the first TF of an STF.", _whole(0, 1_000_000_000)
    )

    db: Path | None = setting(
        "FASTMON_DB", "", "Database file; looked for in the state folders if not set. Local disks only.", _path
    )
    workers: int = setting("FASTMON_WORKERS", "4", "Threads that talk to the monitor.", _whole(1, 64))
    stuck_after_s: float = setting(
        "FASTMON_STUCK_AFTER", "60", "Seconds without progress after which an STF counts as stuck.", _POSITIVE
    )
    drain_s: float = setting(
        "FASTMON_DRAIN_S", "8", "Seconds a stopping daemon gives to work under way.", _NOT_NEGATIVE
    )
    refused_max: int = setting(
        "FASTMON_REFUSED_MAX", "1000", "Rows kept of messages that could not be read.", _whole(0, 1_000_000_000)
    )
    log_level: str = setting("SWF_LOG_LEVEL", "INFO", f"One of {', '.join(_LOG_LEVELS)}.", _one_of(*_LOG_LEVELS))
    agent_name: str | None = setting(
        "FASTMON_AGENT_NAME", "", "Agent name shown by the monitor, up to 100 characters; made if not set.", _agent_name
    )

    sources: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    """Field name -> where its value came from: environment, .env, ~/.env, default, or the setting that named it."""
    unknown: tuple[str, ...] = field(default=(), compare=False)
    """Names that begin with FASTMON_ and mean nothing to us: most likely misspelt."""

    @classmethod
    def load(cls, environ: Mapping[str, str], *, working_folder: Path, home: Path) -> Self:
        """Read every setting; the environment wins over `.env`, and that over `~/.env`.

        Raises `ConfigError`, one line that names the setting, its value (never a secret) and the remedy.
        """
        environment = _Environment(environ, working_folder, home)
        values: dict[str, Any] = {}
        sources: dict[str, str] = {}
        for name, declared in declared_settings():
            values[name], sources[name] = environment.value(declared)
        _settle_namespace(values, sources)
        _settle_tls(values, sources, environment)
        return cls(**values, sources=sources, unknown=environment.unknown())


def declared_settings() -> Iterator[tuple[str, Setting]]:
    """Yield each field name of `Settings` with its declaration, in order."""
    return ((each.name, each.metadata["setting"]) for each in fields(Settings) if "setting" in each.metadata)


def read_environment(environ: Mapping[str, str], *, working_folder: Path, home: Path) -> Mapping[str, str]:
    """Return all variables that are set and not empty: the environment's, then `.env`'s, then `~/.env`'s.

    Nothing is parsed, so a command that needs no namespace and no token can do with this. Raises `ConfigError`
    if a `.env` file cannot be read.
    """
    return _Environment(environ, working_folder, home).values


class _Environment:
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

    def value(self, declared: Setting) -> tuple[Any, str]:
        """Return the parsed value and its source."""
        found = [each for name in declared.names if (each := self._lookup(name, declared.secret))]
        if not found:
            return declared.parse(declared.default), "default"
        name, text, source = found[0]
        for other, other_text, other_source in found[1:]:
            if other_text != text:
                raise ConfigError(
                    f"{name}{_shown(text, declared)} ({source}) and {other}{_shown(other_text, declared)} "
                    f"({other_source}) mean the same setting and differ: unset one of them"
                )
        try:
            return self._placed(declared, declared.parse(text)), source
        except ValueError as error:
            raise ConfigError(f"{name}{_shown(text, declared)} ({source}): {error}") from None

    def unknown(self) -> tuple[str, ...]:
        """Return the variables that look like ours and are not."""
        known = {
            name + suffix
            for _, declared in declared_settings()
            for name in declared.names
            for suffix in (("", "_FILE") if declared.secret else ("",))
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
            raise ConfigError(
                f"{name}_FILE={file!r}: cannot be read ({_reason(error)}); name a readable file"
            ) from None
        if not text:
            raise ConfigError(f"{name}_FILE={file!r}: the file is empty; write the secret into it, or unset the name")
        return name, text, f"{name}_FILE"

    def _placed(self, declared: Setting, value: object) -> object:
        if not isinstance(value, Path):
            return value
        path = self._absolute(value)
        if declared.parse is _file:
            try:
                path.open("rb").close()
            except OSError as error:
                raise ValueError(f"cannot be read ({_reason(error)}); name a readable file, or unset it") from None
        return path

    def _absolute(self, path: Path) -> Path:
        return self._working_folder / _from_home(path, self._home)


def _from_home(path: Path, home: Path) -> Path:
    return home.joinpath(*path.parts[1:]) if path.parts[:1] == ("~",) else path


def _env_file(path: Path) -> dict[str, str]:
    try:
        return {name: text or "" for name, text in dotenv_values(path, interpolate=False).items()}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({_reason(error)}); mend or remove the file") from None


def _reason(error: OSError | UnicodeDecodeError) -> str:
    return (error.strerror or "input/output error") if isinstance(error, OSError) else "it is not UTF-8 text"


def _shown(text: str, declared: Setting) -> str:
    may_hold_password = declared.parse is _url and "@" in text
    return " (value not shown)" if declared.secret or may_hold_password else f"={text!r}"


def _settle_namespace(values: dict[str, Any], sources: dict[str, str]) -> None:
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
        raise ConfigError(f"{where}: cannot be read ({_reason(error)}); {remedy}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{where}: is not TOML ({error}); {remedy}") from None
    testbed = table.get("testbed")
    namespace = testbed.get("namespace") if isinstance(testbed, dict) else None
    if not isinstance(namespace, str) or not namespace.strip():
        raise ConfigError(f"{where}: has no `[testbed] namespace`; {remedy}")
    try:
        return _namespace(namespace.strip())
    except ValueError as error:
        raise ConfigError(f"{where}: namespace {namespace!r}: {error}; {remedy}") from None


def _settle_tls(values: dict[str, Any], sources: dict[str, str], environment: _Environment) -> None:
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


def database_to_write(
    asked: Path | None, environ: Mapping[str, str], home: Path, system_folder: Path = SYSTEM_STATE_FOLDER
) -> tuple[Path, str]:
    """Return the database file of the daemon and the rule that chose it, for people to read.

    `asked` is an option's or `Settings.db`; `environ` is what `read_environment` returned.
    """
    return next(
        (path, rule)
        for path, rule in _candidates(asked, environ, home, system_folder)
        if path.parent != system_folder or os.access(system_folder, os.W_OK | os.X_OK)
    )


def database_to_read(
    asked: Path | None, environ: Mapping[str, str], home: Path, system_folder: Path = SYSTEM_STATE_FOLDER
) -> tuple[Path, str]:
    """Return the first database that exists, else the one to write; one that was asked for by name is final."""
    for path, rule in _candidates(asked, environ, home, system_folder):
        if os.access(path, os.F_OK):
            return path, rule
    return database_to_write(asked, environ, home, system_folder)


def _candidates(
    asked: Path | None, environ: Mapping[str, str], home: Path, system_folder: Path
) -> Iterator[tuple[Path, str]]:
    if asked is not None:
        yield asked, "asked for"
        return
    if named := environ.get("FASTMON_DB"):
        yield _from_home(Path(named), home), "FASTMON_DB"
        return
    if state_folder := environ.get("STATE_DIRECTORY", "").split(":")[0]:
        yield Path(state_folder, DATABASE_NAME), "$STATE_DIRECTORY"
    yield system_folder / DATABASE_NAME, str(system_folder)
    rule = "$XDG_STATE_HOME" if environ.get("XDG_STATE_HOME") else "~/.local/state"
    user_folder = Path(environ.get("XDG_STATE_HOME") or home / ".local/state")
    yield user_folder / "fastmon-daemon" / DATABASE_NAME, rule
