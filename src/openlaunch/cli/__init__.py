"""The `openlaunch` command, one noun a file; everything but `serve` goes through `openlaunch.client`."""


def main() -> None:
    """Run the command; does not return."""
    from openlaunch.cli.app import app

    app(prog_name="openlaunch")
