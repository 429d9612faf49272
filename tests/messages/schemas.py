"""The JSON Schemas of the messages, for the tests."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker

FOLDER = Path(__file__).parents[2] / "docs" / "schemas"
OUTBOUND = ("tf_file_registered", "fastmon_status", "fastmon_run_summary")
INBOUND = ("stf_ready", "run_imminent", "start_run", "pause_run", "resume_run", "end_run", "stf_gen")


@cache
def schema(msg_type: str) -> dict[str, Any]:
    return dict(json.loads((FOLDER / f"{msg_type}.json").read_text(encoding="utf-8")))


@cache
def _validator(msg_type: str) -> Draft202012Validator:
    Draft202012Validator.check_schema(schema(msg_type))
    return Draft202012Validator(schema(msg_type), format_checker=FormatChecker())


def is_valid(message: dict[str, Any]) -> bool:
    """Whether *message* fits the schema of its type."""
    return bool(_validator(message["msg_type"].replace("data_ready", "stf_ready")).is_valid(message))
