"""The `openlaunch` command, one noun a file; everything but `serve` goes through `openlaunch.client`."""

from typing import NoReturn


def main() -> NoReturn:
    """Run the command; does not return."""
    from openlaunch.cli.app import run
    from openlaunch.cli.exits import exit_with

    exit_with(run())
