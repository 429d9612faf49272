"""Runs, STF files and TF files: validation, uniqueness and filters."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest

Row = dict[str, Any]
RUN_KEYS = {"run_id", "run_number", "start_time", "end_time", "run_conditions"}
TF_KEYS = {
    "tf_file_id", "stf_file", "tf_filename", "file_size_bytes", "checksum", "status", "metadata", "created_at",
    "updated_at", "tf_count", "tf_first", "tf_last",
}  # fmt: skip
STF_KEYS = {
    "file_id", "machine_state", "stf_filename", "file_size_bytes", "checksum", "created_at", "status", "metadata",
    "workflow_id", "daq_state", "daq_substate", "workflow_status", "tf_count", "run",
}  # fmt: skip
REQUIRED = ["This field is required."]


def new_tf(stf: Row, name: str, **more: Any) -> Row:
    return {"stf_file": stf["stf_filename"], "tf_filename": f"{name}.tf", **more}


def test_a_run_is_created_once_and_its_naive_time_is_new_york_time(api, run):
    assert run.keys() == RUN_KEYS
    assert run["start_time"] == "2026-11-21T12:00:00-05:00"
    again = api.post("runs/", {"run_number": run["run_number"], "start_time": run["start_time"]})
    assert again.status_code == 400
    assert again.json() == {"run_number": ["run with this run number already exists."]}


def test_a_run_needs_a_start_time_and_an_integer_as_number(api):
    assert api.post("runs/", {"run_number": 1999999999}).json() == {"start_time": REQUIRED}
    wrong = api.post("runs/", {"run_number": "abc", "start_time": "2026-11-21T12:00:00"})
    assert (wrong.status_code, wrong.json()) == (400, {"run_number": ["A valid integer is required."]})


def test_the_filters_of_runs_are_ignored(api, run):
    everything = api.get("runs/").json()
    assert isinstance(everything, list)
    for query in ("run_number=1", "limit=1", "nosuch=1"):
        assert len(api.get(f"runs/?{query}").json()) >= len(everything)


def test_a_run_is_found_by_its_key_and_not_by_its_number(api, run):
    assert api.get(f"runs/{run['run_id']}/").json() == run
    missing = api.get(f"runs/{run['run_number']}/")
    assert (missing.status_code, missing.json()) == (404, {"detail": "No Run matches the given query."})


def test_a_run_is_ended_by_a_patch(api, run):
    ended = api.patch(f"runs/{run['run_id']}/", {"end_time": "2026-11-21T18:00:00+00:00"})
    assert (ended.status_code, ended.json()["end_time"]) == (200, "2026-11-21T13:00:00-05:00")


def test_an_stf_is_created_once(api, stf):
    assert stf.keys() == STF_KEYS
    again = api.post("stf-files/", {"run": stf["run"], "stf_filename": stf["stf_filename"]})
    assert again.status_code == 400
    assert again.json() == {"stf_filename": ["stf file with this stf filename already exists."]}


@pytest.mark.parametrize(
    ("change", "errors"),
    [
        ({"run": 999999999}, {"run": ['Invalid pk "999999999" - object does not exist.']}),
        ({"run": None}, {"run": ["This field may not be null."]}),
        ({"status": "nope"}, {"status": ['"nope" is not a valid choice.']}),
        ({"stf_filename": "s" * 256}, {"stf_filename": ["Ensure this field has no more than 255 characters."]}),
    ],
)
def test_an_invalid_stf_is_rejected_by_field(api, run, name, change, errors):
    rejected = api.post("stf-files/", {"run": run["run_id"], "stf_filename": f"{name}.stf", **change})
    assert (rejected.status_code, rejected.json()) == (400, errors)


def test_an_stf_needs_its_run(api, name):
    assert api.post("stf-files/", {"stf_filename": f"{name}.stf"}).json() == {"run": REQUIRED}


def test_stf_files_are_found_by_name_and_run_number(api, run, stf):
    assert [row["file_id"] for row in api.get(f"stf-files/?stf_filename={stf['stf_filename']}").json()] == [
        stf["file_id"]
    ]
    assert [row["file_id"] for row in api.get(f"stf-files/?run_number={run['run_number']}").json()] == [stf["file_id"]]
    assert api.get("stf-files/?stf_filename=there-is-none.stf").json() == []
    assert api.get("stf-files/?status=bogus").json() == []


def test_a_malformed_run_number_or_workflow_id_is_rejected(api):
    wrong = api.get("stf-files/?run_number=abc")
    assert (wrong.status_code, wrong.json()) == (400, {"run_number": "must be an integer run number"})
    wrong = api.get("stf-files/?workflow_id=abc")
    text = "must be a UUID; to select a workflow's files filter by run_number/status"
    assert (wrong.status_code, wrong.json()) == (400, {"workflow_id": text})


def test_only_a_positive_limit_enables_pages(api, run, name):
    for number in range(3):
        api.create("stf-files/", {"run": run["run_id"], "stf_filename": f"{name}-{number}.stf"})
    query = f"stf-files/?run_number={run['run_number']}"
    first = api.get(f"{query}&limit=2").json()
    assert first.keys() == {"count", "next", "previous", "results"}
    assert (first["count"], len(first["results"]), first["previous"]) == (3, 2, None)
    assert first["next"].endswith(f"stf-files/?limit=2&offset=2&run_number={run['run_number']}")
    second = api.get(f"{query}&limit=2&offset=2").json()
    assert (len(second["results"]), second["next"]) == (1, None)
    for unpaged in ("limit=0", "limit=abc", "offset=1"):
        assert len(api.get(f"{query}&{unpaged}").json()) == 3


def test_an_stf_is_found_by_its_id_and_not_by_its_name(api, stf):
    assert api.get(f"stf-files/{stf['file_id']}/").json() == stf
    assert api.get(f"stf-files/{stf['file_id']}.json").json() == stf
    for table in ("stf-files", "fastmon-files"):
        for name in ("no-dot", stf["stf_filename"], "one.stf", f"{stf['file_id']}.stf"):  # its end is read as a format
            missing = api.get(f"{table}/{name}/")
            assert (missing.status_code, missing.json()) == (404, {"detail": "Not found."})
        missing = api.get(f"{table}/swf.100075.000001.stf/")
        assert (missing.status_code, missing.headers["Content-Type"]) == (404, "text/html; charset=utf-8")


def test_a_run_ends_by_a_patch(api, run):
    ended = {"end_time": "2026-11-21T13:00:00-05:00", "run_conditions": {"beam": "on"}}
    assert api.patch(f"runs/{run['run_id']}/", ended).json() == run | ended


def test_a_tf_file_is_created_once_whatever_the_second_request_contains(api, stf, tf):
    assert tf.keys() == TF_KEYS
    assert (tf["status"], tf["tf_first"], tf["tf_last"], tf["metadata"]) == ("registered", 0, 20, {"a": 1})
    again = api.post("fastmon-files/", {**new_tf(stf, "x"), "tf_filename": tf["tf_filename"], "tf_first": 7})
    assert again.status_code == 400
    assert again.json() == {"tf_filename": ["fast mon file with this tf filename already exists."]}
    assert api.get(f"fastmon-files/{tf['tf_file_id']}/").json() == tf


def test_an_unknown_stf_is_reported_with_all_other_errors(api, tf, name):
    unknown = ["Object with stf_filename=nope.stf does not exist."]
    rejected = api.post("fastmon-files/", {"stf_file": "nope.stf", "tf_filename": f"{name}.x.tf"})
    assert (rejected.status_code, rejected.json()) == (400, {"stf_file": unknown})
    both = api.post("fastmon-files/", {"stf_file": "nope.stf", "tf_filename": tf["tf_filename"]}).json()
    assert both == {
        "stf_file": unknown,
        "tf_filename": ["fast mon file with this tf filename already exists."],
    }


@pytest.mark.parametrize(
    ("change", "field", "text"),
    [
        ({"tf_filename": None}, "tf_filename", "This field may not be null."),
        ({"tf_filename": "   "}, "tf_filename", "This field may not be blank."),
        ({"tf_filename": "a\0b"}, "tf_filename", "Null characters are not allowed."),
        ({"tf_filename": "a" * 256}, "tf_filename", "Ensure this field has no more than 255 characters."),
        ({"checksum": "c" * 65}, "checksum", "Ensure this field has no more than 64 characters."),
        ({"file_size_bytes": "1.5"}, "file_size_bytes", "A valid biginteger is required."),
        ({"file_size_bytes": 2**63}, "file_size_bytes", f"Ensure this value is less than or equal to {2**63 - 1}."),
        ({"tf_first": 2**31}, "tf_first", f"Ensure this value is less than or equal to {2**31 - 1}."),
        ({"status": "Registered"}, "status", '"Registered" is not a valid choice.'),
        ({"status": None}, "status", "This field may not be null."),
    ],
)
def test_an_invalid_tf_file_is_rejected_by_field(api, stf, name, change, field, text):
    rejected = api.post("fastmon-files/", new_tf(stf, name, **change) | change)
    assert (rejected.status_code, rejected.json()) == (400, {field: [text]})


def test_a_tf_file_needs_its_stf_and_its_name(api):
    rejected = api.post("fastmon-files/", {})
    assert (rejected.status_code, rejected.json()) == (400, {"stf_file": REQUIRED, "tf_filename": REQUIRED})


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"file_size_bytes": -1}, {"file_size_bytes": -1}),
        ({"file_size_bytes": "123"}, {"file_size_bytes": 123}),
        ({"file_size_bytes": 2.0}, {"file_size_bytes": 2}),
        ({"tf_first": 10, "tf_last": 5, "tf_count": 99}, {"tf_first": 10, "tf_last": 5, "tf_count": 99}),
        ({"metadata": None, "checksum": None}, {"metadata": None, "checksum": None}),
        ({"nosuch": 1, "tf_file_id": str(uuid4())}, {"status": "registered"}),
    ],
)
def test_an_unusual_tf_file_is_accepted(api, stf, name, given, kept):
    row = api.create("fastmon-files/", new_tf(stf, name, **given))
    assert {field: row[field] for field in kept} == kept
    assert row["tf_file_id"] != given.get("tf_file_id")


def test_spaces_around_a_name_are_removed(api, stf, name):
    assert api.create("fastmon-files/", new_tf(stf, name) | {"tf_filename": f"  {name} "})["tf_filename"] == name


def test_a_nul_inside_metadata_gets_a_500(api, stf, name):
    broken = api.post("fastmon-files/", new_tf(stf, name, metadata={"a": "x\0y"}))
    assert (broken.status_code, broken.headers["Content-Type"]) == (500, "text/html; charset=utf-8")
    assert api.get(f"fastmon-files/?tf_filename={name}.tf").json() == []


def test_tf_files_are_found_by_name_or_stf_and_an_empty_filter_is_ignored(api, stf, tf):
    assert api.get(f"fastmon-files/?tf_filename={tf['tf_filename']}").json() == [tf]
    assert api.get(f"fastmon-files/?stf_filename={stf['stf_filename']}").json() == [tf]
    assert api.get(f"fastmon-files/?tf_filename=&stf_filename={stf['stf_filename']}&status=registered").json() == [tf]
    assert api.get(f"fastmon-files/?stf_filename={stf['stf_filename']}&status=done").json() == []
    assert api.get("fastmon-files/?tf_filename=a+b").json() == []


def test_an_unknown_filter_is_ignored(api, tf):
    assert api.get("fastmon-files/?stf_file=nope.stf&limit=1").json()["count"] >= 1


def test_a_patch_changes_a_tf_file_and_replaces_its_metadata(api, tf):
    path = f"fastmon-files/{tf['tf_file_id']}/"
    assert api.patch(path, {"status": "done"}).json()["status"] == "done"
    assert api.patch(path, {"metadata": {"only": 1}}).json()["metadata"] == {"only": 1}
    rejected = api.patch(path, {"status": "sent"})
    assert (rejected.status_code, rejected.json()) == (400, {"status": ['"sent" is not a valid choice.']})
    missing = api.get(f"fastmon-files/{uuid4()}/")
    assert (missing.status_code, missing.json()) == (404, {"detail": "No FastMonFile matches the given query."})


def test_of_eight_concurrent_equal_registrations_exactly_one_succeeds(api, stf, name):
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: api.post("fastmon-files/", new_tf(stf, name)).status_code, range(8)))
    assert answers.count(201) == 1
    assert set(answers) <= {201, 400, 500}
    assert len(api.get(f"fastmon-files/?tf_filename={name}.tf").json()) == 1
