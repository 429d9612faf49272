"""Outbound messages: the fields that all have, and the event id by which readers recognize repetitions.

None has a field `agent_name`: the monitor would take it for a heart-beat. This module must not know STOMP, SQL or the
clock.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from uuid import UUID, uuid5

_EVENT_NAMESPACE = UUID("6e0f9f1c-5b0e-5c0c-9d5e-0a3f0e1d7c55")

Announce = Callable[[str, str], None]
"""Sends a body with its event id; returns when the receiver has confirmed. Raises: FastmonError."""
Send = Callable[[str, str], Future[None] | None]
"""As `Announce`, but may return a future that is done when the receiver has confirmed, and fails as `Announce` does."""


def outbound_message(
    msg_type: str, event_key: str, sender: str, timestamp: str, fields: Mapping[str, object]
) -> tuple[str, str]:
    """Return the body (JSON) of a message, and its event id: a UUID5 that is the same for the same *event_key*.

    *timestamp* is ISO 8601 with an offset.
    """
    event_id = str(uuid5(_EVENT_NAMESPACE, event_key))
    common = {
        "msg_type": msg_type,
        "event_id": event_id,
        "sender": sender,
        "processed_by": sender,
        "timestamp": timestamp,
    }
    return json.dumps({**common, **fields}), event_id
