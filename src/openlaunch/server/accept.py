"""What the client of a request reads, as its Accept header says (RFC 9110, section 12.5.1)."""

import re
from collections.abc import Collection, Sequence

from openlaunch.errors import NotAcceptable

JSON = "application/json"
EVENTS = "text/event-stream"
ANYTHING = "*/*"

MAX_BYTES = 4096
"""A longer header is not looked at."""


def check_accept(given: str, offered: Collection[str]) -> None:
    """Raise NotAcceptable where the client reads none of the types that a route answers with.

    JSON is always among them, because every route has errors: clients that were generated for Launch name JSON alone,
    for streams too. A header that names no type at all is not looked at.
    """
    if not given or len(given) > MAX_BYTES or "/" not in given or ANYTHING in offered:
        return
    ranges = _ranges(given.lower())
    types = sorted({*offered, JSON})
    if not any(_weight(ranges, media_type) for media_type in types):
        raise _not_acceptable(given, types)


def choose(given: str, offered: Sequence[str]) -> str:
    """Return the type that the client prefers, the first of several; raise NotAcceptable where it reads none."""
    if not given or len(given) > MAX_BYTES or "/" not in given:
        return offered[0]
    ranges = _ranges(given.lower())
    best = max(offered, key=lambda media_type: _weight(ranges, media_type))
    if not _weight(ranges, best):
        raise _not_acceptable(given, offered)
    return best


def prefers_json(given: str) -> bool:
    """Return whether the client names JSON, and nothing that it would rather read."""
    ranges = _ranges(given[:MAX_BYTES].lower())
    return ranges.get(JSON, 0) > 0 and ranges[JSON] == max(ranges.values())


def _not_acceptable(given: str, types: Collection[str]) -> NotAcceptable:
    return NotAcceptable(
        f"the Accept header is {given[:80]!r}, and this path answers with {' or '.join(types)}: name that, or leave "
        "the header out"
    )


def _ranges(text: str) -> dict[str, float]:
    """Return the media ranges of a header, and the weight of each, from 0 to 1."""
    found = {}
    for part in text.split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        weights = (float(weight[1]) for each in parameters if (weight := _WEIGHT.fullmatch(each)))
        found[ANYTHING if name == "*" else name] = min(weights, default=1.0)
    return found


_WEIGHT = re.compile(r"q=([01](?:\.[0-9]{0,9})?|\.[0-9]{1,9})")
"""A weight that is written in another way is not looked at."""


def _weight(ranges: dict[str, float], media_type: str) -> float:
    """Return the weight of the most specific range that fits; a type that is written in JSON is as good as JSON."""
    for name in (media_type, media_type.partition("/")[0] + "/*", ANYTHING):
        if name in ranges:
            return ranges[name]
    if media_type != JSON:
        return 0
    return max((weight for name, weight in ranges.items() if name.endswith(("/json", "+json"))), default=0)
