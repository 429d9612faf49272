"""What holds for every call: who may, in which form, and what errors look like."""

from __future__ import annotations

import pytest

NOT_PROVIDED = {"detail": "Authentication credentials were not provided."}
INVALID = {"detail": "Invalid token."}
WRITES = ("runs/", "stf-files/", "fastmon-files/", "workflows/", "workflow-stages/", "subscribers/")
PAGE = "text/html; charset=utf-8"


@pytest.mark.parametrize("path", [*WRITES, "systemagents/heartbeat/", "namespaces/ensure/"])
def test_who_writes_without_a_token_or_with_a_wrong_one_is_forbidden(anonymous, stranger, path):
    refused = anonymous.post(path, {})
    assert (refused.status_code, refused.json()) == (403, NOT_PROVIDED)
    refused = stranger.post(path, {})
    assert (refused.status_code, refused.json()) == (403, INVALID)


def test_numbers_are_refused_with_401(anonymous, stranger):
    for asker, body in ((anonymous, NOT_PROVIDED), (stranger, INVALID)):
        refused = asker.post("state/next-agent-id/")
        assert (refused.status_code, refused.json()) == (401, body)
        assert refused.headers["WWW-Authenticate"] == "Token"


def test_anybody_may_read_but_not_with_a_wrong_token(anonymous, stranger):
    assert anonymous.get("fastmon-files/?tf_filename=there-is-none").status_code == 200
    refused = stranger.get("fastmon-files/?tf_filename=there-is-none")
    assert (refused.status_code, refused.json()) == (403, INVALID)


def test_another_scheme_is_no_token_and_an_empty_one_is_a_wrong_one(anonymous):
    for header, body in (
        ("Bearer 0123456789abcdef0123456789abcdef01234567", NOT_PROVIDED),
        ("Token ", {"detail": "Invalid token header. No credentials provided."}),
    ):
        refused = anonymous.post("fastmon-files/", {}, headers={"Authorization": header})
        assert (refused.status_code, refused.json()) == (403, body)


@pytest.mark.parametrize("path", ["fastmon-files", "state/next-agent-id"])
def test_without_the_slash_at_the_end_the_answer_is_a_redirect(api, path):
    moved = api.post(path, {})
    assert (moved.status_code, moved.text) == (301, "")
    assert moved.headers["Location"].endswith(f"/api/{path}/")


def test_an_unknown_path_is_answered_with_a_page(api):
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
def test_a_body_that_is_no_json_object_is_refused(api, body, status, answer):
    refused = api.post("fastmon-files/", data=body, headers={"Content-Type": "application/json"})
    assert (refused.status_code, refused.json()) == (status, answer)


def test_a_body_of_another_type_is_refused(api):
    refused = api.post("fastmon-files/", data="{}", headers={"Content-Type": "text/plain"})
    assert refused.status_code == 415
    assert refused.json() == {"detail": 'Unsupported media type "text/plain" in request.'}


def test_a_form_is_as_good_as_json(api, stf, name):
    made = api.post("fastmon-files/", data={"stf_file": stf["stf_filename"], "tf_filename": f"{name}.tf"})
    assert (made.status_code, made.json()["tf_filename"]) == (201, f"{name}.tf")


def test_a_body_of_three_megabytes_is_answered_with_a_page(api, stf, name):
    body = {"stf_file": stf["stf_filename"], "tf_filename": f"{name}.tf", "metadata": {"blob": "x" * 3_000_000}}
    refused = api.post("fastmon-files/", body)
    assert (refused.status_code, refused.headers["Content-Type"]) == (400, PAGE)


def test_who_accepts_only_an_event_stream_gets_none_here(api):
    refused = api.get("fastmon-files/?tf_filename=there-is-none", headers={"Accept": "text/event-stream"})
    assert refused.status_code == 406
    assert refused.json() == {"detail": "Could not satisfy the request Accept header."}


def test_a_tf_file_is_not_put_in_part(api, tf):
    refused = api.call("PUT", f"fastmon-files/{tf['tf_file_id']}/", {"status": "done"})
    required = ["This field is required."]
    assert (refused.status_code, refused.json()) == (400, {"stf_file": required, "tf_filename": required})


def test_messages_are_not_posted_over_rest(api):
    for answer in (api.post("messages/", {"msg_type": "tf_file_registered"}), api.get("messages/")):
        assert (answer.status_code, answer.headers["Content-Type"]) == (404, PAGE)
