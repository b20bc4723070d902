"""The formats of JSON schemas: a text has one if pydantic, which most schemas come from, reads it as that type.

A time that is a number in a text is refused.
"""

import base64
import binascii
import re
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from fractions import Fraction
from functools import cache
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from pydantic import AnyUrl, IPvAnyAddress, IPvAnyInterface, IPvAnyNetwork, TypeAdapter, ValidationError
from pydantic_core import MultiHostUrl

from openlaunch_worker.times import read_date, read_datetime, read_duration, read_time

_TYPES: dict[str, Any] = {
    "uuid": UUID,
    "uri": AnyUrl,
    "multi-host-uri": MultiHostUrl,
    "ipvanyaddress": IPvAnyAddress,
    "ipv4network": IPv4Network,
    "ipv6network": IPv6Network,
    "ipvanynetwork": IPvAnyNetwork,
    "ipv4interface": IPv4Interface,
    "ipv6interface": IPv6Interface,
    "ipvanyinterface": IPvAnyInterface,
    "complex": complex,
    "fraction": Fraction,
    "zoneinfo": ZoneInfo,
}
_TIMES: dict[str, tuple[Any, Callable[[str], object]]] = {
    "date-time": (datetime, read_datetime),
    "date": (date, read_date),
    "time": (time, read_time),
    "duration": (timedelta, read_duration),
}
"""Which pydantic and a worker each read: the one for fields of a model, the other for arguments."""
_NAME_AND_EMAIL = re.compile(r"(?:[^<>@\s]+@[^<>@\s]+|[^<>]*<\s*[^<>@\s]+@[^<>@\s]+\s*>)\s*\Z")
_URLSAFE = str.maketrans("-_", "+/")


@cache
def _validator(kind: Any) -> Callable[[str], object]:
    # Made when it is first needed: the start of a server waits for none of them.
    return TypeAdapter(kind).validate_python


def _reads(kind: Any, also: Callable[[str], object] = str) -> Callable[[str], bool]:
    def has_format(text: str) -> bool:
        try:
            _validator(kind)(text)
            also(text)
        except (ValidationError, ValueError, OverflowError):
            return False
        return True

    return has_format


def _is_uuid_of(version: int) -> Callable[[str], bool]:
    def has_format(text: str) -> bool:
        try:
            return UUID(text).version == version
        except ValueError:
            return False

    return has_format


def _is_base64(text: str) -> bool:
    """Return whether it is base64, in either alphabet; there may be white space in it, as in mails."""
    try:
        base64.b64decode("".join(text.split()).translate(_URLSAFE), validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


def _is_name_and_email(text: str) -> bool:
    return _NAME_AND_EMAIL.match(text) is not None


FORMATS: dict[str, Callable[[str], bool]] = {
    **{name: _reads(kind) for name, kind in _TYPES.items()},
    **{name: _reads(kind, read) for name, (kind, read) in _TIMES.items()},
    **{f"uuid{version}": _is_uuid_of(version) for version in range(1, 9)},
    **dict.fromkeys(("base64", "base64url", "byte"), _is_base64),
    "name-email": _is_name_and_email,
}
"""Formats that are checked here; the library checks `email`, `ipv4`, `regex` and further ones of JSON Schema."""
