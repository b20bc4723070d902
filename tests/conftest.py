"""What holds for every test."""

import signal

import pytest


@pytest.fixture(scope="session", autouse=True)
def interruptible():
    """A suite started in the background of a script ignores Ctrl-C, and so would every process it starts."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
