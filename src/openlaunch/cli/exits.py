"""Exit codes, errors as the command shows them, and the end of its process."""

import atexit
import os
import re
import sys
import unicodedata
from contextlib import suppress
from difflib import get_close_matches
from enum import IntEnum
from typing import Any, NoReturn

from openlaunch import errors


class Exit(IntEnum):
    """What the command's exit code says."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    FORBIDDEN = 4
    UNAVAILABLE = 5
    TIMEOUT = 6
    INTERRUPTED = 130
    PIPE_CLOSED = 141


HELP = """\
\b
Exit codes:
  0    done
  1    the operation failed: a prediction, an endpoint, a job
  2    wrong usage, input or configuration
  3    not found
  4    no key, a wrong one, or one that may not do this
  5    the server can't be reached, or can't serve now
  6    timed out
  130  interrupted with Ctrl-C
  141  the reader of the output went away
"""

_COMMAND = re.compile("`openlaunch [^`\\n]*`|(?<=: )openlaunch [^(;\\n]*$", re.MULTILINE)
_QUOTED = re.compile("'([^']+)'")

_CODES: list[tuple[tuple[type[Exception], ...], Exit]] = [  # the first that fits
    ((errors.ConfigurationError, errors.BundleError), Exit.USAGE),
    ((errors.ConnectionFailed,), Exit.UNAVAILABLE),
    ((errors.WaitTimeout, errors.DeadlineExceeded), Exit.TIMEOUT),
    ((errors.NotFound,), Exit.NOT_FOUND),
    ((errors.Unauthorized, errors.Forbidden), Exit.FORBIDDEN),
    ((errors.Unavailable, errors.TooManyRequests), Exit.UNAVAILABLE),
    ((errors.BadRequest, errors.Unprocessable, errors.PayloadTooLarge), Exit.USAGE),
]

_HINTS: list[tuple[type[Exception], str]] = [
    (errors.StreamInterrupted, "the result is incomplete; send the request again"),
    (
        errors.Forbidden,
        "`openlaunch whoami` shows the key and its role; admins make others: `openlaunch keys create`",
    ),
    (
        errors.WaitTimeout,
        "the work continues; look at it with `openlaunch endpoints get` or `openlaunch tasks get`",
    ),
    (errors.BatchJobFailed, "`openlaunch batch-jobs get JOB`, or `image-jobs get JOB`, shows how it stands"),
]


def code_of(error: Exception) -> Exit:
    """Return the exit code that goes with an error."""
    return next((code for kinds, code in _CODES if isinstance(error, kinds)), Exit.FAILED)


def plain(text: str, kept: str = "\n\t") -> str:
    """Return a text in which what a user or a model wrote moves no cursor and turns no line around."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in kept or _is_shown(c) else "\ufffd" for c in text)


def _is_shown(character: str) -> bool:
    # Spaces of other scripts, and what joins letters and emojis.
    return unicodedata.category(character) == "Zs" or character in "\u200c\u200d"


def say(text: str) -> None:
    """Print on stderr, wrapped between words where that is a terminal."""
    text = plain(text)
    if sys.stderr.isatty():
        text = fitted(text, os.get_terminal_size(sys.stderr.fileno()).columns or 80)
    print(text, file=sys.stderr)


def fitted(text: str, width: int) -> str:
    """Return a text with line ends between its words, but not within a command, which may be copied."""
    from openlaunch.cli.tables import wrapped

    kept = _COMMAND.sub(lambda found: found[0].replace(" ", "\0"), text)
    lines = (part for line in kept.split("\n") for part in wrapped(line, width, "", ""))
    return "\n".join(lines).replace("\0", " ")


def show(error: Exception) -> None:
    """Print an error, and what to do about it where that is known, on stderr."""
    say(f"error: {error}")
    hint = next((hint for kind, hint in _HINTS if isinstance(error, kind)), None)
    if getattr(error, "code", None) == "quota_exceeded":
        hint = "`openlaunch quotas list` shows what is used; admins set it with `openlaunch quotas set OWNER`"
    if hint is not None:
        say(f"hint: {hint}")
    for text in getattr(error, "__notes__", ()):
        say(f"hint: {text}")
    request_id = getattr(error, "request_id", None)
    if request_id is not None and isinstance(error, errors.ServerError):
        say(f"hint: the server's log names this request {request_id}")


def show_usage(error: Any) -> None:
    """Print a usage error of click's on stderr; no arguments at all are answered with the help."""
    if type(error).__name__ == "NoArgsIsHelpError":
        print(error.format_message(), file=sys.stderr)
        return
    say(f"error: {_usage_message(error)}")
    command = error.ctx.command_path if error.ctx is not None else "openlaunch"
    if (elsewhere := _elsewhere(error)) is not None:
        say(f"hint: {elsewhere}")
    print(f"hint: `{command} --help` shows what can be given", file=sys.stderr)


def _elsewhere(error: Any) -> str | None:
    """Say what there is instead of a command that there is not, or how JSON is given."""
    if error.ctx is None:
        return None
    group, words = error.ctx.command, _QUOTED.findall(error.message)
    if error.message.startswith("No such command") and words:
        root = error.ctx.find_root().command.commands
        nouns = {noun: getattr(below, "commands", {}) for noun, below in root.items()}
        same = [f"`openlaunch {noun} {words[0]}`" for noun, below in nouns.items() if words[0] in below]
        if same and group.commands is root:
            return f"there is {', '.join(same)}"
        is_near = group.commands is root and "Did you mean" in error.message
        return None if is_near else f"there is {', '.join(group.commands)}"
    extra = error.message.startswith("Got unexpected extra argument")
    if extra and "{" in error.message and any("--args" in option.opts for option in group.params):
        return """JSON is given with --args, such as --args '{"x": 1}'"""
    return None


def _usage_message(error: Any) -> str:
    if getattr(error, "possibilities", None):
        return f"{error.message.rstrip('.')}; did you mean {' or '.join(sorted(error.possibilities))}?"
    of_no_option = getattr(error, "param_hint", "") is None and getattr(error, "param", "") is None
    text = str(error.message if of_no_option else error.format_message()).replace("Value error, ", "")
    given, *choices = _QUOTED.findall(error.message) if " is not one of " in error.message else [""]
    named = {one.lower(): one for one in choices}
    near = get_close_matches(given.lower(), named, 1)
    return f"{text.rstrip('.')}; did you mean {named[near[0]]}?" if near else text


def exit_with(code: int) -> NoReturn:
    """End the process with this exit code, without taking Python's interpreter apart.

    obstore's threads, which Python does not know, may still ask for the interpreter then, and the process ended with
    SIGABRT after its work was done. By then Python has waited for its own threads, and all else is done here.
    """
    atexit.register(_end, code)
    sys.exit(code)


def _end(code: int) -> NoReturn:
    # This was registered last, so it is called first, and has the others called: coverage's, logging's and so on.
    atexit.unregister(_end)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(
            OSError, ValueError, AttributeError
        ):  # closed or None, or what it goes to is full or gone
            stream.flush()
    os._exit(code)
