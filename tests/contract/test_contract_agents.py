"""Agents in the monitor: heart-beats, numbers, subscribers and logs."""

from __future__ import annotations

AGENT_KEYS = {
    "id", "instance_name", "agent_type", "description", "status", "last_heartbeat", "agent_url", "workflow_enabled",
    "current_stf_count", "total_stf_processed", "last_stf_processed", "pid", "hostname", "operational_state",
    "namespace", "metadata", "created_at", "updated_at",
}  # fmt: skip
REQUIRED = ["This field is required."]
LOG = {
    "app_name": "contract", "instance_name": "contract", "timestamp": "2026-11-21T12:00:00", "level": 20,
    "levelname": "INFO", "message": "hello", "module": "m", "funcname": "f", "lineno": 1, "process": 1,
    "thread": 140000000000000,
}  # fmt: skip
BEAT = "systemagents/heartbeat/"
NOON = "2026-11-21T12:00:00-05:00"


def test_agent_ids_are_unique_integers(api):
    answers = [api.post("state/next-agent-id/").json() for _ in range(3)]
    assert all(answer.keys() == {"agent_id", "status"} and answer["status"] == "success" for answer in answers)
    assert len({answer["agent_id"] for answer in answers}) == 3
    assert all(isinstance(answer["agent_id"], int) for answer in answers)


def test_run_numbers_are_integers(api):
    answer = api.post("state/next-run-number/").json()
    assert answer.keys() == {"run_number", "status"}
    assert isinstance(answer["run_number"], int)


def test_numbers_are_requested_by_post(api):
    rejected = api.get("state/next-agent-id/")
    assert (rejected.status_code, rejected.json()) == (405, {"detail": 'Method "GET" not allowed.'})


def test_the_first_heartbeat_creates_the_agent_and_the_next_updates_it(api, name):
    body = {"instance_name": name, "agent_type": "fastmon", "status": "OK", "pid": 4242, "operational_state": "READY"}
    first, second = api.post(BEAT, body), api.post(BEAT, body)
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json().keys() == AGENT_KEYS
    assert first.json()["id"] == second.json()["id"]


def test_most_fields_that_a_heartbeat_omits_are_reset_and_some_are_kept(api, name):
    full = {"instance_name": name, "agent_type": "fastmon", "description": "d", "status": "WARNING", "namespace": "ns"}
    api.post(BEAT, {**full, "pid": 4242, "hostname": "host1", "operational_state": "PROCESSING"})
    row = api.post(BEAT, {"instance_name": name}).json()
    reset = ("agent_type", "description", "status", "agent_url", "namespace")
    assert [row[field] for field in reset] == ["other", "", "OK", None, None]
    assert (row["pid"], row["hostname"], row["operational_state"]) == (4242, "host1", "PROCESSING")


def test_a_heartbeat_is_hardly_checked_and_unknown_fields_are_ignored(api, name):
    odd = {"agent_type": "FASTMON", "status": "WEIRD", "operational_state": "DRAINING", "current_stf_count": 7}
    row = api.post(BEAT, {"instance_name": name, **odd, "metadata": {"a": 1}, "nosuch": 1}).json()
    assert (row["agent_type"], row["status"], row["operational_state"]) == ("FASTMON", "WEIRD", "DRAINING")
    assert (row["current_stf_count"], row["metadata"]) == (0, None)


def test_a_heartbeat_that_does_not_fit_its_columns_gets_a_500(api, name):
    for wrong in ({"agent_type": "x" * 21}, {"status": "PROCESSING_LONG"}, {"pid": "abc"}):
        broken = api.post(BEAT, {"instance_name": name, **wrong})
        assert (broken.status_code, broken.headers["Content-Type"]) == (500, "text/html; charset=utf-8")


def test_a_patch_sets_the_counts_of_an_agent_and_heartbeats_keep_them(api, name):
    path = f"systemagents/{api.post(BEAT, {'instance_name': name, 'agent_type': 'fastmon'}).json()['id']}/"
    counts = {"workflow_enabled": True, "current_stf_count": 3, "total_stf_processed": 42}
    answer = api.patch(path, {**counts, "last_stf_processed": NOON})
    assert (answer.status_code, answer.json()) == (200, answer.json() | counts | {"last_stf_processed": NOON})
    after = api.post(BEAT, {"instance_name": name, "agent_type": "fastmon"}).json()
    assert after == after | counts | {"last_stf_processed": NOON}
    assert api.get(path).json() == after


def test_an_agent_is_found_by_its_id_and_not_by_its_name(api, name):
    api.post(BEAT, {"instance_name": name})
    missing = api.get(f"systemagents/{name}/")
    assert (missing.status_code, missing.json()) == (404, {"detail": "Not found."})


def test_an_agent_says_itself_that_it_has_ended(api, name):
    ended = {"instance_name": name, "agent_type": "fastmon", "status": "EXITED", "operational_state": "EXITED"}
    api.post(BEAT, ended | {"status": "OK", "operational_state": "READY"})
    row = api.post(BEAT, ended).json()
    assert (row["status"], row["operational_state"]) == ("EXITED", "EXITED")


def test_a_heartbeat_needs_a_name(api):
    rejected = api.post(BEAT, {"status": "OK"})
    assert (rejected.status_code, rejected.json()) == (400, {"instance_name": REQUIRED})


def test_the_filters_of_agents_are_ignored_and_anybody_may_read(api, anonymous, name):
    row = api.post(BEAT, {"instance_name": name, "agent_type": "fastmon"}).json()
    for query in ("instance_name=there-is-none", "namespace=there-is-none", "agent_type=data"):
        assert row["id"] in [each["id"] for each in anonymous.get(f"systemagents/?{query}").json()]


def test_a_namespace_is_ensured_and_its_owner_stays(api, name):
    first = api.post("namespaces/ensure/", {"name": name, "owner": "one"})
    second = api.post("namespaces/ensure/", {"name": name, "owner": "two", "description": "x"})
    assert (first.status_code, second.status_code) == (200, 200)
    made = {"name": name, "owner": "one", "description": "", "created": True, "status": "success"}
    assert first.json() == made
    assert second.json() == made | {"created": False}
    rejected = api.post("namespaces/ensure/", {"name": name})
    assert (rejected.status_code, rejected.json()) == (400, {"error": "owner is required", "status": "error"})


def test_a_subscriber_is_created_once_and_its_filter_is_ignored(api, name):
    body = {"subscriber_name": name, "description": "d", "is_active": True, "fraction": 1.0}
    row = api.create("subscribers/", body)
    assert (row["delivery_type"], row["message_filters"], row["messages_dropped"]) == ("activemq", {}, 0)
    again = api.post("subscribers/", body)
    assert again.status_code == 400
    assert again.json() == {"subscriber_name": ["subscriber with this subscriber name already exists."]}
    everybody = api.get("subscribers/?subscriber_name=there-is-none").json()
    assert row["subscriber_id"] in [each["subscriber_id"] for each in everybody]
    api.call("DELETE", f"subscribers/{row['subscriber_id']}/")


def test_a_log_needs_no_token_and_ignores_a_wrong_one(api, anonymous, wrong_token):
    for client in (api, anonymous, wrong_token):
        row = client.create("logs/", LOG)
        assert row.keys() == LOG.keys() | {"id", "extra_data"}
        assert row["timestamp"] == "2026-11-21T12:00:00-05:00"


def test_an_invalid_log_is_rejected_by_field(anonymous):
    assert anonymous.post("logs/", LOG | {"level": 25}).json() == {"level": ['"25" is not a valid choice.']}
    assert anonymous.post("logs/", LOG | {"message": ""}).json() == {"message": ["This field may not be blank."]}
    missing = anonymous.post("logs/", {"message": "x"})
    assert missing.status_code == 400
    assert missing.json() == dict.fromkeys(LOG.keys() - {"message", "level"}, REQUIRED)
