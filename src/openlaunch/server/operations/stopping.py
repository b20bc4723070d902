"""When the server stops: at the first SIGTERM or SIGINT in order, at a second SIGINT at once.

SIGQUIT stops it in order, too, but it waits for nothing that runs.
"""

import asyncio
import os
import signal

AT_ONCE_SECONDS = 2.0
"""After the second SIGINT; then the process ends whatever it does."""

EXIT_CODE = 128 + signal.SIGINT


class StopSignals:
    """Notes the signals that the process gets, in the event loop's thread."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.at_once = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            self._loop.add_signal_handler(number, self._received, number)

    def _received(self, number: signal.Signals) -> None:
        if number == signal.SIGINT and self.stop.is_set() and not self.at_once.is_set():
            self.at_once.set()
            self._loop.call_later(AT_ONCE_SECONDS, os._exit, EXIT_CODE)
        elif number == signal.SIGQUIT:
            self.at_once.set()
        self.stop.set()
