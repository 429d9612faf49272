"""Selectors of JMS on the headers of messages, as far as agents need them.

A comparison is `NAME = 'text'`, `NAME <> 'text'`, `NAME IN ('text', ...)`, `NAME IS NULL` or `NAME IS NOT NULL`;
several are joined by AND and OR, of which AND binds more strongly. As in SQL, nothing that is compared with a missing
header matches.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from fastmon_daemon.testbed.stomp_broker.frames import ProtocolError

Selector = Callable[[Mapping[str, str]], bool]
"""Whether a message with these headers is selected."""

_TEXT = r"'(?:[^']|'')*'"
_COMPARISON = re.compile(
    rf"\s*(?P<name>[A-Za-z_$][\w$]*)\s*"
    rf"(?:(?P<operator>=|<>|\bIN\b)\s*(?P<texts>{_TEXT}|\(\s*{_TEXT}(?:\s*,\s*{_TEXT})*\s*\))"
    rf"|\bIS\b\s+(?P<not>NOT\s+)?NULL\b)\s*",
    re.IGNORECASE | re.ASCII,
)
_JOINT = re.compile(r"(AND|OR)\b", re.IGNORECASE)


def selector_of(text: str) -> Selector:
    """The selector in *text*. Raises: ProtocolError for one that this broker does not understand."""
    alternatives: list[list[Selector]] = [[]]
    position = 0
    while found := _COMPARISON.match(text, position):
        alternatives[-1].append(_comparison(found, text))
        position = found.end()
        if position == len(text):
            return lambda headers: any(all(each(headers) for each in conditions) for conditions in alternatives)
        joint = _JOINT.match(text, position)
        if joint is None:
            break
        if joint[1].upper() == "OR":
            alternatives.append([])
        position = joint.end()
    raise _invalid(text)


def _comparison(found: re.Match[str], text: str) -> Selector:
    name, operator = found["name"], found["operator"]
    if operator is None:
        return lambda headers: (name in headers) == bool(found["not"])
    if (operator.upper() == "IN") != found["texts"].startswith("("):
        raise _invalid(text)
    values = {each[1:-1].replace("''", "'") for each in re.findall(_TEXT, found["texts"])}
    return lambda headers: name in headers and (headers[name] in values) == (operator != "<>")


def _invalid(text: str) -> ProtocolError:
    return ProtocolError(f"Invalid selector: {text}: this broker knows = <> IN, IS NULL, AND, OR, and texts in quotes")
