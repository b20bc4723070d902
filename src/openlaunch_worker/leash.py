"""Started with a command as its arguments: becomes the command, which the kernel then ends with its worker.

A process of its own, because a function between fork and exec may not be used where there are threads.
"""

import os
import sys

from openlaunch_worker.process import die_with_parent, log

EXIT_NOT_FOUND = 127
"""As shells say it."""


def main() -> int:
    """Become the command; returns only when there is none."""
    command = sys.argv[1:]
    die_with_parent()
    try:
        os.execvp(command[0], command)  # noqa: S606 -- the user's command, and meant to be run
    except OSError as error:
        log(f"{command[0]!r} can't be started: {error.strerror or error}")
    return EXIT_NOT_FOUND
