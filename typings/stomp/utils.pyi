from typing import Any

class Frame:
    # None is a heart-beat.
    cmd: str | None
    headers: dict[str, str]
    original_headers: dict[str, str]
    # Text where auto_decode is on and the body is UTF-8; a listener's frames always have one.
    body: Any
    def __init__(self, cmd: str | None, headers: dict[str, str] | None = ..., body: Any = ...) -> None: ...

def get_uuid() -> str: ...

class PollableQueue:
    def fileno(self) -> int: ...
