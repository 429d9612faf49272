"""Every field of every row, with every kind of value: a row is read strictly, or it is unreadable."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmon_daemon.base.clock import parse_timestamp
from fastmon_daemon.monitor import UnreadableRow, rows
from tests.monitor.scripted_monitor import ROW

STF = {
    "file_id": "5d1c", "run": 1, "stf_filename": "swf.7.000001.stf", "file_size_bytes": 9, "checksum": "ab",
    "tf_count": 1000, "created_at": "2026-11-21T20:56:56Z", "status": "registered", "metadata": {"state": "run"},
}  # fmt: skip
RUN = {"run_id": 77, "run_number": 100014, "end_time": None}
AGENT = {"instance_name": "a", "agent_type": "fastmon", "namespace": "ns", "last_heartbeat": "2026-11-21T20:56:56Z"}
PARSERS: dict[str, tuple[Callable[[Any], object], dict[str, Any]]] = {
    "TF file": (rows.tf_file, ROW),
    "STF file": (rows.stf_file, STF),
    "number of a run": (rows.run_number_of, RUN),
    "end of a run": (rows.run_end, RUN),
    "key of a run": (partial(rows.integer_in, key="run_id"), RUN),
    "id": (partial(rows.id_in, key="file_id"), STF),
    "optional id": (partial(rows.optional_id_in, key="file_id"), STF),
    "text": (partial(rows.text_in, key="instance_name"), AGENT),
    "time": (partial(rows.time_in, key="last_heartbeat"), AGENT),
}
DEEP: Any = []
for _ in range(900):
    DEEP = [DEEP]
ODD = [
    {"a": 1}, [1], True, 10**24, -(10**24), 2**63, 1e999, -1e999, math.nan, 1.5, "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59.999999-14:00", "9999-12-31T23:59:59Z", "10000-01-01", "\0", "\x1b[2J", "a/b", "..", " ", "",
    "\ud800", "\u202e", "x" * 3_000_000, {"a": "x" * 3_000_000}, DEEP, None,
]  # fmt: skip
ANY = st.one_of(
    st.sampled_from(ODD),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=5,
    ),
)


def texts_and_numbers(value: object) -> Iterator[str | int]:
    """All that is stored of a parsed row."""
    if is_dataclass(value) and not isinstance(value, type):
        for each in fields(value):
            yield from texts_and_numbers(getattr(value, each.name))
    elif isinstance(value, dict):
        yield from texts_and_numbers(list(value.values()))
    elif isinstance(value, list | tuple):
        for each in value:
            yield from texts_and_numbers(each)
    elif value is not None and not hasattr(value, "tzinfo"):
        assert isinstance(value, str | int)
        yield value


def check(parse: Callable[[Any], object], row: object) -> None:
    try:
        parsed = parse(row)
    except UnreadableRow as exc:
        parsed = str(exc)
    for each in texts_and_numbers(parsed):
        if isinstance(each, int):
            assert type(each) is int
            assert -(2**63) < each < 2**63
        else:
            assert each.isprintable()
            assert len(each.encode()) <= 4096
    if isinstance(parsed, rows.StfFile):
        json.loads(parsed.body)
        assert parsed.created_at is None or 1990 <= parse_timestamp(parsed.created_at).year < 2200


@pytest.mark.parametrize(("kind", "field"), [(kind, field) for kind, (_, row) in PARSERS.items() for field in row])
@settings(max_examples=25)
@given(value=ANY)
def test_a_field_of_any_value_is_read_strictly_or_makes_the_row_unreadable(kind: str, field: str, value: Any) -> None:
    parse, row = PARSERS[kind]
    check(parse, {**row, field: value})


@pytest.mark.parametrize("value", ODD, ids=range(len(ODD)))
@pytest.mark.parametrize("kind", PARSERS)
def test_each_odd_value_in_each_field_and_as_the_row_itself(kind: str, value: Any) -> None:
    parse, row = PARSERS[kind]
    check(parse, value)
    for field in row:
        check(parse, {**row, field: value})
        check(parse, {key: known for key, known in row.items() if key != field})


@pytest.mark.parametrize("kind", PARSERS)
def test_a_real_row_is_read(kind: str) -> None:
    parse, row = PARSERS[kind]
    parse(row)
