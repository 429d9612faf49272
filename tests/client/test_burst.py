"""A stream that brings more at once than one turn takes: nothing of it is left out."""

from __future__ import annotations

import json

from bench.stream_server import serving, stream_of
from tests.client.client_process import Client

EVENTS = 7000


def test_of_thousands_that_come_at_once_every_one_is_shown():
    with serving(stream_of(EVENTS)) as url, Client(url, "--json", "--count", str(EVENTS)) as client:
        code, lines = client.ended()
    told = [json.loads(line) for line in lines]
    shown = [each for each in told if each["kind"] == "tf_file"]
    assert code == 0
    assert len({each["tf_file_id"] for each in shown}) == len(shown) == EVENTS
    assert not any(each["backfilled"] for each in shown)  # the server has no tables to fill from
