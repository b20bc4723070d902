"""`openlaunch dev`."""

from typing import Annotated, Any

import typer

from openlaunch.cli.settings import given, with_settings
from openlaunch.wire.keywords import DEPLOY_DEFAULTS_HELP


@with_settings(defaults=DEPLOY_DEFAULTS_HELP)
def dev(
    target: Annotated[
        str,
        typer.Argument(
            metavar="FILE.py[:FUNCTION]",
            help="The predict function; FILE.py alone serves each function of it.",
        ),
    ],
    load: Annotated[
        str | None,
        typer.Option(metavar="FUNCTION", help="Function that loads the model, in the same file."),
    ] = None,
    **settings: Any,
) -> None:
    """Serve functions from their files with a private server, and follow each save; Ctrl-C ends all.

    A model stays loaded while the code that loads it stays the same. The requests, what the functions print, and
    tracebacks are shown. Workers use the packages that are installed here, and are not isolated.
    """
    from openlaunch.cli.dev_session import Session

    Session(target, load, given(settings)).run()
