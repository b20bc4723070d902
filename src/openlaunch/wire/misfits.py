"""What pydantic finds wrong with a value, in plain words."""

from collections.abc import Callable, Mapping
from typing import Any

from openlaunch.wire.bundles import BUNDLE_NAME_PATTERN
from openlaunch.wire.endpoints import ENDPOINT_NAME_PATTERN
from openlaunch.wire.keys import OWNER_PATTERN
from openlaunch.wire.llm_endpoints import VERSION
from openlaunch.wire.model_batches import WINDOW_PATTERN
from openlaunch.wire.secrets import NAME_PATTERN as SECRET_NAME_PATTERN

_NAME_CHARACTERS = "letters, digits and . _ -"
_CURSOR = "the cursor that a page of this list gave is needed"
_PATTERNS = {
    ENDPOINT_NAME_PATTERN: f"a name has {_NAME_CHARACTERS}, at most 63, and begins and ends with a letter or digit",
    BUNDLE_NAME_PATTERN: f"a name has {_NAME_CHARACTERS}, at most 128, and begins with a letter or digit",
    SECRET_NAME_PATTERN: "a name has letters, digits and _ -, at most 64, and begins with a letter",
    OWNER_PATTERN: "an owner has letters, digits and . _ @ -, at most 64, and begins with a letter or digit",
    VERSION: "a version such as 0.11.2 is needed, or latest",
    WINDOW_PATTERN: "a time such as 24h is needed, in s, m, h or d",
    r"^https?://[^/?#]+(/[^?#]*)?$": "a URL such as https://models.example.org is needed",
    r"^(\*|https?://[A-Za-z0-9.\[\]:_-]{1,250})$": "an origin such as https://app.example.org is needed, or *",
    r"^3\.\d{1,2}$": "a minor version such as 3.11 is needed",
    r"^[a-z0-9.]*$": "what `uv pip install --torch-backend` takes is needed, such as cpu or cu128",
    r"^(errors:)?[^:\n]": "off, errors, all, FILE or errors:FILE is needed",
    r"^/[!-~]{0,500}$": "a path such as /predict is needed, at most 501 characters",
    r"^/[^:\x00]{1,500}$": "an absolute path is needed, without a colon, at most 501 characters",
    r"^[A-Za-z0-9][A-Za-z0-9._-]*(:[0-9]{1,5})?(/[A-Za-z0-9][A-Za-z0-9._-]*)*$": (
        "an image such as registry.example.org/team/model is needed"
    ),
    r"^([A-Za-z0-9_][A-Za-z0-9._-]{0,127}|sha256:[0-9a-f]{64})$": "a tag such as v1 is needed, or sha256:DIGEST",
    r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$": f"a name has {_NAME_CHARACTERS}, at most 100, a letter or digit first",
    r"^[^-:][^:]*(://.*)?$": "a folder or a URL such as s3://bucket/models is needed",
    r"^[0-9]{1,18}$": _CURSOR,
    r"^\d{1,18}$": _CURSOR,
    "^[^=]+=": "NAME=VALUE is needed",
}

MAX_GIVEN = 60
"""Characters of a value that are repeated."""

_OBJECT = "an object of names and values is needed"
_KINDS = {
    "missing": "it is missing",
    "extra_forbidden": "there is no such field",
    "string": "text is needed",
    "bool": "true or false is needed",
    "int": "a whole number is needed",
    "float": "a number is needed",
    "finite_number": "a finite number is needed",
    "list": "a list is needed",
    "dict": _OBJECT,
    "model": _OBJECT,
    "datetime": "a time such as 2026-01-31T12:00:00Z is needed",
}
"""What is needed, by the beginning of pydantic's name of the error."""

_BOUNDS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "literal_error": lambda c: f"{c['expected']} is needed",
    "enum": lambda c: f"{c['expected']} is needed",
    "greater_than": lambda c: f"a number above {_number(c['gt'])} is needed",
    "greater_than_equal": lambda c: f"at least {_number(c['ge'])} is needed",
    "less_than": lambda c: f"a number below {_number(c['lt'])} is needed",
    "less_than_equal": lambda c: f"at most {_number(c['le'])} is allowed",
    "string_too_short": lambda c: f"at least {_counted(c['min_length'], 'character')} needed",
    "string_too_long": lambda c: f"at most {_counted(c['max_length'], 'character')} allowed",
    "string_pattern_mismatch": lambda c: _PATTERNS[c["pattern"]],
    "too_short": lambda c: f"at least {_counted(c['min_length'], 'item')} needed, {c['actual_length']} came",
    "too_long": lambda c: f"at most {_counted(c['max_length'], 'item')} allowed, {c['actual_length']} came",
}


def said(error: Mapping[str, Any]) -> str:
    """Return what is wrong in plain words, without the field's name.

    The value that was given may be a secret in the wrong place. It is repeated for a parameter of a URL alone.

    Args:
        error: one of `ValidationError.errors()`.
    """
    given = error.get("input")
    if error.get("loc", ())[:1] == ("query",) and isinstance(given, str):
        return f"{given[:MAX_GIVEN]!r} came, {_needed(error)}"
    return _needed(error)


def _needed(error: Mapping[str, Any]) -> str:
    kind = error["type"]
    if kind in _BOUNDS:
        return _BOUNDS[kind](error["ctx"])
    for beginning, words in _KINDS.items():
        if kind == beginning or kind.startswith(f"{beginning}_"):
            return words
    return str(error["msg"]).removeprefix("Value error, ").replace("Input should", "it should", 1)


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun} is" if count == 1 else f"{count} {noun}s are"


def _number(bound: float) -> str:
    return str(int(bound)) if bound == int(bound) else str(bound)
