"""`fastmon-daemon config`: what a person is told of the settings, be they right or wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from fastmon_daemon.cli import cli
from fastmon_daemon.outbox import DatabaseLock
from fastmon_daemon.settings import all_settings

SECRET = "hush-do-not-show"

Ask = Callable[..., Result]


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    monkeypatch.chdir(tmp_path)
    for name in {name for _, declared in all_settings() for name in declared.names} | {"STATE_DIRECTORY"}:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("FASTMON_DB", str(tmp_path / "outbox.db"))

    def asked(*words: str, **environ: str) -> Result:
        return CliRunner().invoke(cli, ["config", *words], env={"FASTMON_NAMESPACE": "epic", **environ})

    return asked


def told(result: Result) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in json.loads(result.stdout)["settings"]}


def test_every_setting_is_told_with_value_source_and_meaning(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text('export FASTMON_WORKERS="8"\n')
    result = ask("--json", FASTMON_ANNOUNCE="/topic/a,/topic/b", FASTMON_DURABLE="YES")
    assert result.exit_code == 0
    settings = told(result)
    assert list(settings) == [declared.names[0] for _, declared in all_settings()]
    assert all(each["meaning"] and each["source"] for each in settings.values())
    facts = {name: (settings[name]["value"], settings[name]["source"]) for name in settings}
    assert facts["FASTMON_WORKERS"] == ("8", ".env")
    assert facts["FASTMON_ANNOUNCE"] == ("/topic/a,/topic/b", "environment")
    assert facts["FASTMON_DURABLE"] == ("on", "environment")
    assert facts["FASTMON_SELECTION_FRACTION"] == ("0.1", "default")


def test_of_a_secret_only_whether_it_is_set_and_where_is_told(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(SECRET)
    for words in ((), ("--json",)):
        result = ask(*words, SWF_API_TOKEN_FILE="token", MQ_PASSWD=SECRET)
        assert SECRET not in result.output
    settings = told(result)
    assert (settings["SWF_API_TOKEN"]["set"], settings["SWF_API_TOKEN"]["source"]) == (True, "SWF_API_TOKEN_FILE")
    assert (settings["ACTIVEMQ_PASSWORD"]["set"], settings["ACTIVEMQ_PASSWORD"]["source"]) == (True, "environment")
    assert told(ask("--json"))["SWF_API_TOKEN"]["set"] is False


def test_all_that_is_wrong_is_told_and_the_rest_is_shown_all_the_same(ask: Ask) -> None:
    result = ask("--json", FASTMON_WORKERS="many", ACTIVEMQ_USE_SSL="on", FASTMON_NAMESPACE="", MQ_USER="me")
    assert result.exit_code == 78
    lines = result.stderr.splitlines()
    assert len(lines) == 3
    assert all("fastmon-daemon: " in line for line in lines)
    settings = told(result)
    wrong = {name for name, each in settings.items() if each["error"]}
    assert wrong == {"FASTMON_WORKERS", "FASTMON_NAMESPACE", "ACTIVEMQ_USE_SSL"}
    assert settings["FASTMON_WORKERS"]["source"] == "environment"
    assert settings["ACTIVEMQ_USER"]["value"] == "me"


def test_a_name_of_ours_that_means_nothing_is_warned_of(ask: Ask) -> None:
    result = ask("--json", FASTMON_WORKER="4")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["unknown"] == ["FASTMON_WORKER"]
    assert "FASTMON_WORKER: no such setting, ignored; correct or unset it" in result.stderr


def test_the_database_its_rule_and_its_daemon_are_told_and_nothing_is_made(ask: Ask, tmp_path: Path) -> None:
    database = tmp_path / "outbox.db"
    assert json.loads(ask("--json").stdout)["database"] == {
        "path": str(database), "rule": "FASTMON_DB", "exists": False, "daemon": None,
    }  # fmt: skip
    assert not list(tmp_path.glob("outbox*"))
    with DatabaseLock(database):
        assert "daemon: process" in ask().stdout


def test_what_a_terminal_would_obey_is_escaped(ask: Ask) -> None:
    assert "\x1b" not in ask(ACTIVEMQ_USER="a", FASTMON_SUBSCRIBE="/topic/\u202e").stdout
    assert "\\u202e" in ask(FASTMON_SUBSCRIBE="/topic/\u202e").stdout
