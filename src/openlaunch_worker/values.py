"""What stands in JSON for a value that is none of its types: arrays, times, records, sets, bytes, images, files.

Types are known by what they have, or looked for among the modules that are loaded: no library is imported for it.
"""

import base64
import json
import os
import re
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Set, ValuesView
from contextlib import suppress
from dataclasses import fields, is_dataclass
from enum import Enum
from io import BytesIO
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from openlaunch_worker.dataframes import arrow_of, is_frame, records_of
from openlaunch_worker.files import ARROW, NPY, OCTETS, File

_BYTES: Final = (bytes, bytearray, memoryview)
_FLAT: Final = (str, int, float, type(None), *_BYTES, Path, File)
_WIDEST: Final = {"g": "float64", "G": "complex128"}
"""The numbers of NumPy that are wider than Python's, and what stands for them."""
looks_numbered: Final = re.compile(r'"(?=[-0-9tfn])(?:-?[0-9]|true|false|null)[^"]*": ?').search
"""Finds a key that may not have been text; most values have none, and need no further look.

The look ahead says the same as what follows it, and is quicker. A look for `": "` before that is quicker still.
"""
_MICROSECONDS: Final = {"M": "datetime64[us]", "m": "timedelta64[us]"}
"""The units of NumPy's times that Python's have too, by the kind of their type."""


class Binary(NamedTuple):
    """Bytes with their media type, and a name; `kind` says what they were."""

    data: bytes
    media_type: str
    kind: str
    name: str = ""

    def data_url(self) -> str:
        """Return it as a URL that holds the bytes in base64, and says what they were."""
        return self.head() + base64.b64encode(self.data).decode()

    def head(self) -> str:
        """Return what stands before the base64 in this URL."""
        name = f";name={quote(self.name, safe='')}" if self.name else ""
        return f"data:{self.media_type};type={self.kind}{name};base64,"


def binary_of(value: Any) -> Binary | None:
    """Return bytes, files and images as they are sent; None for every other value."""
    if isinstance(value, _BYTES):
        return Binary(bytes(value), OCTETS, "bytes")
    if isinstance(value, Path):
        value = File(path=value)
    if isinstance(value, File):
        return Binary(value.read(), value.media_type, "file", value.name)
    image = _class("PIL.Image", "Image")
    return _encoded_image(value) if image is not None and isinstance(value, image) else None


def npy_of(value: Any) -> Binary | None:
    """Return an array or a tensor in NumPy's format; None for every other value."""
    numpy = sys.modules.get("numpy")
    kind = "array"
    if isinstance(value, _class("numpy.ma", "MaskedArray") or ()):
        return None  # the format has no masks, and would show what they hide
    if (tensor := _class("torch", "Tensor")) is not None and isinstance(value, tensor):
        value = value.detach().cpu()
        # NumPy has no bfloat16, and all its values among those of 32 bits.
        kind, value = "tensor", (value.float() if str(value.dtype) == "torch.bfloat16" else value).numpy()
    if numpy is None or not isinstance(value, numpy.ndarray) or value.dtype.hasobject:
        return None
    if value.dtype.kind == "V" and value.dtype.names is None and value.dtype.type is not numpy.void:
        value = value.astype(numpy.float32)  # the format would have the bits of a float of ml_dtypes alone
    file = BytesIO()
    numpy.save(file, value, allow_pickle=False)
    return Binary(file.getvalue(), NPY, kind)


def table_of(value: Any) -> Binary | None:
    """Return a table in Arrow's format; None for every other value, and where pyarrow is missing.

    Raise ValueError where Arrow does not have what is in it.
    """
    data = arrow_of(value)
    return None if data is None else Binary(data, ARROW, "table")


def sent(value: Any) -> Any:
    """Return the same as `plain`; an array is a URL, too. A table stays rows, which every function can read."""
    found = binary_of(value) or npy_of(value)
    return plain(value) if found is None else found.data_url()


def _typed_binary(value: Any) -> Binary | None:
    if is_frame(value):
        with suppress(ValueError):
            return table_of(value)
    return binary_of(value) or npy_of(value)


_DIGITS: Final = 10


def text_of_part(mark: str, number: int) -> str:
    """Return the text in place of a part, by its number from 0."""
    return f"{mark}{number:0{_DIGITS}}"


class Parts:
    """What stands beside the JSON of a value as bytes, and the texts in its place."""

    def __init__(self) -> None:
        self.found: list[Binary] = []
        self.mark = os.urandom(16).hex()
        """What these texts begin with; chosen by chance, so that no other text of the value is taken for one."""

    def put(self, binary: Binary) -> str:
        """Take bytes, and return the text in their place."""
        self.found.append(binary)
        return text_of_part(self.mark, len(self.found) - 1)

    def size(self, text: str) -> int:
        """Return how many bytes a text of JSON has once base64 is in it."""
        return len(text) + sum((len(each.data) + 2) // 3 * 4 for each in self.found)

    def in_text(self, text: str) -> list[bytes]:
        """Return the pieces of a text of JSON with base64 in it: no encoder of JSON has to look at that."""
        first, *others = text.split(self.mark)
        pieces = [first.encode()]
        for each in others:
            number, rest = each[:_DIGITS], each[_DIGITS:]
            pieces += base64.b64encode(self.found[int(number)].data), rest.encode()
        return pieces

    def document(self, text: str) -> bytes:
        """Return what stands behind the bytes: the value's JSON, and what is where."""
        parts, at = [], 0
        for data, media_type, kind, name in self.found:
            parts.append([at, at + len(data), media_type, kind, name])
            at += len(data)
        about = json.dumps({"mark": self.mark, "parts": parts})
        return f'{about[:-1]}, "value": {text}}}'.encode()


class _Written(threading.local):
    """What a thread writes just now, which is one value, without a pause."""

    parts: Parts | None = None
    """The parts that stand beside its JSON, once it has one."""

    def put(self, binary: Binary) -> str:
        """Take a part, and return the text in its place."""
        if self.parts is None:
            self.parts = Parts()
        return self.parts.put(binary)


WRITTEN: Final = _Written()


def plain_marked(value: Any) -> Any:
    """Return the same as `plain`, with the text of a part in place of base64."""
    found = binary_of(value)
    return plain(value) if found is None else found.head() + WRITTEN.put(found)


def typed_marked(value: Any) -> Any:
    """Return the same as `plain_marked`; an array is a URL, too, and a table where pyarrow is there."""
    found = _typed_binary(value)
    return plain(value) if found is None else found.head() + WRITTEN.put(found)


def apart(value: Any) -> Any:
    """Return the same as `plain`; bytes, files and images are parts."""
    found = binary_of(value)
    return plain(value) if found is None else WRITTEN.put(found)


def typed_apart(value: Any) -> Any:
    """Return the same as `apart`; arrays are parts, too, and tables where pyarrow is there."""
    found = _typed_binary(value)
    return plain(value) if found is None else WRITTEN.put(found)


def plain(value: Any) -> Any:
    """Return what is written in JSON in place of a value, which may hold others of which that is to be asked.

    Raises:
        TypeError: nothing stands for a value of this type.
    """
    if (binary := binary_of(value)) is not None:
        return binary.data_url()
    if isinstance(value, Enum):
        return value.value
    if hasattr(value, "tolist"):
        return _listed(value)
    if hasattr(value, "isoformat"):
        return _in_iso(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    if hasattr(type(value), "model_dump"):
        return _dumped(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset):
        return _in_order(value)
    if isinstance(value, Set | deque | range | ValuesView):
        return list(value)  # views of a dictionary, and sets that keep an order, are in theirs
    for name, module, written in _LOADED:
        if (known := _class(module, name)) is not None and isinstance(value, known):
            return written(value)
    raise TypeError(f"Object of type {type(value).__qualname__} is not JSON serializable")


def inside(value: Any) -> Any:
    """Return what `plain` gives, with the keys as they are; None where no dictionary is in it."""
    if isinstance(value, _FLAT) or binary_of(value) is not None:
        return None
    if hasattr(type(value), "model_dump"):
        return vars(value)
    if hasattr(value, "tolist") and getattr(getattr(value, "dtype", None), "kind", "O") != "O":
        return None
    return plain(value)


def check_keys(value: Any, what: str) -> None:
    """Raise ValueError if a dict within `what` has keys that differ, and are the same text as keys of JSON."""
    todo = [value]
    while todo:
        each = todo.pop()
        if isinstance(each, dict):
            todo += each.values()
            if any(not isinstance(key, str) for key in each):
                _check_texts(each, what)
        elif isinstance(each, list | tuple):
            todo += each
        elif (found := inside(each)) is not None:
            todo.append(found)


def _check_texts(each: dict[Any, Any], what: str) -> None:
    seen: dict[str, Any] = {}
    for key in each:
        text = key if isinstance(key, str) else json.dumps(key)
        if text in seen:
            raise ValueError(
                f"{what} has a dict with the keys {seen[text]!r} and {key!r}, which are both {text!r} in JSON, so "
                "that one value would be lost: make all keys text, or all numbers"
            )
        seen[text] = key


def with_text_keys(value: Any, instead: Callable[[Any], Any] = plain) -> Any:
    """Return a value in which every key is one that JSON has, or may be written in place of one.

    `instead` gives what is written in place of values that JSON does not have.

    Raises:
        TypeError: nothing stands for a key or a value.
    """
    if isinstance(value, dict):
        made = {_key(key): with_text_keys(each, instead) for key, each in value.items()}
        if len(made) < len(value):
            raise TypeError("two keys of a dict are the same in JSON")
        return made
    if isinstance(value, list | tuple):
        return [with_text_keys(each, instead) for each in value]
    if value is None or isinstance(value, str | int | float):
        return value
    return with_text_keys(instead(value), instead)


def _key(key: Any) -> Any:
    if key is None or isinstance(key, str | int | float):
        return key
    try:
        made = plain(key)
    except TypeError:  # it speaks of a value
        made = []
    if isinstance(made, list | tuple | dict):
        raise TypeError(f"keys must be text or numbers, not {type(key).__qualname__}")
    return made


def _listed(value: Any) -> Any:
    dtype: Any = getattr(value, "dtype", None)
    kind, char = getattr(dtype, "kind", ""), getattr(dtype, "char", "")
    if kind in _MICROSECONDS:
        # NumPy gives times in nanoseconds, its most common unit, as whole numbers.
        value = value.astype(_MICROSECONDS[kind])
    elif char in _WIDEST:
        value = value.astype(_WIDEST[char])
    return value.tolist()


def _dumped(value: Any) -> Any:
    try:
        return value.model_dump(mode="json", by_alias=True)
    except ValueError:
        return value.model_dump(by_alias=True)  # it holds what pydantic has no JSON for, such as an array


def _in_order(value: set[Any] | frozenset[Any]) -> list[Any]:
    try:
        return sorted(value)
    except TypeError:
        return list(value)


def _in_iso(moment: Any) -> str | None:
    text: str = moment.isoformat()
    return None if text == "NaT" else text  # pandas' time that is missing


def _duration(span: Any) -> str:
    """Return a time span as ISO 8601 has it."""
    sign, span = ("-", -span) if span.days < 0 else ("", span)
    part = f".{span.microseconds:06}".rstrip("0") if span.microseconds else ""
    return f"{sign}P{span.days}DT{span.seconds}{part}S"


def _encoded_image(image: Any) -> Binary:
    """Return an image in the format that it was read from, or else as PNG, or as TIFF, which has more modes."""
    first, *others = dict.fromkeys((image.format or "PNG", "PNG", "TIFF"))
    if image.mode in _WRITTEN_AS:
        image = image.convert(_WRITTEN_AS[image.mode])
    try:
        return _image_as(first, image)
    except (OSError, KeyError, ValueError):
        for name in others:
            with suppress(OSError, ValueError):
                return _image_as(name, image)
        raise


_WRITTEN_AS: Final = {"HSV": "RGB", "La": "LA", "RGBa": "RGBA"}
"""The modes that no format has, and those as which their pixels are written."""


def _image_as(name: str, image: Any) -> Binary:
    file = BytesIO()
    image.save(file, name)
    return Binary(file.getvalue(), sys.modules["PIL.Image"].MIME.get(name, OCTETS), "image")


_LOADED: Final[tuple[tuple[str, str, Callable[[Any], Any]], ...]] = (
    ("Decimal", "decimal", str),
    ("UUID", "uuid", str),
    ("_IPAddressBase", "ipaddress", str),
    ("ZoneInfo", "zoneinfo", str),
    ("Fraction", "fractions", str),
    ("Pattern", "re", lambda pattern: pattern.pattern),
    ("_BaseUrl", "pydantic.networks", str),
    ("timedelta", "datetime", _duration),
    ("DataFrame", "pandas", records_of),
    ("NAType", "pandas._libs.missing", lambda _: None),
)


def _class(module: str, name: str) -> Any:
    return getattr(sys.modules.get(module), name, None)
