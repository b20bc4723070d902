"""Several values as one answer: a part for each, as forms have them, so that bytes need no base64."""

import secrets
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from openlaunch_worker.values import Binary

FORM: Final = "multipart/form-data"
_ESCAPED: Final = str.maketrans({'"': "%22", "\r": "%0D", "\n": "%0A"})


def form_of(
    value: Any, binary: Callable[[Any], Binary | None], to_json: Callable[[Any], str]
) -> tuple[list[bytes], str] | None:
    """Return a dict or a tuple as the pieces of a form, and its media type; None for another value.

    An item that is sent as bytes is a file, a list of such ones several of one name, and everything else JSON.
    """
    if isinstance(value, Mapping):
        items = [(str(name), each) for name, each in value.items()]
    elif isinstance(value, tuple):
        items = [(str(number), each) for number, each in enumerate(value)]
    else:
        return None
    boundary = secrets.token_hex(16)
    delimiter = f"--{boundary}".encode()
    pieces: list[bytes] = []
    for name, each in items:
        for part in _parts(each, binary, to_json):
            pieces += (delimiter, _head(name, part), part.data, b"\r\n")
    return [*pieces, delimiter, b"--\r\n"], f"{FORM}; boundary={boundary}"


def _parts(
    value: Any, binary: Callable[[Any], Binary | None], to_json: Callable[[Any], str]
) -> Iterator[Binary]:
    several = value if isinstance(value, list) and value else [value]
    found = [binary(each) for each in several]
    if None in found:
        yield Binary(to_json(value).encode(), "application/json", "")
    else:
        yield from (each for each in found if each is not None)


def _head(name: str, part: Binary) -> bytes:
    of_file = f'; filename="{(part.name or name).translate(_ESCAPED)}"' if part.kind else ""
    disposition = f'Content-Disposition: form-data; name="{name.translate(_ESCAPED)}"{of_file}'
    media_type = part.media_type if part.media_type.isprintable() else "application/octet-stream"
    return f"\r\n{disposition}\r\nContent-Type: {media_type}\r\n\r\n".encode("utf-8", "replace")
