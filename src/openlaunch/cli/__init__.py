"""The `openlaunch` command, one noun a file; everything but `serve` goes through `openlaunch.client`."""

import sys


def main() -> None:
    """Run the command; does not return."""
    from openlaunch.cli.app import run

    sys.exit(run())
