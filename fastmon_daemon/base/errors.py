"""The errors of the daemon, one class for each reaction to them; the docstrings name the reaction."""


class FastmonError(Exception):
    """Base class of all errors that fastmon raises on purpose."""


class TransientError(FastmonError):
    """The call may succeed later: retry it."""

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        """Seconds to wait, as the server requested (HTTP `Retry-After`); None if it did not."""


class ParentNotRegistered(TransientError):
    """The monitor does not know the STF yet: wait until its data agent has registered it."""


class LinkDown(TransientError):
    """The link failed, not the STF: trip the circuit breaker, count no attempt, and probe until the link is up."""


class LinkBlocked(LinkDown):
    """The link answers, but rejects us (credentials, base URL, login page): an operator must fix the configuration."""


class PermanentError(FastmonError):
    """A retry cannot help: an operator must decide."""


class StaleStfError(FastmonError):
    """The STF changed its state since it was read: read it again, overwrite nothing."""


class MalformedMessage(FastmonError):
    """A message for fastmon cannot be parsed: keep its body and this reason for the operator."""


class ConfigError(FastmonError):
    """A setting is missing or invalid: fix the setting that the message names. Exit code 78."""


class StorageError(FastmonError):
    """The database cannot be opened or must not be used: follow the message. Exit code 3."""


class StorageUnavailable(StorageError):
    """The database cannot be written now (disk full, I/O error) and nothing was stored: retry later. Exit code 75."""


class EnoughWork(StorageUnavailable):
    """This daemon has enough to do: leave the message at the broker, for the daemons that share the queue."""


class DatabaseInUse(StorageError):
    """Another process owns the database: send it a request, or stop it. Exit code 75."""


class OutputLost(FastmonError):
    """Standard output takes nothing (full disk, closed, its reader is gone): the result is not told. Exit code 74."""
