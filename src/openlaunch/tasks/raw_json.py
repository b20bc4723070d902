"""Finds the parts of a JSON document in its text, so that they are passed on as they came.

To write a parsed value again would change it: numbers beyond 64 bits, digits, and keys that stand twice.
"""

import json
import re
from collections.abc import Iterator

_BLANKS = re.compile(r"[ \t\r\n]*")
_decode = json.JSONDecoder().raw_decode


def members(text: str, at: int = 0) -> Iterator[tuple[str, int, int]]:
    """Yield each key of the object at this place in valid JSON, and where its value begins and ends.

    Raises:
        RecursionError: a value is nested too deep.
    """
    at = after_blanks(text, after_blanks(text, at) + 1)
    while text[at] != "}":
        key, end = _decode(text, at)
        start = after_blanks(text, after_blanks(text, end) + 1)  # behind the colon
        end = _decode(text, start)[1]
        yield key, start, end
        at = _next(text, end)


def elements(text: str, at: int = 0) -> Iterator[tuple[int, int]]:
    """Yield where each element of the array at this place begins and ends; raise what `members` does."""
    at = after_blanks(text, after_blanks(text, at) + 1)
    while text[at] != "]":
        end = _decode(text, at)[1]
        yield at, end
        at = _next(text, end)


def after_blanks(text: str, at: int) -> int:
    """Return the place of the first character from this one on that is not white space."""
    found = _BLANKS.match(text, at)
    assert found is not None
    return found.end()


def _next(text: str, end: int) -> int:
    """Return where the next part begins, or the bracket at the end of all stands."""
    end = after_blanks(text, end)
    return after_blanks(text, end + 1) if text[end] == "," else end
