"""Configuration of all tests."""

import signal


def pytest_configure() -> None:
    """Restore SIGINT: a background job ignores it, and so would the programs that the tests start and interrupt."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
