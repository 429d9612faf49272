"""Reference documents made from the declarations of the settings: `.env.example` and the table of the README."""

from collections.abc import Iterator

from fastmon_daemon.settings.fields import Setting
from fastmon_daemon.settings.schema import all_settings

_HEADINGS = {
    "monitor_url": "Monitor",
    "broker_host": "Broker",
    "subscribe": "Messages",
    "namespace": "Sampling",
    "db": "Daemon",
}
"""First field of a group -> heading of the group."""

_INTRODUCTION = """\
# Settings of fastmon-daemon. Copy this file to .env in the working folder, or to ~/.env, and uncomment what you change.
# Environment variables override .env, and .env overrides ~/.env. An empty value counts as not set.
"""


def env_example() -> str:
    """Return the text of `.env.example`: every setting commented out, with its default."""
    return _INTRODUCTION + "".join(_heading(field_name) + _example(setting) for field_name, setting in all_settings())


def settings_table() -> str:
    """Return a Markdown table of all settings: name, default, meaning."""
    rows = "".join(_row(setting) for _, setting in all_settings())
    return f"| Name | Default | Meaning |\n|---|---|---|\n{rows}"


def _heading(field_name: str) -> str:
    return f"\n# ---- {_HEADINGS[field_name]} ----\n" if field_name in _HEADINGS else ""


def _example(setting: Setting) -> str:
    notes = "".join(f"# {note}\n" for note in _notes(setting))
    return f"\n{notes}#{setting.names[0]}={setting.default}\n"


def _row(setting: Setting) -> str:
    default = f"`{setting.default}`" if setting.default else "-"
    return f"| `{setting.names[0]}` | {default} | {' '.join(_notes(setting))} |\n"


def _notes(setting: Setting) -> Iterator[str]:
    yield setting.meaning
    if setting.names[1:]:
        yield f"Alias: {', '.join(setting.names[1:])}."
    if setting.secret:
        files = " or ".join(f"{name}_FILE" for name in setting.names)
        yield f"Secret: {files} may name a file that contains it."
