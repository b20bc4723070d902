"""Reads times and durations of texts; the server checks texts with the same functions before a worker gets them.

A text that is a number is refused: whether it is seconds or milliseconds could only be guessed.
"""

import datetime as dt
import re
from typing import Final

_ISO: Final = re.compile(
    r"([-+])?P(?:(\d+)Y)?(?:(\d+)M)?(?:(\d+)W)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:[.,]\d+)?)S)?)?",
    re.ASCII | re.IGNORECASE,
)
_CLOCK: Final = re.compile(
    r"([-+])?(?:(\d+) ?d(?:ays?)?(?:,? ?(?=\d)|$))?(?:(\d+):(\d\d)(?::(\d\d(?:\.\d+)?))?)?",
    re.ASCII | re.IGNORECASE,
)
"""As Python writes a `timedelta`: `1 day, 2:30:00`."""
_DAYS_OF_YEAR: Final = 365
_DAYS_OF_MONTH: Final = 30
_DATE: Final = len("2026-01-02")


def read_datetime(text: str) -> dt.datetime:
    """Read a time of a day in ISO 8601. Raise `ValueError` for another text."""
    return dt.datetime.fromisoformat(text.upper())


def read_date(text: str) -> dt.date:
    """Read a day in ISO 8601; with a time, which has to be midnight. Raise `ValueError` for another text."""
    if len(text) <= _DATE:
        return dt.date.fromisoformat(text)
    time = read_datetime(text)
    if time.time() != dt.time():
        raise ValueError(f"{text!r} is not a day, it has a time")
    return time.date()


def read_time(text: str) -> dt.time:
    """Read a time in ISO 8601. Raise `ValueError` for another text."""
    return dt.time.fromisoformat(text.upper())


def read_duration(text: str) -> dt.timedelta:
    """Read a duration in ISO 8601, or as Python writes it. Raise `ValueError` for another text.

    A year has 365 days, and a month 30.
    """
    if (found := _ISO.fullmatch(text)) and any(found.groups()[1:]):
        years, months, weeks, days, *clock = (_number(part) for part in found.groups()[1:])
        days += years * _DAYS_OF_YEAR + months * _DAYS_OF_MONTH
    elif (found := _CLOCK.fullmatch(text)) and any(found.groups()[1:]):
        weeks, (days, *clock) = 0, map(_number, found.groups()[1:])
        if found[1] == "-" and days and any(clock):
            # Python means a time after the day by it, and others before it.
            raise ValueError(f"{text!r} can be read in two ways: write a duration such as -PT90S")
    else:
        raise ValueError(f"{text!r} is not a duration such as PT90S")
    hours, minutes, seconds = clock
    span = dt.timedelta(days, seconds, 0, 0, minutes, hours, weeks)
    return -span if found[1] == "-" else span


def _number(part: str | None) -> float:
    return float((part or "0").replace(",", "."))
