"""The `openlaunch` command, one noun a file; everything but `serve` goes through `openlaunch.client`."""

from typing import NoReturn


def main() -> NoReturn:
    """Run the command; does not return."""
    try:
        from openlaunch.cli.app import run
        from openlaunch.cli.exits import exit_with

        code = run()
    except KeyboardInterrupt:  # the modules are still being loaded, and there is nothing to end
        raise SystemExit(130) from None
    exit_with(code)
