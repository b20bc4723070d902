"""The log of an endpoint's creation: environments, workers, and what failed."""

import os
import shutil
from pathlib import Path

from openlaunch.log_files import optional, private_folder, tail, trim

MAX_BYTES = 1024 * 1024
_NAME = "creation.log"


class CreationLogs:
    """A bounded file for each endpoint below `root`, readable by this user alone."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def begin(self, endpoint_id: str, title: str) -> None:
        """Begin the log of a new generation's creation; the one before is gone."""
        with optional(endpoint_id):
            (self._root / endpoint_id / _NAME).unlink(missing_ok=True)
        self.add(endpoint_id, title)

    def add(self, endpoint_id: str, text: str) -> None:
        """Add lines to the log, whose oldest half goes when it is full."""
        with optional(endpoint_id):
            path = private_folder(self._root / endpoint_id) / _NAME
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            with os.fdopen(descriptor, "a", errors="replace") as file:
                file.write(text.rstrip("\n") + "\n")
            trim(path, MAX_BYTES)

    def read(self, endpoint_id: str) -> str:
        return tail(self._root / endpoint_id / _NAME, MAX_BYTES)

    def remove(self, endpoint_id: str) -> None:
        shutil.rmtree(self._root / endpoint_id, ignore_errors=True)
