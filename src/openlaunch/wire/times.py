"""Points in time as users write them."""

import re
from datetime import UTC, datetime, timedelta

_AGO = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)(s|m|h|d)")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def moment(text: str, now: datetime) -> datetime:
    """Read a point in time, or how long it is ago; one without a time zone is in UTC. Raise ValueError."""
    try:
        if (ago := _AGO.fullmatch(text)) is not None:
            return now - timedelta(**{_UNITS[ago[2]]: float(ago[1])})
        found = datetime.fromisoformat(text)
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise ValueError(
            f"{text[:50]!r} is not a time: give how long ago, such as 90s, 10m, 2h or 1d, or a point in time, "
            "such as 2026-05-04T09:30:00Z"
        ) from None


def stamp_of(point: datetime) -> str:
    """Return a point in time as logs have it; later ones are larger as text."""
    return point.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
