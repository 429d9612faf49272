"""Numbers as text that Prometheus reads (exposition format 0.0.4). It must not know what is counted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: its name, kind (gauge, counter), meaning, and a number for each set of labels."""

    name: str
    kind: str
    meaning: str
    samples: Mapping[tuple[tuple[str, str], ...], float]


def single(name: str, kind: str, meaning: str, value: float) -> Family:
    """A metric without labels."""
    return Family(name, kind, meaning, {(): value})


def labelled(name: str, kind: str, meaning: str, label: str, values: Mapping[str, float]) -> Family:
    """A metric with one label."""
    return Family(name, kind, meaning, {((label, each),): value for each, value in values.items()})


def exposition(families: Iterable[Family]) -> str:
    """The whole page."""
    return "".join(f"{line}\n" for family in families for line in _lines(family))


def _lines(family: Family) -> Iterator[str]:
    meaning = family.meaning.replace("\\", r"\\").replace("\n", r"\n")
    yield f"# HELP {family.name} {meaning}"
    yield f"# TYPE {family.name} {family.kind}"
    for labels, value in family.samples.items():
        inner = ",".join(f'{name}="{_quoted(text)}"' for name, text in labels)
        yield f"{family.name}{{{inner}}} {value!r}" if inner else f"{family.name} {value!r}"


def _quoted(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
