"""Bodies that are not JSON: forms with files, and one file alone. They are passed on as they came.

What is in them is found, checked as JSON, and said in a document behind the body; no byte of a file is copied.
"""

import asyncio
import base64
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from openlaunch.errors import BadRequest, Unprocessable
from openlaunch.wire.bundles import BINARY
from openlaunch_worker.files import OCTETS
from openlaunch_worker.frames import Body, with_parts

MAX_PARTS = 1000
MAX_BOUNDARY = 200
MAX_HEAD_BYTES = 8192
"""Limit on the headers of one part."""

MAX_FIELDS_BYTES = 1024 * 1024
"""Limit on all parts together that are not files: they become JSON in the event loop's thread."""

STEP_BYTES = 4 * 1024 * 1024
"""How much of a body is searched at a time, which takes about 2 ms; others run in between."""

MAX_STEPS = 1000
"""Limit on the steps of the search for the end of one part. A line that only begins like the end is one of them."""

FORM = "multipart/form-data"
Place = tuple[list[Any], str]
"""The path of a file in the args, and the id of an uploaded file that stands there."""

_ID = re.compile(r"file_[0-9a-f]{20}")
MAX_ID = 26
"""A character more than an id has."""
_WEB = (b"data:", b"https://", b"http://")


class Part(NamedTuple):
    """Where in a body a part of a form is, and what its headers say of it."""

    name: str
    start: int
    end: int
    media_type: str
    filename: str | None


class Form(NamedTuple):
    """The args that are in a body, with an empty text for each file, and the files: path in the args, and part.

    `tensors` says how the value is answered as such; None: it is not.
    """

    args: dict[str, Any]
    files: list[tuple[list[Any], Part]]
    tensors: dict[str, Any] | None = None

    def behind(self, body: Body) -> Body:
        """Return the body for a worker, with a document behind it; a large one is changed in its place."""
        parts = [[path, p.start, p.end, p.media_type, p.filename or ""] for path, p in self.files]
        document = {"args": self.args, "parts": parts}
        if self.tensors is not None:
            document["tensors"] = self.tensors
        return with_parts(body, json.dumps(document).encode())


class Fields:
    """What a request schema says of each argument: whether it is a file, a list of files, or which type of JSON."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        properties: Mapping[str, Any] = schema.get("properties", {})
        self._kinds = {name: set(_all_kinds_of(of)) for name, of in properties.items()}
        self._others = set(_all_kinds_of(schema.get("additionalProperties")))
        self.files = {name for name, kinds in self._kinds.items() if "file" in kinds}
        required = set(schema.get("required", ()))
        self.only_file = next(iter(self.files)) if len(self.files) == 1 and required <= self.files else None
        """The argument that a body without a name is; None where there is not one alone."""

    def may_be(self, kind: str, name: str) -> bool:
        """Return whether an argument may be a "file", a "list" or "text"; one without a name in the schema, too."""
        return kind in self._kinds.get(name, self._others)

    def ids_in(self, args: Any) -> tuple[Place, ...]:
        """Return where the args have an id of an uploaded file in the place of a file."""
        if type(args) is not dict:
            return ()
        places: list[Place] = []
        others = sorted(args.keys() - self._kinds.keys()) if "file" in self._others else ()
        for name in (*self.files, *others):
            given = args.get(name)
            items = [([name], given)] if type(given) is not list else _items(name, given)
            places += ((path, each) for path, each in items if type(each) is str and _ID.fullmatch(each))
        return tuple(places)


def _items(name: str, given: list[Any]) -> list[tuple[list[Any], Any]]:
    return [([name, number], each) for number, each in enumerate(given)]


def _all_kinds_of(schema: Any) -> Iterator[str]:
    for each in _alternatives(schema):
        yield from _kinds_of(each)


def _alternatives(schema: Any) -> Iterator[dict[str, Any]]:
    """Yield a schema and those of which a value may fit any one."""
    left = [schema]
    while left:
        each = left.pop()
        if isinstance(each, dict):
            yield each
            left += each.get("anyOf", ())


def _kinds_of(schema: Mapping[str, Any]) -> Iterator[str]:
    items = schema.get("items")
    if BINARY in schema or (isinstance(items, dict) and BINARY in items):
        yield "file"
    if schema.get("type") == "array":
        yield "list"
    if schema.get("type") == "string" and BINARY not in schema:
        yield "text"


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
    form = Form({}, [])
    left = MAX_FIELDS_BYTES
    for part in await _parts(body, _delimiter(content_type)):
        if not _is_given_here(part, body, fields):
            left -= part.end - part.start
        if left < 0:
            text = f"the parts that are not files have over {MAX_FIELDS_BYTES} bytes, which is the limit"
            raise _wrong(part.name, text)
        _add(form, part, body, fields)
    return form


async def field_of(body: Body, content_type: str, name: str) -> tuple[int, int] | None:
    """Return where the value of a field is in a form; None: it has none. Raise BadRequest where it is not a form."""
    if not content_type.lower().startswith(FORM):
        raise BadRequest(f"the Content-Type is {content_type[:80]!r}, {FORM} is needed", code="invalid_form")
    for part in await _parts(body, _delimiter(content_type)):
        if part.name == name and part.filename is None:
            return part.start, part.end
    return None


def _delimiter(content_type: str) -> bytes:
    boundary = _parameters(content_type).get("boundary", "")
    if not boundary:
        raise BadRequest(f"the Content-Type {FORM} has no boundary", code="invalid_form")
    if len(boundary) > MAX_BOUNDARY:
        text = f"the boundary of the form has {len(boundary)} characters, at most {MAX_BOUNDARY} are allowed"
        raise BadRequest(text, code="invalid_form")
    return b"--" + boundary.encode("latin-1", "replace")


def one_file(body: Body, content_type: str, name: str, fields: Fields) -> Form:
    """Return the args of a body that is one file."""
    part = Part(name, 0, len(body), content_type.partition(";")[0].strip(), None)
    return (
        Form({name: [""]}, [([name, 0], part)])
        if fields.may_be("list", name)
        else Form({name: ""}, [([name], part)])
    )


def form_of(document: dict[str, Any]) -> Form:
    """Return what a document says that is behind a body. Raise BadRequest where it says nothing of the kind."""
    files = []
    try:
        args = document["args"]
        for path, start, end, media_type, name in document["parts"]:
            in_its_place = args[path[0]] if len(path) == 1 else args[path[0]][path[1]]
            if in_its_place != "" and not _ID.fullmatch(in_its_place):
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
        name = f";name={quote(part.filename, safe='')}" if part.filename else ""
        of[key] = f"data:{part.media_type or OCTETS}{name};base64,{data}"
    return json.dumps(form.args).encode()


async def _parts(body: Body, delimiter: bytes) -> list[Part]:
    parts: list[Part] = []
    at = len(delimiter) if body[: len(delimiter)] == delimiter else await _after(body, delimiter, 0)
    paused_at = at
    while body[at : at + 2] != b"--":
        if at - paused_at > STEP_BYTES:
            paused_at = at
            await asyncio.sleep(0)  # parts that are each found at once may be many
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
    for _ in range(MAX_STEPS):
        found = body.find(text, start, start + STEP_BYTES + len(text))
        end = found + len(text)
        if found >= 0 and _ENDS_DELIMITER.match(body, end):
            return end
        start = end if found >= 0 else start + STEP_BYTES
        if start >= len(body):
            break
        await asyncio.sleep(0)
    raise _cut_off()


_ENDS_DELIMITER = re.compile(rb"--|[ \t]*\r\n")


def _cut_off() -> BadRequest:
    return BadRequest("the form is cut off before its end, or is not one", code="invalid_form")


_PARAMETER = re.compile(r';\s*(\w+\*?)=(?:"((?:[^"\\]|\\.)*)"|([^;\s]*))')
_ESCAPED = re.compile(r'\\(["\\])')
_EXTENDED = re.compile(r"(utf-8|iso-8859-1)'[^']*'(.*)", re.IGNORECASE)
"""A value with its charset, as RFC 5987 has it."""


def _part(head: bytes, start: int, end: int) -> Part:
    headers: dict[str, str] = {}
    for line in head.decode("utf-8", "replace").split("\r\n"):
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    found = _parameters(headers.get("content-disposition", ""))
    if "name" not in found or end < start:
        raise BadRequest("a part of the form has no name", code="invalid_form")
    encoding = headers.get("content-transfer-encoding", "binary").lower()
    if encoding not in ("binary", "8bit", "7bit"):
        text = f"the part {found['name'][:80]!r} is encoded as {encoding[:80]!r}: send its bytes as they are"
        raise BadRequest(text, code="invalid_form")
    media_type = headers.get("content-type", "").partition(";")[0].strip()
    return Part(found["name"], start, end, media_type, found.get("filename"))


def _parameters(value: str) -> dict[str, str]:
    """Return the parameters of a header, by their names in lower case; one with a charset only where no other is."""
    found: dict[str, str] = {}
    for name, quoted, bare in _PARAMETER.findall(value):
        if not name.endswith("*"):
            found[name.lower()] = _ESCAPED.sub(r"\1", quoted) or bare
        elif (extended := _EXTENDED.fullmatch(quoted or bare)) is not None:
            found.setdefault(name[:-1].lower(), unquote(extended[2], extended[1]))
    return found


def _is_given_here(part: Part, body: Body, fields: Fields) -> bool:
    """Return whether a part is a file whose bytes it has, in place of a URL or an id."""
    head = bytes(body[part.start : min(part.end, part.start + MAX_ID)])
    named = head.startswith(_WEB) or _ID.fullmatch(head.decode("latin-1")) is not None
    is_text = named or fields.may_be("text", part.name)
    return fields.may_be("file", part.name) and (part.filename is not None or not is_text)


def _add(form: Form, part: Part, body: Body, fields: Fields) -> None:
    name, args = part.name, form.args
    if part.filename == "" and part.start == part.end:
        return  # a browser's field for a file, of which none was chosen
    is_json = part.media_type.lower() == "application/json"  # as a Blob of a browser, which always has a name
    if part.filename is not None and not is_json and not fields.may_be("file", name):
        taken = ", ".join(map(repr, sorted(fields.files))) or "no parameter"
        raise _wrong(name, f"it is a file, and the function takes files for {taken}")
    is_list = fields.may_be("list", name)
    if name in args and not is_list:
        raise _wrong(name, "it is there twice, and one value is needed")
    if _is_given_here(part, body, fields):
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
    try:
        text = bytes(body[part.start : part.end]).decode()
    except UnicodeDecodeError:
        raise _wrong(part.name, "it is not text in UTF-8, and it is not a file") from None
    if fields.may_be("text", part.name) or fields.may_be("file", part.name):
        return text
    try:
        return json.loads(text)
    except RecursionError:
        raise _wrong(part.name, "it is nested too deep") from None
    except ValueError:
        return text  # which the check refuses, unless the schema has nothing to say


def _wrong(name: str, message: str) -> Unprocessable:
    error = {"loc": ["body", name], "msg": message, "type": "value_error"}
    return Unprocessable(f"{name}: {message}", errors=[error])
