"""Names of the links, and the link that each step of an STF needs. Light: read-only commands import it."""

from __future__ import annotations

from collections.abc import Mapping

ANNOUNCE_STEP = "notify_clients"
"""The step that announces TF files; it is rate-limited when an STF is late."""

LINK_OF_STEP: Mapping[str, str] = {"register_tfs": "monitor", ANNOUNCE_STEP: "broker"}
"""Step -> the link that its calls need; a step that is missing here needs none."""


def links_for(notify: str) -> Mapping[str, str]:
    """Return step -> link when announcements go by *notify*, the value of FASTMON_NOTIFY.

    Not every monitor accepts messages by REST. They have their own link, so that registration goes on without it.
    """
    match notify:
        case "rest":
            return {**LINK_OF_STEP, ANNOUNCE_STEP: "messages"}
        case "off":
            return {step: link for step, link in LINK_OF_STEP.items() if step != ANNOUNCE_STEP}
        case _:
            return LINK_OF_STEP
