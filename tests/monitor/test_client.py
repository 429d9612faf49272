"""The responses of the monitor to each call, and the results or errors they become."""

from __future__ import annotations

import json
import re
from collections.abc import Collection

import pytest

from fastmon_daemon.base.errors import LinkBlocked, LinkDown, ParentNotRegistered, PermanentError, TransientError
from fastmon_daemon.monitor import MonitorClient, UnreadableRow
from fastmon_daemon.monitor.directory import describe_address, list_agents
from fastmon_daemon.monitor.responses import MeaninglessAnswer
from tests.builders import logged
from tests.monitor.scripted_monitor import EXISTS, HTML, NO_STF, ROW, TF, TOKEN, Action, Server, resets, says


def test_a_registered_tf_is_returned_with_the_id_of_the_monitor(server: Server, monitor: MonitorClient) -> None:
    server.script = [says(201, ROW)]

    registered, difference = monitor.register_tf(TF)

    line, headers, body = server.requests[0]
    assert registered.tf_file_id == ROW["tf_file_id"]
    assert difference is None
    assert line == "POST /swf-monitor/api/fastmon-files/"
    assert headers["authorization"] == f"Token {TOKEN}"
    assert headers["content-type"] == "application/json"
    assert json.loads(body) == {k: v for k, v in ROW.items() if k not in {"tf_file_id", "checksum"}}


def test_a_tf_that_an_earlier_try_registered_is_adopted_without_a_difference(
    server: Server, monitor: MonitorClient
) -> None:
    server.script = [says(400, EXISTS), says(200, [ROW])]

    registered, difference = monitor.register_tf(TF)

    assert (registered.tf_file_id, difference) == (ROW["tf_file_id"], None)
    assert server.request_lines[1] == "GET /swf-monitor/api/fastmon-files/?tf_filename=a_tf_001.tf"


def test_a_tf_that_another_writer_registered_is_adopted_with_its_difference(
    server: Server, monitor: MonitorClient
) -> None:
    server.script = [says(400, EXISTS), says(200, [ROW | {"tf_first": 57, "tf_last": 77, "file_size_bytes": 7}])]

    registered, difference = monitor.register_tf(TF)

    assert (registered.tf_first, registered.tf_last) == (57, 77)
    assert difference == "range 57-77 instead of 60-80, size 7 instead of 2100"


def test_rows_with_other_names_are_not_adopted(server: Server, monitor: MonitorClient) -> None:
    other = ROW | {"tf_filename": "b_tf_001.tf", "stf_file": "b.stf"}
    server.script = [says(400, EXISTS), says(200, [other, ROW])]

    assert monitor.register_tf(TF)[0].tf_filename == TF.tf_filename


@pytest.mark.parametrize("errors", [EXISTS, EXISTS | NO_STF])
def test_a_name_that_belongs_to_another_stf_is_a_permanent_error(
    errors: object, server: Server, monitor: MonitorClient
) -> None:
    server.script = [says(400, errors), says(200, [ROW | {"stf_file": "b.stf"}])]

    with pytest.raises(PermanentError, match=r"of b\.stf, not of a\.stf"):
        monitor.register_tf(TF)


def test_a_tf_that_exists_but_is_not_listed_is_retried(server: Server, monitor: MonitorClient) -> None:
    server.script = [says(400, EXISTS), says(200, [])]

    with pytest.raises(MeaninglessAnswer, match="does not list it"):
        monitor.register_tf(TF)


@pytest.mark.parametrize("script", [[says(400, NO_STF)], [says(400, NO_STF | EXISTS), says(200, [])]])
def test_an_stf_that_is_not_registered_yet_is_waited_for(
    script: list[Action], server: Server, monitor: MonitorClient
) -> None:
    server.script = script

    with pytest.raises(ParentNotRegistered, match=r"stf_filename=a\.stf does not exist"):
        monitor.register_tf(TF)


@pytest.mark.parametrize("status", [400, 406, 413, 415, 422])
def test_rejected_data_fail_at_once_with_the_text_of_the_monitor(
    status: int, server: Server, monitor: MonitorClient
) -> None:
    server.script = [says(status, {"tf_filename": ["This field may not be blank."]})]

    with pytest.raises(PermanentError, match=f"{status}.*may not be blank"):
        monitor.register_tf(TF)
    assert len(server.request_lines) == 1


def test_a_400_without_json_fails_the_stf_only_if_the_monitor_responds_otherwise(
    server: Server, monitor: MonitorClient
) -> None:
    bad_request = says(400, "<h1>Bad Request (400)</h1>")
    server.script = [bad_request, says(200, []), bad_request, bad_request]

    with pytest.raises(PermanentError, match="Bad Request"):
        monitor.register_tf(TF)
    with pytest.raises(LinkBlocked, match="SWF_MONITOR_URL"):
        monitor.register_tf(TF)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (says(401, {"detail": "Authentication credentials were not provided."}), "SWF_API_TOKEN"),
        (says(403, {"detail": "Invalid token."}), "SWF_API_TOKEN"),
        (says(301, "", Location="/api/fastmon-files/"), "SWF_MONITOR_URL"),
        (says(302, "", Location="https://login.example.org/"), r"login\.example\.org.*SWF_MONITOR_URL"),
        (says(407, "Proxy Authentication Required"), "proxy"),
        (says(404, HTML), "SWF_MONITOR_URL"),
        (says(405, {"error": "MCP endpoint accepts POST JSON-RPC only"}), "SWF_MONITOR_URL"),
    ],
)
def test_a_response_that_rejects_us_blocks_the_link_and_names_the_setting(
    answer: Action, hint: str, server: Server, monitor: MonitorClient
) -> None:
    server.script = [answer] * 3

    for call in (lambda: monitor.register_tf(TF), lambda: monitor.stf_files(7), monitor.probe):
        with pytest.raises(LinkBlocked, match=hint) as caught:
            call()
        assert TOKEN not in str(caught.value)
    assert len(server.request_lines) == 3, "no redirect is followed and nothing is tried twice"


def stf_row(n: int) -> dict[str, object]:
    return {
        "stf_filename": f"{n}.stf",
        "file_size_bytes": n,
        "checksum": None,
        "tf_count": None,
        "created_at": "2026-11-21T15:57:04-05:00",
    }


def page(count: int, listed: int) -> Action:
    return says(200, {"count": count, "next": None, "previous": None, "results": [stf_row(n) for n in range(listed)]})


def test_all_stfs_of_a_run_are_listed_with_their_rows(server: Server, monitor: MonitorClient) -> None:
    server.script = [page(2, 2)]

    stfs = monitor.stf_files(100014).new

    assert [stf.stf_filename for stf in stfs] == ["0.stf", "1.stf"]
    rest = {key: value for key, value in stf_row(1).items() if value is not None}
    for read in ("stf_filename", "run", "file_size_bytes", "checksum", "tf_count", "created_at"):
        rest.pop(read, None)
    assert json.loads(stfs[1].body) == rest
    assert server.request_lines == ["GET /swf-monitor/api/stf-files/?run_number=100014&limit=1000"]


@pytest.mark.parametrize("chunk", [100, 100_000])
def test_only_new_rows_are_read_whole_and_not_too_many(
    server: Server, monitor: MonitorClient, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastmon_daemon.monitor.row_stream._CHUNK_BYTES", chunk)
    rows = [{**stf_row(n), "run": 77} for n in range(5)]
    server.script = [says(200, {"count": 5, "results": rows})]
    asked: list[str] = []

    def new_of(names: Collection[str]) -> set[str]:
        asked.extend(names)
        return {*names} - {"0.stf", "3.stf"}

    listed = monitor.stf_files(7, new_of=new_of, most=2)

    assert listed.names == {f"{n}.stf" for n in range(5)}
    assert [stf.stf_filename for stf in listed.new] == ["1.stf", "2.stf"]
    assert asked == [f"{n}.stf" for n in range(5)]
    assert listed.run_key == 77


@pytest.mark.parametrize(("listed", "run_key"), [([{**stf_row(0), "run": 77}], 77), ([stf_row(0)], None), ([], None)])
def test_the_stfs_of_a_run_are_counted(
    server: Server, monitor: MonitorClient, listed: list[dict[str, object]], run_key: int | None
) -> None:
    server.script = [says(200, {"count": 5, "next": None, "previous": None, "results": listed})]
    assert monitor.stf_count(7) == (5, run_key)
    assert server.request_lines == ["GET /swf-monitor/api/stf-files/?run_number=7&limit=1"]


@pytest.mark.parametrize("content", [[stf_row(0)], {"results": []}, {"count": 200_001, "results": [stf_row(0)]}])
def test_a_list_that_tells_no_possible_count_is_none(server: Server, monitor: MonitorClient, content: object) -> None:
    server.script = [says(200, content)]
    with pytest.raises(MeaninglessAnswer, match="the monitor counts"):
        monitor.stf_count(7)


def test_a_number_beyond_the_range_of_floats_in_a_row_becomes_null(server: Server, monitor: MonitorClient) -> None:
    row = json.dumps({**stf_row(0), "metadata": {"start": "BIG"}}).replace('"BIG"', "1e999")
    server.script = [says(200, f'{{"count": 1, "results": [{row}]}}')]

    assert json.loads(monitor.stf_files(7).new[0].body, parse_constant=pytest.fail)["metadata"] == {"start": None}


def test_a_long_run_is_requested_again_in_one_page(server: Server, monitor: MonitorClient) -> None:
    server.script = [page(1500, 1000), page(1501, 1501)]

    assert len(monitor.stf_files(7).names) == 1501
    assert server.request_lines[1].endswith("limit=2500")


def test_a_run_that_is_known_to_be_long_is_requested_in_one_page_at_once(
    server: Server, monitor: MonitorClient
) -> None:
    server.script = [page(1501, 1501)]

    assert len(monitor.stf_files(7, at_least=1501).names) == 1501
    assert server.request_lines == ["GET /swf-monitor/api/stf-files/?run_number=7&limit=2001"]


def test_a_long_list_that_fails_is_a_transient_error_and_not_link_down(server: Server, monitor: MonitorClient) -> None:
    server.script = [page(1500, 1000), resets, resets]

    with pytest.raises(TransientError) as caught:
        monitor.stf_files(7)
    assert not isinstance(caught.value, LinkDown)


def test_tf_files_of_other_stfs_are_dropped_even_if_the_monitor_ignores_the_filter(
    server: Server, monitor: MonitorClient
) -> None:
    server.script = [says(200, [ROW, {**ROW, "stf_file": "another.stf"}])]

    assert [tf.stf_filename for tf in monitor.tf_files(TF.stf_filename)] == [TF.stf_filename]
    assert server.request_lines == [f"GET /swf-monitor/api/fastmon-files/?stf_filename={TF.stf_filename}"]


@pytest.mark.parametrize(
    ("answer", "ended_at"),
    [
        (says(200, {"run_id": 77, "end_time": None}), None),
        (says(200, {"run_id": 77, "end_time": "2026-11-21T15:57:04-05:00"}), "2026-11-21T20:57:04.000+00:00"),
        (says(404, {"detail": "No Run matches the given query."}), None),
    ],
)
def test_the_end_time_of_a_run_is_read_from_its_row(
    answer: Action, ended_at: str | None, server: Server, monitor: MonitorClient
) -> None:
    server.script = [answer]

    assert monitor.run_ended_at(77) == ended_at
    assert server.request_lines == ["GET /swf-monitor/api/runs/77/"]


def test_all_run_numbers_are_read_from_one_list(server: Server, monitor: MonitorClient) -> None:
    server.script = [says(200, [{"run_id": 1, "run_number": 100014}, {"run_id": 2, "run_number": 100015}])]

    assert monitor.run_numbers() == [100014, 100015]
    assert server.request_lines == ["GET /swf-monitor/api/runs/"]


def test_a_run_without_a_readable_number_hides_no_other(server: Server, monitor: MonitorClient) -> None:
    numbers = [None, "r7", [], 100015]
    server.script = [says(200, [{"run_id": n, "run_number": number} for n, number in enumerate(numbers)])]

    assert monitor.run_numbers() == [100015]


@pytest.mark.parametrize("end_time", ["2026-12-31T23:59:60Z", "yesterday"])
def test_an_end_whose_time_cannot_be_read_is_an_end(end_time: str, server: Server, monitor: MonitorClient) -> None:
    server.script = [says(200, {"run_id": 77, "end_time": end_time})]

    assert monitor.run_ended_at(77) == end_time


def test_a_row_without_an_end_time_is_unexpected_content(server: Server, monitor: MonitorClient) -> None:
    server.script = [says(200, {"run_id": 77})]

    with pytest.raises(UnreadableRow, match="unexpected content"):
        monitor.run_ended_at(77)


@pytest.mark.field("12")
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("created_at", "2026-12-31T23:59:60Z"),
        ("created_at", 1795294948.77),
        ("created_at", "10000-01-01T00:00:00Z"),
        ("file_size_bytes", "2 GB"),
        ("file_size_bytes", -1),
        ("checksum", ["x"]),
        ("tf_count", {}),
    ],
)
def test_a_field_that_cannot_be_read_takes_no_other_row_with_it(
    field: str, value: object, server: Server, monitor: MonitorClient
) -> None:
    rows = [stf_row(0), {**stf_row(1), field: value}, stf_row(2)]
    server.script = [says(200, {"count": 3, "results": rows})]

    stfs = monitor.stf_files(7).new
    assert [stf.stf_filename for stf in stfs] == ["0.stf", "1.stf", "2.stf"]
    assert [stf.unreadable for stf in stfs] == [(), (field,), ()]
    assert getattr(stfs[1], field) is None


@pytest.mark.field("12")
@pytest.mark.parametrize("row", [{"stf_filename": None}, {"stf_filename": 7}, {"stf_filename": ""}, {}, None, "0.stf"])
def test_a_row_that_names_no_stf_is_logged_and_takes_no_other_with_it(
    row: object, server: Server, monitor: MonitorClient
) -> None:
    server.script = [says(200, {"count": 2, "results": [row, stf_row(1)]})]

    with logged("WARNING") as lines:
        assert [stf.stf_filename for stf in monitor.stf_files(7).new] == ["1.stf"]
    assert lines == [f"run 7: the monitor lists a row that names no STF: {json.dumps(row)}\n"]


def test_a_list_that_does_not_match_its_count_is_a_transient_error(server: Server, monitor: MonitorClient) -> None:
    server.script = [page(3, 2)]

    with pytest.raises(TransientError, match="counts 3 STFs in run 7 but lists 2") as caught:
        monitor.stf_files(7)
    assert not isinstance(caught.value, LinkDown)


@pytest.mark.field("12")
@pytest.mark.parametrize("row", [{"instance_name": 7}, {"instance_name": "b", "hostname": "\x1b[2J"}, [], "x", None])
def test_an_agent_whose_row_cannot_be_read_hides_no_other(row: object, server: Server, monitor: MonitorClient) -> None:
    server.script = [says(200, [{"instance_name": "a", "agent_type": "fastmon"}, row, {"instance_name": "c"}])]

    assert [agent.name for agent in list_agents(monitor)] == ["a", "c"]


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("http://127.0.0.1", "127.0.0.1 is 127.0.0.1, port 80"),
        ("https://127.0.0.1/swf", "127.0.0.1 is 127.0.0.1, port 443; trusted certificates: the CAs"),
        ("https://127.0.0.1:8443", "127.0.0.1 is 127.0.0.1, port 8443; trusted certificates: the CAs"),
    ],
)
def test_the_address_of_the_monitor_has_the_port_that_is_called(monitor: MonitorClient, url: str, text: str) -> None:
    told = describe_address(monitor, url, {})
    assert re.sub("trusted certificates: .+", "trusted certificates: the CAs", told) == text
