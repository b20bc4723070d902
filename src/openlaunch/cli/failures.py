"""Exit codes, and how a failure is told: `error: …`, and where it helps a line `hint: …`."""

import sys
from enum import IntEnum

import typer

from openlaunch import errors


class ExitCode(IntEnum):
    """What the command's exit code says; constant between versions."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    NO_PERMISSION = 4
    UNAVAILABLE = 5
    TIMEOUT = 6
    INTERRUPTED = 130


EPILOG = """\
\b
Exit codes:
  0    ok
  1    what was asked for failed: a prediction, an endpoint
  2    wrong usage, input or configuration
  3    not found
  4    no API key, a wrong one, or one that may not do this
  5    the server can't be reached, is unavailable or too busy
  6    the time given has passed
  130  stopped with Ctrl-C
"""

_CODES: tuple[tuple[type[Exception], ExitCode], ...] = (
    (errors.NotFound, ExitCode.NOT_FOUND),
    (errors.Unauthorized, ExitCode.NO_PERMISSION),
    (errors.Forbidden, ExitCode.NO_PERMISSION),
    (errors.WaitTimeout, ExitCode.TIMEOUT),
    (errors.DeadlineExceeded, ExitCode.TIMEOUT),
    (errors.ConnectionFailed, ExitCode.UNAVAILABLE),
    (errors.Unavailable, ExitCode.UNAVAILABLE),
    (errors.TooManyRequests, ExitCode.UNAVAILABLE),
    (errors.ConfigurationError, ExitCode.USAGE),
    (errors.BundleError, ExitCode.USAGE),
    (errors.BadRequest, ExitCode.USAGE),
    (errors.Unprocessable, ExitCode.USAGE),
    (errors.PayloadTooLarge, ExitCode.USAGE),
)

_HINTS: tuple[tuple[type[Exception], str], ...] = (
    (errors.Unauthorized, "give a key with --api-key before the command, or in OPENLAUNCH_API_KEY"),
    (errors.Forbidden, "this needs a key with the role admin"),
    (errors.StreamInterrupted, "what was printed is not all; send the request again"),
    (errors.ConnectionFailed, "is the server running? `openlaunch serve` starts one"),
)


def exit_code(error: Exception) -> ExitCode:
    """The exit code that an error of ours stands for."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), ExitCode.FAILED)


def complain(message: str, hint: str | None = None) -> None:
    """Write an error, and what to do about it, to stderr."""
    print(f"error: {message}", file=sys.stderr)
    if hint:
        print(f"hint: {hint}", file=sys.stderr)


def report(error: errors.OpenlaunchError) -> ExitCode:
    """Tell of an error, and give its exit code."""
    if isinstance(error, errors.PredictionFailed) and error.traceback:
        print(error.traceback.rstrip(), file=sys.stderr)
    hints = [hint for kind, hint in _HINTS if isinstance(error, kind)]
    complain(str(error), hints[0] if hints else None)
    for note in getattr(error, "__notes__", ()):
        print(f"note: {note}", file=sys.stderr)
    return exit_code(error)


def fail(message: str, code: ExitCode, hint: str | None = None) -> typer.Exit:
    """Tell of a failure; what it gives is to be raised."""
    complain(message, hint)
    return typer.Exit(code)
