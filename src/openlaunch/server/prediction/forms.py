"""Bodies that are not JSON: forms with files, and one file alone. They are passed on as they came.

What is in them is found, checked as JSON, and said in a document behind the body; no byte of a file is copied.
"""

import asyncio
import base64
import json
import re
from collections.abc import Mapping
from email.message import Message
from typing import Any, NamedTuple

from openlaunch.errors import BadRequest, Unprocessable
from openlaunch.wire.bundles import BINARY
from openlaunch_worker.files import OCTETS
from openlaunch_worker.frames import Body, with_parts

MAX_PARTS = 1000
MAX_HEAD_BYTES = 8192
"""Of the headers of one part."""

MAX_FIELD_BYTES = 1024 * 1024
"""Of one part that is not a file, which becomes JSON."""

STEP_BYTES = 4 * 1024 * 1024
"""How much of a body is searched at a time, which takes about 2 ms; others run in between."""

FORM = "multipart/form-data"
_WEB = ("data:", "https://", "http://")


class Part(NamedTuple):
    """Where in a body a part of a form is, and what its headers say of it."""

    name: str
    start: int
    end: int
    media_type: str
    filename: str | None


class Form(NamedTuple):
    """The args that are in a body, with an empty text for each file, and the files: path in the args, and part."""

    args: dict[str, Any]
    files: list[tuple[list[Any], Part]]

    def behind(self, body: Body) -> Body:
        """Return the body for a worker, with a document behind it; a large one is changed in its place."""
        parts = [[path, p.start, p.end, p.media_type, p.filename or ""] for path, p in self.files]
        return with_parts(body, json.dumps({"args": self.args, "parts": parts}).encode())


class Fields:
    """What a request schema says of each argument: whether it is a file, a list of files, or what of JSON."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._of = dict(schema.get("properties", {}))
        self._required = set(schema.get("required", ()))

    def is_file(self, name: str) -> bool:
        return _any(self._of.get(name), lambda each: BINARY in each or BINARY in (each.get("items") or {}))

    def is_list(self, name: str) -> bool:
        return _any(self._of.get(name), lambda each: each.get("type") == "array")

    def is_text(self, name: str) -> bool:
        return _any(self._of.get(name), lambda each: each.get("type") == "string" and BINARY not in each)

    @property
    def only_file(self) -> str | None:
        """The argument that a body without a name is; None where there is not one alone."""
        files = [name for name in self._of if self.is_file(name)]
        return files[0] if len(files) == 1 and self._required <= {*files} else None


def _any(schema: Any, holds: Any) -> bool:
    if not isinstance(schema, dict):
        return False
    return holds(schema) or any(_any(each, holds) for each in schema.get("anyOf", ()))


def taken_types(fields: Fields | None) -> str:
    """Say which types of a body an endpoint takes."""
    if fields is None:
        return "application/json"
    alone = "" if fields.only_file is None else f", or the bytes of {fields.only_file} with their own type"
    return f"application/json or {FORM}{alone}"


async def read_form(body: Body, content_type: str, fields: Fields) -> Form:
    """Return what is in a form.

    Raises:
        BadRequest: it is cut off, or not a form.
        Unprocessable: a part does not go with the arguments.
    """
    boundary = _header(content_type).get_param("boundary")
    if not isinstance(boundary, str) or not 1 <= len(boundary) <= 200:
        raise BadRequest(f"the Content-Type {FORM} has no boundary", code="invalid_form")
    form = Form({}, [])
    for part in await _parts(body, b"--" + boundary.encode("latin-1", "replace")):
        _add(form, part, body, fields)
    return form


def one_file(body: Body, content_type: str, name: str, fields: Fields) -> Form:
    """Return the args of a body that is one file."""
    part = Part(name, 0, len(body), content_type.partition(";")[0].strip(), None)
    return (
        Form({name: [""]}, [([name, 0], part)])
        if fields.is_list(name)
        else Form({name: ""}, [([name], part)])
    )


def form_of(document: dict[str, Any]) -> Form:
    """Return what a document says that is behind a body. Raise BadRequest where it says nothing of the kind."""
    args, files = document["args"], []
    try:
        for path, start, end, media_type, name in document["parts"]:
            if (args[path[0]] if len(path) == 1 else args[path[0]][path[1]]) != "":
                raise ValueError("a part has no place in the args")
            files.append((path, Part("", int(start), int(end), str(media_type), str(name))))
    except (LookupError, TypeError, ValueError) as error:
        raise BadRequest(f"the parts of the body can't be read: {error}", code="invalid_form") from None
    return Form(args, files)


def as_json(body: Body, form: Form) -> bytes:
    """Return the args with their files as `data:` URLs, in which form tasks are stored."""
    for path, part in form.files:
        of, key = (form.args, path[0]) if len(path) == 1 else (form.args[path[0]], path[1])
        data = base64.b64encode(body[part.start : part.end]).decode()
        of[key] = f"data:{part.media_type or OCTETS};base64,{data}"
    return json.dumps(form.args).encode()


async def _parts(body: Body, delimiter: bytes) -> list[Part]:
    parts: list[Part] = []
    at = len(delimiter) if body[: len(delimiter)] == delimiter else await _after(body, delimiter, 0)
    while body[at : at + 2] != b"--":
        begin = body.find(b"\r\n", at)
        head = body.find(b"\r\n\r\n", begin, begin + MAX_HEAD_BYTES)
        if min(begin, head) < 0:
            raise _cut_off()
        at = await _after(body, delimiter, head + 2)
        parts.append(_part(bytes(body[begin:head]), head + 4, at - len(delimiter) - 2))
        if len(parts) > MAX_PARTS:
            raise BadRequest(f"the form has over {MAX_PARTS} parts, which is the limit", code="invalid_form")
    return parts


async def _after(body: Body, delimiter: bytes, start: int) -> int:
    """Return where the next delimiter of parts ends. Others run while a large body is searched."""
    text = b"\r\n" + delimiter
    while start < len(body):
        found = body.find(text, start, start + STEP_BYTES + len(text))
        if found < 0:
            start += STEP_BYTES
            await asyncio.sleep(0)
        elif _ENDS_DELIMITER.match(body, end := found + len(text)):
            return end
        else:
            start = end
    raise _cut_off()


_ENDS_DELIMITER = re.compile(rb"--|[ \t]*\r\n")


def _cut_off() -> BadRequest:
    return BadRequest("the form is cut off before its end, or is not one", code="invalid_form")


_PARAMETER = re.compile(r';\s*(\w+)\*?=(?:"((?:[^"\\]|\\.)*)"|([^;\s]*))')


def _part(head: bytes, start: int, end: int) -> Part:
    headers: dict[str, str] = {}
    for line in head.decode("utf-8", "replace").split("\r\n"):
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    parameters = _PARAMETER.finditer(headers.get("content-disposition", ""))
    found = {m[1].lower(): m[2] if m[2] is not None else m[3] for m in parameters}
    if "name" not in found or end < start:
        raise BadRequest("a part of the form has no name", code="invalid_form")
    media_type = headers.get("content-type", "").partition(";")[0].strip()
    return Part(found["name"].replace('\\"', '"'), start, end, media_type, found.get("filename"))


def _header(content_type: str) -> Message:
    message = Message()
    message["content-type"] = content_type
    return message


def _add(form: Form, part: Part, body: Body, fields: Fields) -> None:
    name, args = part.name, form.args
    is_file = fields.is_file(name)
    if part.filename is not None and not is_file:
        raise _wrong(name, f"it is a file, and {name!r} takes none: send a value")
    is_list = fields.is_list(name)
    if name in args and not is_list:
        raise _wrong(name, "it is there twice, and one value is needed")
    head = bytes(body[part.start : min(part.end, part.start + 8)])
    by_url = is_file and part.filename is None and head.startswith(tuple(u.encode()[:8] for u in _WEB))
    if is_file and not by_url:
        path = [name, len(args.setdefault(name, []))] if is_list else [name]
        value: Any = ""
        form.files.append((path, part))
    else:
        value = _value(part, body, fields)
    if not is_list or isinstance(value, list):
        args[name] = value
    else:
        args.setdefault(name, []).append(value)


def _value(part: Part, body: Body, fields: Fields) -> Any:
    """Return the value of a field: text where the schema has that, else what its JSON is."""
    if part.end - part.start > MAX_FIELD_BYTES:
        raise _wrong(
            part.name, f"it has over {MAX_FIELD_BYTES} bytes, which is the limit of what is not a file"
        )
    text = bytes(body[part.start : part.end]).decode("utf-8", "replace")
    if fields.is_text(part.name) or fields.is_file(part.name):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text  # which the check refuses, unless the schema has nothing to say


def _wrong(name: str, message: str) -> Unprocessable:
    error = {"loc": ["body", name], "msg": message, "type": "value_error"}
    return Unprocessable(f"{name}: {message}", errors=[error])
