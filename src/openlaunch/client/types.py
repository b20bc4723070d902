"""Values that JSON does not have: how they are sent in args, and how those of an answer are made again."""

import binascii
import importlib.util
import json
import re
from collections.abc import Callable
from io import BytesIO
from typing import Any
from urllib.parse import unquote

from openlaunch_worker.dataframes import frame_of
from openlaunch_worker.files import File
from openlaunch_worker.frames import document_behind, with_parts
from openlaunch_worker.values import Binary, binary_of, check_keys, looks_numbered, npy_of, sent, text_of_part

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
    return _with_texts(value, _of_url)


def _with_texts(value: Any, instead: Callable[[str], Any]) -> Any:
    """Return a value of JSON with something else in place of each text."""
    if isinstance(value, str):
        return instead(value)
    if isinstance(value, list):
        return [_with_texts(each, instead) for each in value]
    if isinstance(value, dict):
        return {key: _with_texts(each, instead) for key, each in value.items()}
    return value


def _of_url(whole: str) -> Any:
    if (found := _SENT.match(whole)) is None:
        return whole
    make = _MAKERS.get(found[2])
    try:
        data = binascii.a2b_base64(whole[found.end() :], strict_mode=True)
    except ValueError:
        return whole
    return whole if make is None else make(File(data, name=unquote(found[3] or ""), media_type=found[1]))


class ValueInParts:
    """A value in an answer whose bytes are in front of its JSON, as `openlaunch_worker.values.Parts` has it.

    Raises ValueError where the answer is not such a one.
    """

    def __init__(self, body: bytes) -> None:
        document = json.loads(bytes(document_behind(memoryview(body))))
        try:
            mark, self._value = str(document["mark"]), document["value"]
            self._parts = {
                text_of_part(mark, number): (int(start), int(end), str(media_type), str(kind), str(name))
                for number, (start, end, media_type, kind, name) in enumerate(document["parts"])
            }
        except (LookupError, TypeError, ValueError) as error:
            raise ValueError(f"its parts can't be read: {error!r}") from None
        self._body = body

    def value(self) -> Any:
        """Make the value."""
        return _with_texts(self._value, self._made)

    def json(self) -> str:
        """Return the value as JSON text, in which bytes are `data:` URLs."""
        return json.dumps(_with_texts(self._value, self._as_url))

    def _binary(self, text: str) -> Binary | None:
        if (found := self._parts.get(text)) is None:
            return None
        start, end, media_type, kind, name = found
        return Binary(bytes(memoryview(self._body)[start:end]), media_type, kind, name)

    def _made(self, text: str) -> Any:
        if (found := self._binary(text)) is None:
            return text
        file = File(found.data, name=found.name, media_type=found.media_type)
        return _MAKERS.get(found.kind, _MAKERS["file"])(file)

    def _as_url(self, text: str) -> str:
        found = self._binary(text)
        return text if found is None else found.data_url()


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
