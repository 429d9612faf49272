"""The messages field by field, from their types: JSON Schemas (2020-12) and the tables of docs/messages.md.

A walk of our own: the types need a dozen forms, and their meanings are the texts below the fields, which no library of
schemas reads. Since when a field is there stands in the schema itself (`x-since`): a field that the last version of the
schema does not have is of this version.
"""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NotRequired, Union, get_args, get_origin, get_type_hints

from fastmon_daemon import __version__
from fastmon_daemon.messages import CommonFields, FastmonStatus, RunSummary, TfFileRegistered
from fastmon_daemon.messages.accepted import EndRunFields, InboundFields, StfReadyFields
from fastmon_daemon.reconciler.verdict import Verdict

FOLDER = Path(__file__).parent / "schemas"

OUTBOUND: dict[str, tuple[type, ...]] = {
    "tf_file_registered": (CommonFields, TfFileRegistered),
    "fastmon_status": (CommonFields, FastmonStatus),
    "fastmon_run_summary": (CommonFields, RunSummary, Verdict),
}
INBOUND: dict[str, tuple[type, ...]] = {
    "stf_ready": (InboundFields, StfReadyFields),
    **dict.fromkeys(("run_imminent", "start_run", "pause_run", "resume_run"), (InboundFields,)),
    "end_run": (InboundFields, EndRunFields),
    "stf_gen": (InboundFields,),
}
MESSAGES = OUTBOUND | INBOUND

_TITLES = {
    "tf_file_registered": "A TF file is registered with the monitor",
    "fastmon_status": "The health of a daemon",
    "fastmon_run_summary": "A run is complete: every STF is accounted for",
    "stf_ready": "An STF can be read",
    "run_imminent": "A run is about to begin",
    "start_run": "A run begins",
    "pause_run": "A run pauses",
    "resume_run": "A run resumes",
    "end_run": "A run is over",
    "stf_gen": "The DAQ wrote an STF: its run is active",
}
_PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean", NoneType: "null"}
_WORDS = {"string": "text", "boolean": "true or false"}
_FORMATS = {"uuid": "UUID", "date-time": "time"}


def schema_of(name: str) -> dict[str, Any]:
    """The JSON Schema of the messages of type *name*. Other fields may be added: readers ignore them."""
    path = FOLDER / f"{name}.json"
    found = _object(MESSAGES[name], json.loads(path.read_text(encoding="utf-8")) if path.exists() else {})
    msg_type = found["properties"]["msg_type"]
    if "enum" not in msg_type:
        msg_type["const"] = name
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:fastmon:message:{name}",
        "title": _TITLES[name],
        **found,
    }


def schema_files() -> dict[Path, str]:
    """The file of each schema, with its text."""
    return {FOLDER / f"{name}.json": json.dumps(schema_of(name), indent=2) + "\n" for name in MESSAGES}


def fields_table(name: str) -> str:
    """The fields of a message as a Markdown table; `inbound`, `outbound`: those that all of them have."""
    groups = {"inbound": INBOUND, "outbound": OUTBOUND}
    example = min(groups.get(name, {name: ()}))
    common = meanings_of(MESSAGES[example][0]).keys()
    shown = schema_of(example)
    if name in groups:
        del shown["properties"]["msg_type"]["const"]
    own = set().union(*(meanings_of(each) for each in MESSAGES[example][1:]))
    wanted = common if name in groups else own
    rows = "".join(
        f"| `{path}` | {_type_words(each)} | {nulls} | {each['description']} | {each['x-since']} |\n"
        for path, each, nulls in _rows(shown)
        if path.partition(".")[0].removesuffix("[]") in wanted
    )
    return f"| Field | Type | Null | Meaning | Since |\n|---|---|---|---|---|\n{rows}"


def _rows(found: dict[str, Any], before: str = "") -> Iterator[tuple[str, dict[str, Any], str]]:
    """Each field and those in it: its path, its schema, and whether it may be null or missing."""
    for key, each in found.get("properties", {}).items():
        yield before + key, each, _null_words(each, may_miss=key not in found["required"])
        yield from _rows(each, f"{before}{key}.")
        yield from _rows(each.get("items", {}), f"{before}{key}[].")


def _type_words(found: dict[str, Any]) -> str:
    constants = [found["const"]] if "const" in found else found.get("enum", [])
    if constants:
        return ", ".join(f"`{word}`" for word in constants)
    if "format" in found:
        return _FORMATS[found["format"]]
    words = [_WORDS.get(kind, kind) for kind in _types(found) if kind != "null"]
    if words == ["array"]:
        return f"list of {_type_words(found['items'])}"
    return " or ".join(words) or "any"


def _null_words(found: dict[str, Any], may_miss: bool) -> str:
    may_be_null = "null" in _types(found) or not {"type", "const", "enum"} & found.keys()
    return " or ".join(word for word, holds in (("null", may_be_null), ("missing", may_miss)) if holds) or "no"


def _types(found: dict[str, Any]) -> list[str]:
    kinds = found.get("type", [])
    return [kinds] if isinstance(kinds, str) else kinds


def _object(types: tuple[type, ...], known: dict[str, Any]) -> dict[str, Any]:
    """The schema of an object that has the fields of all *types*; *known*: as it was."""
    properties, required = {}, []
    for each in types:
        meanings = meanings_of(each)
        for key, declared in get_type_hints(each, include_extras=True).items():
            is_optional = get_origin(declared) is NotRequired
            before = known.get("properties", {}).get(key, {})
            properties[key] = {
                **_schema(get_args(declared)[0] if is_optional else declared, before),
                "description": meanings[key],
                "x-since": before.get("x-since", __version__),
            }
            if not is_optional and key not in required:
                required.append(key)
    return {"type": "object", "properties": properties, "required": required}


def _schema(declared: Any, known: dict[str, Any]) -> dict[str, Any]:
    origin, arguments = get_origin(declared), get_args(declared)
    if origin is Annotated:
        return _schema(arguments[0], known) | dict(arguments[1])
    if origin is Literal:
        return {"const": arguments[0]} if len(arguments) == 1 else {"enum": list(arguments)}
    if origin is tuple:
        return {"type": "array", "items": _schema(arguments[0], known.get("items", {}))}
    if origin in {Union, UnionType}:  # a limit holds for one type only: text, numbers
        choices = [_schema(each, known) for each in arguments]
        limits = {key: value for each in choices for key, value in each.items()}
        return {**limits, "type": [each["type"] for each in choices]}
    if is_dataclass(declared):
        return _object((declared,), known)
    return {} if declared is object else {"type": _PLAIN[declared]}


def meanings_of(owner: type) -> dict[str, str]:
    """The text below each field of a class, on one line. Raises: ValueError if a field has none."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for node, below in zip(tree.body, [*tree.body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            if not (isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)):
                raise ValueError(f"{owner.__name__}.{node.target.id}: no text below the field says what it means")
            found[node.target.id] = " ".join(str(below.value.value).replace("None", "null").split())
    return found
