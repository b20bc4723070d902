"""Bodies of predictions: parsed once, checked, and passed on as the bytes that came."""

import codecs
import json
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import orjson
from pydantic import TypeAdapter, ValidationError

from openlaunch.errors import APIError, BadRequest, Unprocessable
from openlaunch.server.asgi import INVALID_JSON
from openlaunch.server.prediction.forms import Place, as_json, field_of, form_of
from openlaunch.server.prediction.schemas import QUICK_BYTES, BundleSchemas
from openlaunch.tasks.callback import Callback
from openlaunch.tasks.model_lines import STORED, needs_stored
from openlaunch.tasks.raw_json import elements, members
from openlaunch.wire import routes
from openlaunch.wire.endpoint_settings import CallbackAuth
from openlaunch.wire.misfits import said
from openlaunch.wire.tasks import MAX_BULK, MAX_PRIORITY
from openlaunch_worker.frames import COPY_BYTES, Body, Flags, document_behind

CALLBACK_AUTH: TypeAdapter[CallbackAuth] = TypeAdapter(CallbackAuth)
_MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_PRIORITIES = f"a whole number from {-MAX_PRIORITY} to {MAX_PRIORITY}"
LIGHT_BYTES = 8 * 1024 * 1024
LIGHT_VALUES = 20_000
"""A body that no schema is for is quick to parse, too, up to this size and as many values: mostly long strings."""

_Fields = tuple[Flags, float | None, Callback | None, int]
_NO_FIELDS: _Fields = Flags.NONE, None, None, 0
"""What the server reads of a body that has nothing but args."""

_ARGS_HEAD = b'{"args": '
_USAGE_HEAD = b'{"stream_options": {"include_usage": true}, '

MAX_URL = 8192
"""Characters of a URL; a signed one has up to about 2,000."""


class PredictInput(NamedTuple):
    """A body, and the fields that the server reads."""

    body: Body
    flags: Flags = Flags.NONE
    timeout: float | None = None
    callback: Callback | None = None
    priority: int = 0
    expires_at: float | None = None
    """When its task expires that waits; None: as the endpoint says."""
    files: tuple[Place, ...] = ()
    """Where the args name uploaded files, whose bytes are not there yet."""

    def __repr__(self) -> str:
        """Leave out the user's data: the body and the callback."""
        return f"PredictInput({len(self.body)} bytes, {self.flags!r}, {self.timeout}, {self.priority})"


def check_body(body: Body, schemas: BundleSchemas) -> PredictInput:
    """Parse and check a body.

    Raises:
        BadRequest: it is not JSON.
        Unprocessable: it is not an object with exactly one of `url` and `args`, a field has a wrong type, or
            the args do not fit the request schema.
        TakesLong: they do not, and the reasons are to be found in a process of its own.
    """
    document = parse_json(body)
    return check_document(document, body, schemas)


def check_sync_body(body: Body, schemas: BundleSchemas) -> PredictInput:
    """Check the body of a sync request, which asks for no callback and no priority; raises what `check_body` does."""
    predict_input = check_document(parse_json(body), body, schemas)
    if predict_input.callback is not None:
        raise _wrong(["callback_url"], "callbacks are for async endpoints: this request is answered at once")
    if predict_input.priority:
        raise _wrong(["priority"], "priorities are for async endpoints: this request is answered at once")
    return predict_input


def check_args(body: Body, schemas: BundleSchemas) -> PredictInput:
    """Parse and check a body that is the args alone; the body of the input that is returned is still that.

    Raises:
        BadRequest: it is not JSON.
        Unprocessable: it is null, or does not fit the request schema.
        TakesLong: it does not, and the reasons are to be found in a process of its own.
    """
    args = parse_json(body)
    if args is None:
        raise _wrong([], "it is null: send the arguments as an object, {} where there are none")
    try:
        schemas.check_request(args, len(body))
    except Unprocessable as misfit:
        raise of_args(misfit) from None
    return PredictInput(body, files=() if schemas.fields is None else schemas.fields.ids_in(args))


def of_args(misfit: Unprocessable) -> Unprocessable:
    """Make the same error of a body that is the args: the path of a field begins there."""
    errors = [{**e, "loc": ["body", *e["loc"][2:]]} for e in misfit.errors]
    return Unprocessable(misfit.message, code=misfit.code, errors=errors)


class ModelInput(NamedTuple):
    """A body that names a model, as OpenAI's API has it, and the fields that the server reads."""

    body: Body
    model: str
    is_stream: bool
    stream_options: dict[str, Any] | None = None
    place: tuple[int, int] | None = None
    """Where the name of the model is, in a form."""
    needs_stored: bool = False
    """Whether it continues an earlier response, or is to be asked for later; see `NOT_STORED`."""

    @property
    def asks_usage(self) -> bool:
        """Whether the caller wants the event of a stream that has its usage."""
        return bool((self.stream_options or {}).get("include_usage"))

    @property
    def options_with_usage(self) -> dict[str, Any]:
        """The options of a stream that has its usage."""
        return {**(self.stream_options or {}), "include_usage": True}

    def __repr__(self) -> str:
        """Leave out the user's data."""
        return f"ModelInput({len(self.body)} bytes, {self.model!r})"


def check_model(body: Body, schemas: BundleSchemas | None = None) -> ModelInput:
    """Parse a body and read which model it is for; raise BadRequest where it is not JSON, or names none."""
    document = parse_json(body)
    model = document.get("model") if isinstance(document, dict) else None
    if not isinstance(model, str) or not model:
        raise _missing_model("missing" if model is None else repr(model)[:80])
    options = document.get("stream_options")
    if options is None and "stream_options" in document:
        options = {}
    known = options if isinstance(options, dict) else None
    stored = not STORED.isdisjoint(document) and needs_stored(document)
    return ModelInput(body, model, document.get("stream") is True, known, needs_stored=stored)


def _missing_model(given: str) -> BadRequest:
    text = f"model is {given}: name an endpoint that speaks OpenAI, as GET {routes.MODELS} lists them"
    return BadRequest(text, code="missing_model")


async def model_of_form(body: Body, content_type: str) -> ModelInput:
    """Read which model a form is for; raise BadRequest where it is not a form, or names none."""
    place = await field_of(body, content_type, "model")
    if place is None or place[0] == place[1]:
        raise _missing_model("missing")
    return ModelInput(body, bytes(body[slice(*place)]).decode("utf-8", "replace"), False, place=place)


def with_usage(asked: ModelInput) -> Body:
    """Return the body of a stream that asks for its usage, and all else as it is."""
    if asked.stream_options is not None:
        return with_value(asked.body, "stream_options", asked.options_with_usage)
    # It is not looked for in the body, which may be large: of a key that stands twice, the last one counts.
    return _USAGE_HEAD + bytes(asked.body[asked.body.index(b"{") + 1 :])


def with_value(body: Body, key: str, value: object) -> bytes:
    """Return a body that was checked with another value of this key, wherever it stands in the outer object."""
    text, done = str(body, "utf-8"), 0
    pieces: list[str] = []
    try:
        for name, start, end in members(text):
            if name == key:
                pieces += text[done:start], json.dumps(value)
                done = end
    except RecursionError:
        raise BadRequest("the body is nested too deep", code="too_deep") from None
    return "".join([*pieces, text[done:]]).encode()


def check_parts(document: Body, schemas: BundleSchemas) -> PredictInput:
    """Check the document behind a sync request's parts; raises what `check_sync_body` does."""
    predict_input = check_sync_body(document, schemas)
    form_of(parse_json(document))
    return predict_input


def files_in_json(body: Body, *, args_alone: bool) -> bytes:
    """Return what is in the document behind the parts of a request, with the parts as `data:` URLs in its args."""
    document = parse_json(bytes(document_behind(memoryview(body))))
    args = as_json(body, form_of(document))
    if args_alone:
        return args
    rest = {name: value for name, value in document.items() if name not in ("args", "parts")}
    return b'%b, "args": %b}' % (json.dumps({"url": None, **rest}).encode()[:-1], args)


def as_request(args: Body, route: str | None = None, content_type: str | None = None) -> Body:
    """Return the body of a request with these args, which were checked; a large body is changed in its place.

    With a route, that is the request's `destination_path`, which stands first. `args` that are not JSON have a
    `content_type`.
    """
    head = _ARGS_HEAD
    if route is not None:
        kind = "" if content_type is None else f', "content_type": {json.dumps(content_type)}'
        head = f'{{"destination_path": {json.dumps(route)}{kind}, "args": '.encode()
    if isinstance(args, bytearray):
        args[:0] = head
        args += b"}"
        return args
    return b"%b%b}" % (head, args)


def check_bodies(body: Body, schemas: BundleSchemas) -> list[PredictInput]:
    """Parse and check the body of a bulk submit; an error names the request that it is about."""
    requests = _requests_of(parse_json(body))
    return [
        _check_one_of(document, body[start:end], schemas, index)
        for index, (document, (start, end)) in enumerate(zip(requests, places_of(body), strict=True))
    ]


def places_of(body: Body) -> list[tuple[int, int]]:
    """Return where in the body of a bulk submit each of its requests begins and ends."""
    text, places = str(body, "utf-8"), []
    at = done = 0  # the same place in bytes and in characters
    try:
        starts = [start for name, start, _ in members(text) if name == "requests"]
        for start, end in elements(text, starts[-1]):
            begin = at + len(text[done:start].encode())
            at, done = begin + len(text[start:end].encode()), end
            places.append((begin, at))
    except RecursionError:
        raise BadRequest("the requests are nested too deep", code="too_deep") from None
    return places


def _requests_of(document: Any) -> list[Any]:
    requests = document.get("requests") if isinstance(document, dict) else None
    if not isinstance(requests, list) or not 1 <= len(requests) <= MAX_BULK:
        size = f"a list of {len(requests)}" if isinstance(requests, list) else type(requests).__name__
        message = f"it is {size}, a list of 1 to {MAX_BULK} requests is needed"
        error = {"loc": ["body", "requests"], "msg": message, "type": "value_error"}
        raise Unprocessable(f"requests: {message}", errors=[error])
    return requests


def _check_one_of(document: Any, body: Body, schemas: BundleSchemas, index: int) -> PredictInput:
    try:
        return check_document(document, body, schemas)
    except APIError as error:
        raise at_index(error, index) from error


def is_quick(body: Body, schemas: BundleSchemas) -> bool:
    """Return whether a body is parsed and checked so quickly that the event loop may do it."""
    return len(body) <= schemas.quick_bytes or (not schemas.has_request and is_light(body))


def is_light(body: Body) -> bool:
    """Return whether a document is small or has few values, which are long then, so that it is parsed quickly."""
    size = len(body)
    if QUICK_BYTES < size <= LIGHT_BYTES:
        return occurrences(body, b",", b"[", b"{") <= LIGHT_VALUES
    return size <= QUICK_BYTES


def occurrences(body: Body, *characters: bytes) -> int:
    """Count how often these single bytes stand in a body, of which no more than a piece is copied."""
    pieces = (bytes(body[start : start + COPY_BYTES]) for start in range(0, len(body), COPY_BYTES))
    return sum(sum(map(piece.count, characters)) for piece in pieces)


def parse_json(body: Body) -> Any:
    """Parse a body; of a key that stands twice in an object, the last one counts, as in the worker."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        reason = "it begins with a byte order mark" if bytes(body[:3]).startswith(_MARKS) else error
        raise BadRequest(f"the body is not valid JSON in UTF-8: {reason}", code=INVALID_JSON) from None


def check_document(document: Any, body: Body, schemas: BundleSchemas) -> PredictInput:
    """Check a body that has been parsed as `document`; raises what `check_body` does."""
    if not isinstance(document, dict):
        raise _wrong([], f"it is {type(document).__name__}, an object with args or url is needed")
    url, args = document.get("url"), document.get("args")
    fields = _NO_FIELDS if args is not None and len(document) == 1 else _fields(document, url, args)
    if url is None and schemas.has_request:
        schemas.check_request(args, len(body))  # last, because it takes longest
    if schemas.fields is None:
        return PredictInput(body, *fields)
    return PredictInput(body, *fields, files=schemas.fields.ids_in(args))


def _fields(document: dict[str, Any], url: Any, args: Any) -> _Fields:
    """Check what stands beside the args, or in their place, and return what the server reads of it."""
    if (url is None) == (args is None):
        given = "both" if url is not None else "neither"
        raise _wrong([], f"{given} of url and args is given: give exactly one of them")
    if document.get("cloudpickle") is not None:
        raise _wrong(["cloudpickle"], "pickled input is not taken: give args, or a url to bytes")
    if url is not None and not is_http_url(url):
        raise _wrong(["url"], f"it is not an http:// or https:// URL of at most {MAX_URL} characters")
    return _flags(document), _timeout(document), _callback(document), _priority(document)


def _callback(document: dict[str, Any]) -> Callback | None:
    url, auth = document.get("callback_url"), document.get("callback_auth")
    if url is not None and not is_http_url(url):
        raise _wrong(
            ["callback_url"], f"it is not an http:// or https:// URL of at most {MAX_URL} characters"
        )
    if auth is not None:
        try:
            CALLBACK_AUTH.validate_python(auth)
        except ValidationError as error:
            # The input is a secret, and stays out of the message.
            first = error.errors(include_input=False)[0]
            raise _wrong(["callback_auth", *map(str, first["loc"])], said(first)) from None
    progress = document.get("callback_progress")
    if progress is not None and not isinstance(progress, bool):
        raise _wrong(["callback_progress"], f"it is {type(progress).__name__}, true or false is needed")
    return None if url is None else Callback(url, auth, bool(progress))


def is_http_url(value: object) -> bool:
    """Return whether it is an http or https URL with a host, of a length that may be kept: `urlsplit` has a cache."""
    if not isinstance(value, str) or len(value) > MAX_URL or any(character <= " " for character in value):
        return False
    try:
        parts = urlsplit(value)
        _ = parts.port  # this raises ValueError if the port is not a number
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def _flags(document: dict[str, Any]) -> Flags:
    pickled = document.get("return_pickled")
    if pickled is not None and not isinstance(pickled, bool):
        raise _wrong(["return_pickled"], f"it is {type(pickled).__name__}, true or false is needed")
    return Flags.PICKLED if pickled else Flags.NONE


def _priority(document: dict[str, Any]) -> int:
    priority = document.get("priority")
    if priority is None:
        return 0
    if isinstance(priority, bool) or not isinstance(priority, int) or abs(priority) > MAX_PRIORITY:
        raise _wrong(["priority"], f"it is {repr(priority)[:80]}, {_PRIORITIES} is needed")
    return priority


def _timeout(document: dict[str, Any]) -> float | None:
    timeout = document.get("timeout_seconds")
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or timeout <= 0:
        raise _wrong(
            ["timeout_seconds"], f"it is {repr(timeout)[:80]}, a number of seconds above 0 is needed"
        )
    return float(timeout)


def _wrong(path: list[str], message: str) -> Unprocessable:
    where = ".".join(path) or "body"
    return Unprocessable(
        f"{where}: {message}", errors=[{"loc": ["body", *path], "msg": message, "type": "value_error"}]
    )


def at_index(error: APIError, index: int) -> APIError:
    """Make the same error, which names the request of several that it is about."""
    errors = [{**e, "loc": ["body", "requests", index, *e["loc"][1:]]} for e in error.errors]
    return type(error)(f"request {index}: {error.message}", code=error.code, errors=errors)


def without_secrets(auth: dict[str, str] | None) -> dict[str, str] | None:
    """Return how callbacks are authenticated, with secrets masked."""
    shown = ("kind", "username", "cert")
    return auth and {name: value if name in shown else "********" for name, value in auth.items()}


def without_auth(payload: Body) -> bytes | None:
    """Mask the secrets of the callback in a payload; None: it has none.

    Raises:
        Unprocessable: it has some, and is nested too deep to be written without them.
    """
    document = orjson.loads(payload)
    if "callback_auth" not in document:
        return None
    text, shown = str(payload, "utf-8"), json.dumps(without_secrets(document["callback_auth"]))
    try:
        # Also where the last one is null: the key may stand there twice, and the first one may have the password.
        for name, start, end in reversed(list(members(text))):
            text = text[:start] + shown + text[end:] if name == "callback_auth" else text
        return text.encode()
    except RecursionError:
        message = "the payload is nested too deep to be shown without the secrets of its callback"
        raise Unprocessable(message, code="too_deep") from None
