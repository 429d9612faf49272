"""Rules for all requests: authentication, content types and error responses."""

from __future__ import annotations

import pytest

NOT_PROVIDED = {"detail": "Authentication credentials were not provided."}
INVALID = {"detail": "Invalid token."}
WRITES = ("runs/", "stf-files/", "fastmon-files/", "workflows/", "workflow-stages/", "subscribers/")
PAGE = "text/html; charset=utf-8"


@pytest.mark.parametrize("path", [*WRITES, "systemagents/heartbeat/", "namespaces/ensure/"])
def test_writing_without_a_token_or_with_a_wrong_one_is_forbidden(anonymous, wrong_token, path):
    rejected = anonymous.post(path, {})
    assert (rejected.status_code, rejected.json()) == (403, NOT_PROVIDED)
    rejected = wrong_token.post(path, {})
    assert (rejected.status_code, rejected.json()) == (403, INVALID)


def test_numbers_are_rejected_with_401(anonymous, wrong_token):
    for client, body in ((anonymous, NOT_PROVIDED), (wrong_token, INVALID)):
        rejected = client.post("state/next-agent-id/")
        assert (rejected.status_code, rejected.json()) == (401, body)
        assert rejected.headers["WWW-Authenticate"] == "Token"


def test_reading_needs_no_token_but_rejects_a_wrong_one(anonymous, wrong_token):
    assert anonymous.get("fastmon-files/?tf_filename=there-is-none").status_code == 200
    rejected = wrong_token.get("fastmon-files/?tf_filename=there-is-none")
    assert (rejected.status_code, rejected.json()) == (403, INVALID)


def test_another_scheme_is_no_token_and_an_empty_token_is_wrong(anonymous):
    for header, body in (
        ("Bearer 0123456789abcdef0123456789abcdef01234567", NOT_PROVIDED),
        ("Token ", {"detail": "Invalid token header. No credentials provided."}),
    ):
        rejected = anonymous.post("fastmon-files/", {}, headers={"Authorization": header})
        assert (rejected.status_code, rejected.json()) == (403, body)


@pytest.mark.parametrize("path", ["fastmon-files", "state/next-agent-id"])
def test_a_path_without_trailing_slash_is_redirected(api, path):
    moved = api.post(path, {})
    assert (moved.status_code, moved.text) == (301, "")
    assert moved.headers["Location"].endswith(f"/api/{path}/")


def test_an_unknown_path_gets_a_page(api):
    missing = api.get("nosuch/")
    assert (missing.status_code, missing.headers["Content-Type"]) == (404, PAGE)


@pytest.mark.parametrize(
    ("body", "status", "answer"),
    [
        ('{"stf_file": ', 400, {"detail": "JSON parse error - Expecting value: line 1 column 14 (char 13)"}),
        ("[]", 400, {"non_field_errors": ["Invalid data. Expected a dictionary, but got list."]}),
        ('"abc"', 400, {"non_field_errors": ["Invalid data. Expected a dictionary, but got str."]}),
        (
            '{"metadata": NaN}',
            400,
            {"detail": "JSON parse error - Out of range float values are not JSON compliant: 'NaN'"},
        ),
    ],
)
def test_a_body_that_is_no_json_object_is_rejected(api, body, status, answer):
    rejected = api.post("fastmon-files/", data=body, headers={"Content-Type": "application/json"})
    assert (rejected.status_code, rejected.json()) == (status, answer)


def test_a_body_of_another_type_is_rejected(api):
    rejected = api.post("fastmon-files/", data="{}", headers={"Content-Type": "text/plain"})
    assert rejected.status_code == 415
    assert rejected.json() == {"detail": 'Unsupported media type "text/plain" in request.'}


def test_a_form_is_accepted_like_json(api, stf, name):
    made = api.post("fastmon-files/", data={"stf_file": stf["stf_filename"], "tf_filename": f"{name}.tf"})
    assert (made.status_code, made.json()["tf_filename"]) == (201, f"{name}.tf")


def test_a_body_of_three_megabytes_gets_a_page(api, stf, name):
    body = {"stf_file": stf["stf_filename"], "tf_filename": f"{name}.tf", "metadata": {"blob": "x" * 3_000_000}}
    rejected = api.post("fastmon-files/", body)
    assert (rejected.status_code, rejected.headers["Content-Type"]) == (400, PAGE)


def test_a_client_that_accepts_only_an_event_stream_gets_a_406(api):
    rejected = api.get("fastmon-files/?tf_filename=there-is-none", headers={"Accept": "text/event-stream"})
    assert rejected.status_code == 406
    assert rejected.json() == {"detail": "Could not satisfy the request Accept header."}


def test_a_put_needs_all_required_fields(api, tf):
    rejected = api.call("PUT", f"fastmon-files/{tf['tf_file_id']}/", {"status": "done"})
    required = ["This field is required."]
    assert (rejected.status_code, rejected.json()) == (400, {"stf_file": required, "tf_filename": required})


def test_there_is_no_messages_endpoint(api):
    for answer in (api.post("messages/", {"msg_type": "tf_file_registered"}), api.get("messages/")):
        assert (answer.status_code, answer.headers["Content-Type"]) == (404, PAGE)
