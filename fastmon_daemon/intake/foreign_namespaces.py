"""Class ForeignNamespaces: warns when all messages so far are of other namespaces, as with a wrong setting."""

from __future__ import annotations

from collections.abc import Callable

from loguru import logger

WARN_AFTER_S = 180.0
"""Seconds of messages of other namespaces only, after which the warning is logged."""
_MAX_NAMES = 10


class ForeignNamespaces:
    """The namespaces that were heard before the first message of our own; times are monotonic seconds."""

    def __init__(self, own: str, monotonic: Callable[[], float]) -> None:
        self._own = own
        self._monotonic = monotonic
        self._names: dict[str, None] = {}
        self._since: float | None = None
        self._is_settled = False
        """Whether a message of our own has come, or the warning was logged."""

    def heard_own(self) -> None:
        """Note a message of our namespace: the setting is right."""
        self._is_settled = True

    def heard(self, namespace: str) -> None:
        """Note a message of another namespace; log one warning if for `WARN_AFTER_S` there were no others."""
        if self._is_settled:
            return
        now = self._monotonic()
        self._since = now if self._since is None else self._since
        if len(self._names) < _MAX_NAMES:
            self._names[namespace] = None
        if now - self._since >= WARN_AFTER_S:
            self._is_settled = True
            logger.warning(
                "no messages of namespace {!r}: for {:.0f} min only messages of {}: check FASTMON_NAMESPACE and "
                "SWF_TESTBED_CONFIG", self._own, (now - self._since) / 60, ", ".join(map(repr, sorted(self._names))),
            )  # fmt: skip
