"""What commands read for predictions: a file or stdin, and JSON objects in it."""

import json
import math
import re
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer


def read_text(name: str, option: str) -> str:
    """Return the text of a file, or of stdin for `-`; raise BadParameter of `option` where it can't be read."""
    try:
        return sys.stdin.read() if name == "-" else Path(name).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{name} can't be read: {error}", param_hint=option) from None


def json_object(text: str, what: str) -> dict[str, Any]:
    """Return the JSON object, or raise BadParameter with a message that `what` begins."""
    try:
        value = json.loads(text, parse_constant=_no_constant, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise typer.BadParameter(f"{what} is not JSON: {error}; an object is needed, {_EXAMPLE}") from None
    if not isinstance(value, dict):
        raise typer.BadParameter(f"{what} is a JSON {_KINDS[type(value)]}; an object is needed, {_EXAMPLE}")
    return value


_EXAMPLE = """such as '{"x": 1}'"""
_KINDS = {list: "array", str: "string", int: "number", float: "number", bool: "boolean", type(None): "null"}


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a JSON number")


def _finite(text: str) -> float:
    if math.isinf(value := float(text)):
        raise ValueError(f"{text} is too large for a number")
    return value


_PAIR = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)

Args = Annotated[
    list[str] | None,
    typer.Option(
        help="A JSON object: the function's keywords; or @FILE that has it, or KEY=VALUE, or KEY=@FILE for a file. "
        "May be given several times.",
        metavar="ARGS",
    ),
]


def arguments(texts: list[str] | None) -> dict[str, Any]:
    """Return the args that --args gives: files as paths; raise BadParameter where they can't be read."""
    found: dict[str, Any] = {}
    for text in texts or ():
        if (pair := _PAIR.fullmatch(text)) is not None:
            found[pair[1]] = _value(pair[2])
        elif text.startswith("@"):
            found |= json_object(read_text(text[1:], "--args"), f"--args {text}")
        else:
            found |= json_object(text, "--args")
    return found


def _value(text: str) -> Any:
    """Return a file as its path, JSON as its value, and all else as text."""
    if text.startswith("@"):
        path = Path(text[1:])
        if not path.is_file():
            raise typer.BadParameter(
                f"there is no file {str(path)!r} in {Path.cwd()}; text that begins with @ is written as JSON, "
                f"such as '\"{text}\"'",
                param_hint="--args",
            )
        return path
    try:
        return json.loads(text, parse_constant=_no_constant, parse_float=_finite)
    except (ValueError, RecursionError):
        return text


def pairs(texts: list[str] | None, option: str) -> dict[str, str]:
    """Return what KEY=VALUE texts say; raise BadParameter of `option` for another text."""
    found: dict[str, str] = {}
    for text in texts or ():
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise typer.BadParameter(f"{text!r} is not KEY=VALUE", param_hint=option)
        found[key] = value
    return found
