"""docs/reference/json.md has every key of every `--json`, with its type: checked against what the programs print."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import click
import pytest

from fastmon_client.cli import cli as client
from fastmon_daemon.base.clock import format_timestamp, utcnow
from fastmon_daemon.cli import cli as daemon
from tests.messages.schemas import is_valid, schema
from tests.processes import LiveTestbed, live_testbed, name, wait_until

Output = tuple[str, Any]
FOREIGN = "of.another.run.stf"
CLIENT = "fastmon_client"


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> list[Output]:
    with live_testbed(tmp_path_factory.mktemp("json")) as testbed:
        return list(outputs(testbed))


def outputs(testbed: LiveTestbed) -> Iterator[Output]:
    """What each command prints of a day in which a lot happens."""
    yield from call(testbed, "config")
    yield from call(testbed, "verdict", "7", says="error")
    testbed.register(1, 2, 3, 4)
    testbed.post("stf-files/", {"run": testbed.run_pk, "stf_filename": FOREIGN})
    daemon = testbed.daemon(FASTMON_STUCK_AFTER="1")
    types = "tf_file_registered,fastmon_status,fastmon_run_summary"
    client = testbed.start("start", "--json", "--message-types", types, program=CLIENT)
    blind = testbed.start(
        "start", "--json", "--agents", "nobody", "--reference", "9", program=CLIENT
    )  # it raises an alarm
    wait_until(lambda: testbed.monitor.server.broadcaster.clients == 2, "the clients are connected")
    testbed.publish({"msg_type": "run_imminent", "run_id": "100014", "execution_id": "e-1"})
    testbed.publish({"msg_type": "stf_ready", "run_id": None, "filename": "a.stf"})
    testbed.publish({"msg_type": "stf_ready", "run_id": "100015", "filename": FOREIGN})
    testbed.publish({"msg_type": "stf_ready", "run_id": "100014", "filename": name(1), "size_bytes": 10**9,
                     "tf_count": 1000, "checksum": "c", "sequence": 1})  # fmt: skip
    testbed.announce(2)
    testbed.wait_for(completed=2, failed=1)
    testbed.broker.stop()
    wait_until(lambda: "link to the broker is down" in testbed.log(), "the broker is down")
    yield from call(testbed, "inspect")
    testbed.broker.start()
    wait_until(lambda: testbed.log().count("link to the broker is up") > 1, "the broker is back")
    testbed.publish({"msg_type": "end_run", "run_id": "100014", "total_stf_files": 5})
    yield from call(testbed, "reconcile", "--run", "100014")  # it recovers those whose messages were not sent
    testbed.wait_for(completed=5, failed=1)
    wait_until(lambda: any("fastmon_run_summary" in body for body in testbed.heard), "the run is complete")
    for words in ((), (name(1),), ("--rejected",), ("--run", "100014"), ("--state", "failed")):
        yield from call(testbed, "inspect", *words)
    yield from call(testbed, "report", "--since", "1h")
    yield from call(testbed, "verdict", "100014")
    (testbed.folder / ".env").write_text("SWF_LOG_LEVEL=DEBUG\nFASTMON_SETTLE=9\n")
    (testbed.folder / ".env").chmod(0o600)
    yield from call(testbed, "reload")
    yield from call(testbed, "check")
    yield from call(testbed, "healthcheck")
    yield from call(testbed, "healthcheck", "--ready")
    for found in map(json.loads, testbed.call("export").stdout.splitlines()):
        yield (
            ("export", found)
            if found["kind"] == "failed"
            else ("rejected", {k: v for k, v in found.items() if k != "kind"})
        )
    for words in (("discard", FOREIGN, "--run", "100015", "--reason", "no file"), ("replay", "1"), ("retry", "no.stf")):
        yield from call(testbed, *words, says="retry, discard, include, replay, purge")
    yield from call(testbed, "acts")
    yield from call(testbed, "backup", str(testbed.folder / "copy.db"))
    yield from call(testbed, "daq", "--stf", "2", "--rate", "50")
    for child in (client, blind):
        child.send_signal(signal.SIGINT)
        for line in child.stdout.read().decode().splitlines():
            yield f"start {json.loads(line)['kind']}", json.loads(line)
    for _, found in call(testbed, "summary", "--run", "100014", program=CLIENT):
        yield "summary", {"strip": found.pop("strip")}
        yield "start run", found
    yield from call(testbed, "status", program=CLIENT)
    yield "fastmon-client report", shift_report(testbed)
    daemon.terminate()
    assert daemon.wait(40) == 0
    yield from call(testbed, "demo", "--stf", "3")


def shift_report(testbed: LiveTestbed) -> Any:
    """A report with the folder of a dashboard that has seen an alarm and an outage."""
    alarm = {
        "kind": "stfs_missing", "subject": "100014", "run": "100014", "title": "STFs are missing", "severity": "bad",
        "evidence": "one", "acknowledged": {"by": "Ana", "at": format_timestamp(utcnow()), "note": "told the DAQ"},
    }  # fmt: skip
    outage = {"word": "NOT FLOWING", "reason": "no daemon"}
    since = {"since": format_timestamp(utcnow()), "until": None, "is_end_known": True}
    journal = {"at": since["since"], "alarms": [{**alarm, **since}], "outages": [{**outage, **since}]}
    folder = testbed.folder / "dashboard"
    folder.mkdir(mode=0o700)
    (folder / "journal.json").write_text(json.dumps(journal))
    words = ("--format", "json", "--state", str(folder), "--note", "quiet")
    done = testbed.call("report", *words, program=CLIENT)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def call(
    testbed: LiveTestbed, *words: str, says: str = "", program: str = "fastmon_daemon", **changes: str
) -> Iterator[Output]:
    done = testbed.call(*words, "--json", program=program, **changes)
    try:
        yield says or words[0], json.loads(done.stdout)
    except ValueError as exc:
        raise AssertionError(f"{words}: {done.stdout}{done.stderr}") from exc


DOCUMENT = Path(__file__).parents[1] / "docs" / "reference" / "json.md"
KINDS = {
    str: {"text", "time"},
    int: {"integer", "number"},
    float: {"number"},
    bool: {"true or false"},
    type(None): {"null"},
}
Shape = dict[str, str]
"""Key -> its type in the document; a key of an inner object has a path."""


def shapes() -> dict[str, Shape]:
    """Heading -> the keys of its table."""
    sections = re.split(r"^##+ (.+)\n", DOCUMENT.read_text(encoding="utf-8"), flags=re.MULTILINE)
    pairs = zip(sections[1::2], sections[2::2], strict=True)
    return {name: dict(re.findall(r"^\| `(.+?)` \| (.+?) \|", text, re.MULTILINE)) for name, text in pairs}


class Comparison:
    """Values against the document: what is wrong, and which keys were seen."""

    def __init__(self) -> None:
        self.shapes = shapes()
        self.wrong: list[str] = []
        self.seen: set[tuple[str, str]] = set()

    def compare(self, value: Any, shape: str, path: str = "") -> None:
        """Note what is wrong with the object *value* at *path* of *shape*, and what is in it."""
        if shape == "verdict":
            self._compare_verdict(value)
            return
        for key, each in value.items():
            found = next((name for name in (path + key, f"{path}*") if name in self.shapes[shape]), None)
            if found is None:
                self.wrong.append(f"{shape}: {path}{key} is not documented: {each!r}")
                continue
            self.seen.add((shape, found))
            self._compare_type(each, self.shapes[shape][found], shape, found)

    def _compare_type(self, value: Any, declared: str, shape: str, path: str) -> None:
        if declared == "any" or (value is None and declared.endswith(" or null")):
            return
        declared = declared.removesuffix(" or null")
        if declared.startswith("list of ") and isinstance(value, list):
            for each in value:
                self._compare_type(each, declared.removeprefix("list of "), shape, f"{path}[]")
        elif link := re.fullmatch(r"\[(.+?)\]\(.+?\)", declared):
            self.compare(value, link[1])
        elif declared == "object" and isinstance(value, dict):
            self.compare(value, shape, f"{path}.")
        elif not KINDS.get(type(value), set()) & {declared, *declared.split(" or ")}:
            self.wrong.append(f"{shape}: {path} is {value!r}, documented as {declared}")

    def _compare_verdict(self, value: Any) -> None:
        head = {"sender": "", "processed_by": "", "timestamp": "", "run_number": None, "event_id": str(UUID(int=0))}
        message = {"msg_type": "fastmon_run_summary", **head, **value}
        if message.keys() != schema("fastmon_run_summary")["properties"].keys() or not is_valid(message):
            self.wrong.append(f"verdict: {value}")


def test_the_document_has_what_the_programs_print(printed: list[Output]) -> None:
    comparison = Comparison()
    for section, value in printed:
        comparison.compare(value, section)
    assert comparison.wrong == []
    documented = {(shape, key) for shape, keys in comparison.shapes.items() for key in keys}
    assert documented - comparison.seen == set()


def test_every_command_with_json_has_a_section(printed: list[Output]) -> None:
    sections = {name for section, _ in printed for name in re.findall(r"\w+", section)}
    programs: tuple[click.Group, ...] = (daemon, client)
    for program in programs:
        context = click.Context(program)
        commands = (program.get_command(context, name) for name in program.list_commands(context))
        having = {each.name for each in commands if each and any("--json" in option.opts for option in each.params)}
        assert having <= sections
