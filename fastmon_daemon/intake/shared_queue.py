"""Class SharedQueue: what the messages of a queue that several daemons share say about its configuration.

Attributes are written by the broker's threads and read by any: each is replaced as a whole.
"""

from __future__ import annotations

from collections.abc import Callable

from fastmon_daemon.base.errors import EnoughWork

NO_WORK = 50
"""After so many messages in a row that are no work, the daemon says that others get all of it."""
_MAX_NAMES = 10


class SharedQueue:
    """Keeps messages of other namespaces at the broker until it is sure that our namespace is right.

    A daemon with a wrong namespace would acknowledge, and so lose, what belongs to the others.
    """

    def __init__(self, own: str, is_known: Callable[[], bool]) -> None:
        """*is_known* returns whether the database has a run of our namespace *own*."""
        self._own = own
        self._is_known = is_known
        self._is_right = False
        self._held: tuple[str, ...] = ()
        """The namespaces of the messages that are kept at the broker."""
        self._no_work = 0
        """Messages about STFs in a row that are no work."""

    def heard_own(self) -> None:
        """Note a message that bears our namespace, from the queue or from the topic."""
        self._is_right = True
        self._held = ()

    def heard(self, *, is_work: bool) -> None:
        """Note a message about an STF of ours, from the queue."""
        self._no_work = 0 if is_work else self._no_work + 1

    def may_ignore(self, namespace: str) -> None:
        """Return if a message of *namespace* may be acknowledged and ignored. Raises: EnoughWork: keep it."""
        if self._is_right or self._is_known():
            self.heard_own()
            return
        if namespace not in self._held and len(self._held) < _MAX_NAMES:
            self._held = (*self._held, namespace)
        raise EnoughWork(f"a message of namespace {namespace}")

    def fault(self) -> str:
        """What is wrong, for an operator; empty if nothing is."""
        if self._held:
            names = ", ".join(map(repr, self._held))
            return (
                f"only messages of the namespaces {names} have come, none of {self._own!r}: they are not acknowledged: "
                "check FASTMON_NAMESPACE and FASTMON_SUBSCRIBE"
            )
        if self._no_work < NO_WORK:
            return ""
        return (
            f"{self._no_work} stf_gen in a row and no stf_ready came from the queue: the broker gives each message to "
            "the next daemon: keep all but stf_ready from the queue"
        )
