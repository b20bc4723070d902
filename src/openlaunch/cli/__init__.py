"""The `openlaunch` command: one noun a file.

What a command needs is imported when it runs, not with this package: `openlaunch version` must not wait for an
HTTP client, and a machine with the client alone must not need the server. Data goes to stdout, all else to
stderr; `failures.py` has the exit codes.
"""

from openlaunch.cli.app import main

__all__ = ["main"]
