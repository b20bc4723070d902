"""What the client of a request reads, as its Accept header says (RFC 9110, section 12.5.1)."""

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
    if not any(_is_read(ranges, media_type) for media_type in types):
        raise _not_acceptable(given, types)


def choose(given: str, offered: Sequence[str]) -> str:
    """Return the first of these types that the client reads; raise NotAcceptable where it reads none."""
    if not given or len(given) > MAX_BYTES or "/" not in given:
        return offered[0]
    ranges = _ranges(given.lower())
    for media_type in offered:
        if _is_read(ranges, media_type):
            return media_type
    raise _not_acceptable(given, offered)


def _not_acceptable(given: str, types: Collection[str]) -> NotAcceptable:
    return NotAcceptable(
        f"the Accept header is {given[:80]!r}, and this path answers with {' or '.join(types)}: name that, or leave "
        "the header out"
    )


def _ranges(text: str) -> dict[str, bool]:
    """Return the media ranges of a header, and whether each is wanted."""
    found = {}
    for part in text.split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        found[ANYTHING if name == "*" else name] = not any(map(_is_nought, parameters))
    return found


def _is_nought(parameter: str) -> bool:
    """Return whether a parameter is a weight of nought: the range is not wanted."""
    name, _, value = parameter.partition("=")
    return name == "q" and value.startswith("0") and not value.strip("0.")


def _is_read(ranges: dict[str, bool], media_type: str) -> bool:
    """Return what the most specific range says that fits; a type that is written in JSON is as good as JSON."""
    for name in (media_type, media_type.partition("/")[0] + "/*", ANYTHING):
        if name in ranges:
            return ranges[name]
    return media_type == JSON and any(
        wanted and name.endswith(("/json", "+json")) for name, wanted in ranges.items()
    )
