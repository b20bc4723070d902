"""What goes wrong in a user's own code that runs in the command, with its traceback."""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import typer

from openlaunch.cli.exits import Exit
from openlaunch.cli.output import note
from openlaunch_worker.failures import Refusal, user_traceback

_OURS = (str(Path(__file__).parents[1]), str(Path(asyncio.__file__).parent), "<frozen importlib")
"""Files whose frames lead to the user's code, and tell nothing."""


@contextmanager
def describe(target: str) -> Iterator[None]:
    """Print the traceback of what the user's code raises, and end the command."""
    try:
        yield
    except (typer.BadParameter, typer.Exit) as error:
        if (cause := error.__cause__) is not None:
            print_traceback(cause)
        raise
    except Refusal as error:
        note(f"error: {error}")
        raise typer.Exit(Exit.FAILED) from None
    except (Exception, SystemExit) as error:
        print_traceback(error)
        note(f"error: {target} failed")
        raise typer.Exit(Exit.FAILED) from None


def print_traceback(error: BaseException) -> None:
    """Print a traceback from the first line of the user's on; it is not wrapped, so that its marks stay below."""
    if isinstance(error, SyntaxError) or _users(error.__traceback__) is not None:
        print(user_traceback(error.with_traceback(_users(error.__traceback__))), end="", file=sys.stderr)


def _users(frames: TracebackType | None) -> TracebackType | None:
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(_OURS):
        frames = frames.tb_next
    return frames
