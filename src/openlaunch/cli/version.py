"""`openlaunch version`."""

import platform
from importlib.metadata import version as installed
from typing import Annotated

import typer

from openlaunch.cli.output import print_json


def version(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Print the version of this installation."""
    if as_json:
        print_json({"openlaunch": installed("openlaunch"), "python": platform.python_version()})
    else:
        print(f"openlaunch {installed('openlaunch')} (Python {platform.python_version()})")
