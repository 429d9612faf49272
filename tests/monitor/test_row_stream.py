"""Reading a long list row by row."""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import pytest
from urllib3 import HTTPResponse

from fastmon_daemon.monitor import STAGES, AgentClient, OutcomeUnknown, RequestRejected, row_stream
from tests.monitor.scripted_monitor import Server, says

TOKEN = "f" * 40
ROWS = [{"n": n, "text": "[],{} \N{GREEK SMALL LETTER MU}" * n} for n in range(5)]


def response_of(content: bytes) -> HTTPResponse:
    return HTTPResponse(body=BytesIO(content), preload_content=False)


@pytest.mark.parametrize("chunk", [1, 7, 65536])
@pytest.mark.parametrize("content", [ROWS, {"count": 5, "next": None, "results": ROWS}, []])
def test_rows_arrive_whole_however_the_content_is_cut(
    content: Any, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_stream, "_CHUNK_BYTES", chunk)
    text = b"\xef\xbb\xbf" + json.dumps(content, ensure_ascii=False, indent=1).encode()
    assert list(row_stream.RowStream(response_of(text))) == (ROWS if content else [])


@pytest.mark.parametrize("content", [b"", b"<html>", b'[{"n": 1}, {"n"', b'{"detail": "no"}', b"[1, nope]"])
def test_content_that_is_no_whole_list_has_an_unknown_outcome_after_its_rows(content: bytes) -> None:
    with pytest.raises(OutcomeUnknown, match="not a list of rows"):
        list(row_stream.RowStream(response_of(content)))


def test_a_row_beyond_the_bound_is_not_collected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_stream, "MAX_ROW_CHARS", 1000)
    monkeypatch.setattr(row_stream, "_CHUNK_BYTES", 100)
    response = response_of(b'[{"text": "' + b"x" * 100_000)
    with pytest.raises(OutcomeUnknown):
        list(row_stream.RowStream(response))
    assert response.tell() < 2000


@pytest.fixture
def client(server: Server) -> Iterator[AgentClient]:
    made = AgentClient(server.url, lambda: TOKEN, connections=1, timeout_s=(5, 5))
    yield made
    made.close()


def test_a_table_is_read_until_its_reader_has_enough(server: Server, client: AgentClient) -> None:
    seen: list[Any] = []
    server.script += [says(200, ROWS), says(200, ROWS)]

    def take(row: Any) -> bool:
        seen.append(row)
        return len(seen) < 2

    client.read_table(STAGES, take)
    assert seen == ROWS[:2]
    client.read_table(STAGES, lambda _: True)  # on a new connection: the rest of the first answer was not read


def test_a_table_that_is_refused_or_is_not_there_raises_as_any_call(server: Server, client: AgentClient) -> None:
    for action, error in (
        (says(404, "<html>"), RequestRejected),
        (says(500, "<html>"), OutcomeUnknown),
        (says(200, {"detail": "odd"}), OutcomeUnknown),
    ):
        server.script.append(action)
        with pytest.raises(error):
            client.read_table(STAGES, lambda _: True)
