"""Names of the links, and the link that each step of an STF needs. Light: read-only commands import it."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping

INTAKE = "broker"
"""The connection that messages arrive on."""
ANNOUNCEMENTS = "announcements"
"""The connection that messages are sent on: a refused one must not end the intake."""
MESSAGES = "messages"
"""Announcements by REST: not every monitor accepts them."""

ANNOUNCE_STEP = "notify_clients"
"""The step that announces TF files; it is rate-limited when an STF is late."""

LINK_OF_STEP: Mapping[str, str] = {"register_tfs": "monitor", ANNOUNCE_STEP: ANNOUNCEMENTS}
"""Step -> the link that its calls need; a step that is missing here needs none."""

PIPELINED: frozenset[str] = frozenset({ANNOUNCEMENTS})
"""Links whose calls only send, and are answered later: many of them need one thread."""


def describe(link: str) -> str:
    """Return *link* as the subject of a sentence."""
    return f"link {'for' if link in (ANNOUNCEMENTS, MESSAGES) else 'to the'} {link}"


def describe_up(link: str) -> str:
    """Return a sentence that says that *link* is up."""
    return f"{link} are accepted" if link in (ANNOUNCEMENTS, MESSAGES) else f"the {link} is up"


def remedy_if_down(link: str, reason: str) -> str:
    """Return what to do when *link* is down for *reason*. A blocked link's own reason names its remedy."""
    if any(os.strerror(code).lower() in reason.lower() for code in (errno.EMFILE, errno.ENFILE)):
        return "raise the limit of open files (ulimit -n; LimitNOFILE= of a unit); work resumes by itself"
    peer = "broker" if link in (INTAKE, ANNOUNCEMENTS) else "monitor"
    return f"start the {peer} or correct its address; work resumes by itself"


def links_for(notify: str) -> Mapping[str, str]:
    """Return step -> link when announcements go by *notify*, the value of FASTMON_NOTIFY."""
    match notify:
        case "rest":
            return {**LINK_OF_STEP, ANNOUNCE_STEP: MESSAGES}
        case "off":
            return {step: link for step, link in LINK_OF_STEP.items() if step != ANNOUNCE_STEP}
        case _:
            return LINK_OF_STEP
