"""The reference of the settings as text, made from their declarations: `.env.example` and the table of the docs.

This module reads declarations only; it must not know any value that somebody has set.
"""

from collections.abc import Iterator
from itertools import chain

from fastmon_daemon.settings.fields import Setting
from fastmon_daemon.settings.schema import all_settings

_HEADINGS = {
    "monitor_url": "The monitor",
    "broker_host": "The broker",
    "subscribe": "Messages",
    "namespace": "What is sampled",
    "db": "The daemon itself",
}
"""First field of a group -> the group's heading."""

_INTRODUCTION = """\
# Settings of fastmon-daemon. Copy to .env in the working folder, or to ~/.env, and uncomment what you change.
# The environment wins over .env, and .env over ~/.env. Set to nothing, a setting counts as not set.
"""


def env_example() -> str:
    """Return the text of `.env.example`: every setting commented out with its default, secrets without a value."""
    return _INTRODUCTION + "".join(_heading(field_name) + _example(setting) for field_name, setting in all_settings())


def settings_table() -> str:
    """Return a Markdown table of every setting: name, default, meaning; it ends with a line break."""
    rows = (_row(setting) for _, setting in all_settings())
    return "\n".join(chain(("| Name | Default | Meaning |", "|---|---|---|"), rows)) + "\n"


def _heading(field_name: str) -> str:
    return f"\n# ---- {_HEADINGS[field_name]} ----\n" if field_name in _HEADINGS else ""


def _example(setting: Setting) -> str:
    notes = "".join(f"# {note}\n" for note in _notes(setting))
    return f"\n{notes}#{setting.names[0]}={setting.default}\n"


def _row(setting: Setting) -> str:
    default = f"`{setting.default}`" if setting.default else "-"
    return f"| `{setting.names[0]}` | {default} | {' '.join(_notes(setting))} |"


def _notes(setting: Setting) -> Iterator[str]:
    yield setting.meaning
    if setting.names[1:]:
        yield f"Also read as {', '.join(setting.names[1:])}."
    if setting.secret:
        files = " or ".join(f"{name}_FILE" for name in setting.names)
        yield f"Secret: {files} may name a file that holds it."
