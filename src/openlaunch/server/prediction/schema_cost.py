"""What a JSON schema can cost: how many parts it has once its references are followed.

A check visits each of these parts at most once for each value of its input. So the product of both numbers bounds the
work, whatever the schema says. Two references at each of thirty levels are a short text and 2**30 parts.
"""

import re
from collections.abc import Mapping
from typing import Any

MAX_PARTS = 1_000_000
"""A schema with more parts is refused."""

MAX_DEPTH = 100
"""How deep a document may be nested that is kept, and read again where there is less stack."""

UNBOUNDED = float("inf")
"""The cost of a schema that is recursive, or that may take any time: no number bounds the work on an input."""

FORMAT_PARTS = 2000
"""What a format counts where time is to be bounded: to check a text for one takes a call of Python code."""

_APART = frozenset({"components", "$defs", "definitions"})
"""What stands here counts where a reference names it."""

_UNBOUNDED_WORDS = frozenset(
    {"$dynamicRef", "$recursiveRef", "$id", "$anchor", "unevaluatedItems", "unevaluatedProperties"}
)
_BACKTRACKS = re.compile(r"\(\?(?!:)|\\[1-9pPkg]")
"""Looks ahead and behind, flags, references to groups, and classes of Unicode, which are slow to compile."""

_REPETITION = re.compile(r"\{(\d*),?(\d*)\}")


def is_too_deep(document: Any) -> bool:
    """Return whether a document of JSON is nested deeper than `MAX_DEPTH` levels."""
    level, depth = [document], 0
    while depth <= MAX_DEPTH and (level := [child for item in level for child in _children(item)]):
        depth += 1
    return depth > MAX_DEPTH


def _children(item: Any) -> Any:
    if isinstance(item, dict):
        return item.values()
    return item if isinstance(item, list) else ()


def parts_of(document: Mapping[str, Any], *, of_format: int = 1) -> float:
    """Return the number of parts of the schema at the root of a document, or `UNBOUNDED`."""
    try:
        return _Parts(document, of_format).of(document)
    except RecursionError:
        return 2 * MAX_PARTS  # hundreds of levels deep: nobody's schema is, and it is refused


class _Parts:
    """Counts each part of one document once, and what refers to it as often as it does."""

    def __init__(self, document: Mapping[str, Any], of_format: int) -> None:
        self._document = document
        self._of_format = of_format
        self._known: dict[int, float] = {}

    def of(self, part: Any) -> float:
        if isinstance(part, list):
            return 1 + sum(map(self.of, part))
        if not isinstance(part, dict):
            return 1
        known = self._known.get(id(part))
        if known is None:
            self._known[id(part)] = UNBOUNDED  # what a part finds again within itself
            known = self._known[id(part)] = 1 + sum(self._of_word(*item) for item in part.items())
        return known

    def _of_word(self, word: str, value: Any) -> float:
        if word in _APART:
            return 1
        if word in _UNBOUNDED_WORDS:
            return UNBOUNDED
        if word == "$ref" and isinstance(value, str):
            return self.of(self._named(value))
        if word == "format" and isinstance(value, str):
            return self._of_format
        if word == "pattern" and isinstance(value, str):
            return _pattern(value)
        if word == "patternProperties" and isinstance(value, dict):
            return sum(map(_pattern, value)) * (1 + sum(map(self.of, value.values())))
        return self.of(value)

    def _named(self, reference: str) -> Any:
        """Return what a reference names; one that names nothing is refused when the schema is compiled."""
        found: Any = self._document
        for name in reference.removeprefix("#").split("/")[1:]:
            name = name.replace("~1", "/").replace("~0", "~")
            if isinstance(found, dict):
                found = found.get(name)
            elif isinstance(found, list) and name.isdecimal() and int(name) < len(found):
                found = found[int(name)]
            else:
                return None
        return found


def _pattern(pattern: str) -> float:
    """Return how long a pattern is once its repetitions are written out."""
    if _BACKTRACKS.search(pattern):
        return UNBOUNDED
    size = len(pattern) + 1
    for repetition in _REPETITION.finditer(pattern):
        size *= max(1, *(int(number[:9] or 1) for number in repetition.groups()))
    return size
