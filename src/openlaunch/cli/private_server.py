"""The server of `openlaunch.local`: it ends with the program that started it, in whatever way that ends.

It is started as `python -m openlaunch.cli.private_server FOLDER WHAT`. Standard input is a pipe that the program
holds open and never writes to. WHAT is `temporary` for a folder that goes with the program, else `kept`.
"""

import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

from openlaunch.cli.app import run
from openlaunch.cli.exits import exit_with

GRACE_SECONDS = 10.0
"""Nobody waits for what still runs when the program has died, so it gets less time than at an ordinary stop."""


class _Leash:
    """Ends this process when the program that started it has ended."""

    def __init__(self, folder: Path, *, temporary: bool) -> None:
        self._folder = folder
        self._temporary = temporary
        self._pipe = os.dup(0)
        self._gone = False
        with Path(os.devnull).open("rb") as nothing:
            os.dup2(nothing.fileno(), 0)  # for whatever this server starts
        threading.Thread(target=self._wait, name="leash", daemon=True).start()

    def _wait(self) -> None:
        while os.read(self._pipe, 1024):
            pass
        self._gone = True
        os.kill(os.getpid(), signal.SIGQUIT if self._temporary else signal.SIGTERM)
        time.sleep(GRACE_SECONDS)
        self.tidy()
        os.kill(os.getpid(), signal.SIGKILL)

    def tidy(self) -> None:
        """Delete a temporary folder that nobody else will delete."""
        if self._gone and self._temporary:
            shutil.rmtree(self._folder, ignore_errors=True)


def main() -> None:
    """Serve until SIGTERM or SIGQUIT, or until the program that started this has ended."""
    folder, what = sys.argv[1:]
    for number in (signal.SIGTERM, signal.SIGQUIT):
        signal.signal(number, lambda *_: sys.exit(0))  # until the server has a handler of its own
    leash = _Leash(Path(folder), temporary=what == "temporary")
    try:
        exit_with(run(["serve", "--host", "127.0.0.1", "--port", "0", "--data-dir", folder]))
    finally:
        leash.tidy()


if __name__ == "__main__":
    main()
