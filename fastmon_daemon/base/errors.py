"""The errors, told apart by what can be done about them: each class's docstring is the advice.

This module knows nothing of who raises them.
"""


class FastmonError(Exception):
    """What fastmon raises on purpose."""


class TransientError(FastmonError):
    """The other side may well answer next time: try again later."""

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        """Seconds that the other side asked us to wait (HTTP `Retry-After`), where it did."""


class ParentNotRegistered(TransientError):
    """The monitor does not know the STF yet: its data agent registers it a little later, so wait for that."""


class LinkDown(TransientError):
    """The link itself is at fault, not the STF that met it: shut the gate, burn no attempt, probe until it is back."""


class LinkBlocked(LinkDown):
    """The link answers, but refuses us (credentials, base URL, login page): a person must mend the configuration."""


class PermanentError(FastmonError):
    """Trying again cannot help: a person must look."""


class StaleStfError(FastmonError):
    """Somebody else moved this STF since it was read: read it again, never overwrite."""


class MalformedMessage(FastmonError):
    """A message claims to be ours and cannot be parsed: keep it whole, with this reason, for a person."""


class ConfigError(FastmonError):
    """A setting is missing or wrong: mend what the message names. Exit code 78."""


class StorageError(FastmonError):
    """The database cannot be opened or may not be used: do what the message says (exit code 3)."""


class StorageUnavailable(StorageError):
    """The database cannot be written just now (disk full, I/O error): nothing was stored; keep it, and try again later.

    Exit code 75.
    """


class DatabaseInUse(StorageError):
    """Another process owns the database: talk to it, or stop it (exit code 75)."""
