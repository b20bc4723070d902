"""Values that JSON does not have: how they are sent in args, and how those of an answer are made again."""

import base64
import importlib.util
import json
import re
from collections.abc import Callable
from io import BytesIO
from typing import Any
from urllib.parse import unquote

from openlaunch_worker.dataframes import frame_of
from openlaunch_worker.files import File
from openlaunch_worker.frames import with_parts
from openlaunch_worker.values import binary_of, check_keys, looks_numbered, npy_of, sent

_SENT = re.compile(r"data:([^,]*?);type=([a-z]+)(?:;name=([^;,]*))?;base64,")


def encode_args(document: dict[str, Any]) -> bytes:
    """Encode a request with bytes, paths, files, images, arrays and the like in it; arrays come back as such.

    Raises:
        TypeError: something in it can't be sent.
        ValueError: a number in it is not finite, or two keys of a dict are the same in JSON.
        OSError: a file can't be read.
    """
    text = json.dumps(
        {**document, "typed_result": True}, separators=(",", ":"), allow_nan=False, default=sent
    )
    if looks_numbered(text) is not None:
        check_keys(document, "the body")
    return text.encode()


def encode_parts(document: dict[str, Any]) -> bytes | None:
    """Encode a request with the files in its args as they are, in front of the rest; None where it has none.

    Raises what `encode_args` does.
    """
    if not isinstance(document.get("args"), dict):
        return None
    args = dict(document["args"])
    data: list[bytes] = []
    parts: list[list[Any]] = []
    at = 0
    for path, value in [
        (path, value) for name, given in args.items() for path, value in _places(name, given)
    ]:
        found = binary_of(value) or npy_of(value)
        if found is None:
            continue
        if len(path) == 1:
            args[path[0]] = ""
        else:
            args[path[0]] = [*args[path[0]]]
            args[path[0]][path[1]] = ""
        parts.append([path, at, at + len(found.data), found.media_type, found.name])
        data.append(found.data)
        at += len(found.data)
    if not parts:
        return None
    return bytes(with_parts(b"".join(data), encode_args({**document, "args": args, "parts": parts})))


def _places(name: str, given: Any) -> list[tuple[list[Any], Any]]:
    if isinstance(given, list | tuple):
        return [([name, number], each) for number, each in enumerate(given)]
    return [([name], given)]


def restored(value: Any) -> Any:
    """Return a value of an answer with the bytes, files, images and arrays that a worker has put into it."""
    if isinstance(value, str):
        found = _SENT.match(value)
        return value if found is None else _made(found, value[found.end() :], value)
    if isinstance(value, list):
        return [restored(each) for each in value]
    if isinstance(value, dict):
        return {key: restored(each) for key, each in value.items()}
    return value


def _made(found: re.Match[str], text: str, whole: str) -> Any:
    make = _MAKERS.get(found[2])
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        return whole
    return whole if make is None else make(File(data, name=unquote(found[3] or ""), media_type=found[1]))


def _image(file: File) -> Any:
    if importlib.util.find_spec("PIL") is None:
        return file
    return importlib.import_module("PIL.Image").open(BytesIO(file.read()))


def _array(file: File) -> Any:
    if importlib.util.find_spec("numpy") is None:
        return file
    return importlib.import_module("numpy").load(BytesIO(file.read()), allow_pickle=False)


def _tensor(file: File) -> Any:
    if importlib.util.find_spec("torch") is None:
        return _array(file)
    return importlib.import_module("torch").from_numpy(_array(file))


def _table(file: File) -> Any:
    if any(importlib.util.find_spec(name) is None for name in ("pandas", "pyarrow")):
        return file
    return frame_of(file)


_MAKERS: dict[str, Callable[[File], Any]] = {
    "bytes": File.read,
    "file": lambda file: file,
    "image": _image,
    "array": _array,
    "tensor": _tensor,
    "table": _table,
}
