"""What a resource of the monitor is: a collection under ``/api/`` described by data.

Owns the shape of that description. It must not know any one resource.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from fastmon_daemon.testbed.monitor.fields import Field, Text


@dataclass(frozen=True)
class Resource:
    """One collection under ``/api/``. Filters that are not named here are ignored, as the monitor does."""

    path: str
    model: str
    title: str
    key: str
    fields: tuple[Field, ...]
    together: tuple[str, ...] = ()
    """Fields that make a unique set."""
    filters: Mapping[str, str] = field(default_factory=dict)
    """Query name -> the field that it compares."""
    paginated: bool = False
    anonymous_writes: bool = False
    by_name: dict[str, Field] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_name", {each.name: each for each in self.fields})


def made(*names: str) -> Iterable[Field]:
    """Columns that the server fills in: the key and the times."""
    return (Text(name=name, read_only=True) for name in names)
