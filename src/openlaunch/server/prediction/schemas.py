"""Request and response schemas of bundles: compiled once, and used to validate every input and result."""

import json
from itertools import islice
from typing import Any

import jsonschema_rs
import orjson

from openlaunch.errors import Unprocessable
from openlaunch.server.prediction.formats import FORMATS
from openlaunch.server.prediction.forms import Fields
from openlaunch.server.prediction.schema_cost import (
    FORMAT_PARTS,
    MAX_DEPTH,
    MAX_PARTS,
    UNBOUNDED,
    is_too_deep,
    parts_of,
)
from openlaunch.server.prediction.signatures import signature_of
from openlaunch.wire.bundles import BINARY, DERIVED, NO_FACE, OpenAIFace

MAX_ERRORS = 20
MAX_MESSAGE = 300
QUICK_BYTES = 128 * 1024
"""A larger body is parsed in the event loop's thread only where it has few values: 10 ms at worst."""

MAX_QUICK_PARTS = 10_000
"""A schema with more parts takes too long to compile in the event loop's thread."""

MAX_QUICK_WORK = 50_000_000
"""Parts of a schema times bytes of an input: about 10 ms at worst, for an answer of yes or no."""

MAX_QUICK_REASONS = 10_000
"""Parts of a schema times bytes of an input where the reasons are to be found: about 50 ms at worst."""

_TOO_DEEP = "nested too deep to be checked with the bundle's schema"
_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_KIND = jsonschema_rs.ValidationErrorKind


class TakesLong(Exception):
    """The check is for a process of its own."""


class Schema:
    """One of a bundle's two schemas, compiled where that is quick.

    `apart` says that this is a process of its own, where everything is compiled and nothing has to be quick.
    """

    def __init__(self, schemas: dict[str, Any], name: str, *, apart: bool = False) -> None:
        document = document_of(schemas, name)
        self._exists = document is not None
        self._apart = apart
        self._parts: float = 0 if document is None else parts_of(document)
        quick = apart or self._parts <= MAX_QUICK_PARTS
        self._validator = None if document is None or not quick else _compiled(document)
        work = 0 if document is None else parts_of(document, of_format=FORMAT_PARTS)
        self.quick_bytes = 0 if not quick else int(min(QUICK_BYTES, MAX_QUICK_WORK // max(1, work)))
        """Size of an input up to which it may be validated in the event loop's thread."""

    def misfits(self, value: Any, size: int) -> list[jsonschema_rs.ValidationError] | None:
        """Return in which places the value does not fit, from one to `MAX_ERRORS`; None if it fits.

        Raises:
            TakesLong: to check it takes long, or it does not fit and to find the places takes long.
            ValueError: value and schema are nested too deep together.
        """
        if not self._exists:
            return None
        if self._validator is None:
            raise TakesLong
        if self._validator.is_valid(value):
            return None
        if not self._apart and self._parts * size > MAX_QUICK_REASONS:
            raise TakesLong
        return list(islice(self._validator.iter_errors(value), MAX_ERRORS))


class BundleSchemas:
    """One bundle's schemas; `source` is what they are made of, for a process of its own."""

    def __init__(self, schemas: dict[str, Any], *, apart: bool = False, openai: OpenAIFace = NO_FACE) -> None:
        self.openai = frozenset(openai.routes)
        """The routes on which the bundle speaks OpenAI."""
        self.takes_context = False
        """Whether the function takes a context, for which a task keeps the headers of its request."""
        self.model_names = frozenset(openai.models)
        """What its model is named beside the endpoint's name."""
        self.source = written(schemas)
        self.request = Schema(schemas, "RequestSchema", apart=apart)
        self.response = Schema(schemas, "ResponseSchema", apart=apart)
        self.has_request = document_of(schemas, "RequestSchema") is not None
        self.has_response = document_of(schemas, "ResponseSchema") is not None
        self.quick_bytes = self.request.quick_bytes
        request, response = (schemas.get(f"{name}Schema") for name in ("Request", "Response"))
        self.fields = Fields(request) if isinstance(request, dict) and DERIVED in request else None
        """What the arguments are where they may come in a form, because the function's annotations say it."""
        self.signature = signature_of(schemas)
        """What its tensors are; None where its annotations name no array."""
        self.returns = response.get(BINARY) if isinstance(response, dict) else None
        """The name of the type that is answered as bytes; None where it is not known."""

    def check_request(self, args: Any, size: int) -> None:
        """Raise Unprocessable, with the path of each field, if the `args` do not fit the request schema.

        `size` is that of their JSON in bytes. Raises what `Schema.misfits` does.
        """
        try:
            misfits = self.request.misfits(args, size)
        except ValueError:
            raise Unprocessable(f"the args are {_TOO_DEEP}", code="too_deep") from None
        if misfits is None:
            return
        errors = []
        for error, message in map(_told, misfits):
            missing = [error.kind.property] if isinstance(error.kind, _KIND.Required) else []
            errors.append(
                {
                    "loc": ["body", "args", *error.instance_path, *missing],
                    "msg": _bounded(message),
                    "type": type(error.kind).__name__.lower(),
                }
            )
        text = "the args do not fit the bundle's request schema"
        raise Unprocessable(text, code="request_schema", errors=errors)

    def response_error(self, value: Any, size: int) -> str | None:
        """Say why a return value does not fit the response schema; None if it fits.

        `size` is that of its JSON in bytes. Raises what `Schema.misfits` does.
        """
        try:
            misfits = self.response.misfits(value, size)
        except ValueError:
            return f"it is {_TOO_DEEP}"
        for error, message in map(_told, misfits or ()):
            path = ".".join(str(part) for part in error.instance_path)
            return f"{path}: {_bounded(message)}" if path else _bounded(message)
        return None


def read_schemas(data: bytes) -> dict[str, Any]:
    """Parse and check the document at a `schema_location`; raises Unprocessable as `validate_schemas` does."""
    try:
        schemas = json.loads(bytes(data))  # it may be a view
        if is_too_deep(schemas):
            raise ValueError(f"it is nested deeper than {MAX_DEPTH} levels")
        json.dumps(
            schemas, ensure_ascii=False, allow_nan=False
        ).encode()  # JSON has neither NaN nor half characters
        return validate_schemas(schemas)
    except (ValueError, RecursionError) as error:
        raise Unprocessable(f"it is not valid JSON, or not a document of schemas: {error}") from error


def written(value: Any) -> bytes:
    """Return a value as JSON."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        return json.dumps(value).encode()  # which has no limit on whole numbers


def validate_schemas(schemas: Any) -> dict[str, Any]:
    """Check the document at a `schema_location`, and raise Unprocessable if it is not one of two JSON schemas."""
    if not isinstance(schemas, dict):
        raise Unprocessable(
            "schema_location does not hold a JSON object with RequestSchema and ResponseSchema"
        )
    for name in ("RequestSchema", "ResponseSchema"):
        try:
            if (document := document_of(schemas, name)) is not None:
                _check_size(document)
                _compiled(document)
            elif isinstance(schema := schemas.get(name), dict):
                _check_keywords(schema)  # forms are read by it, even where values are not checked
        except ValueError as error:
            text = error.message if isinstance(error, jsonschema_rs.ValidationError) else str(error)
            message = _bounded(text)
            raise Unprocessable(
                f"{name} is not a JSON schema: {message}",
                errors=[{"loc": ["body", "schema_location", name], "msg": message, "type": "json_schema"}],
            ) from error
    return schemas


def _check_size(document: dict[str, Any]) -> None:
    parts = parts_of(document)
    if MAX_PARTS < parts < UNBOUNDED:
        raise ValueError(
            f"it has {parts:,.0f} parts once its references are followed, the limit is {MAX_PARTS:,}"
        )


def document_of(schemas: dict[str, Any], name: str) -> dict[str, Any] | None:
    """Return a document with one of a bundle's schemas at its root; None where every value fits."""
    schema = schemas.get(name)
    if schema in (None, {}, True):
        return None
    if not isinstance(schema, dict):
        raise ValueError(f"it is {type(schema).__name__}, not an object")
    if schema.get(DERIVED) is False:
        return None
    # References are "#/components/schemas/NAME", as the existing client writes them, or pydantic's "#/$defs/NAME".
    return {
        "components": {"schemas": schemas},
        "$defs": schema.get("$defs", {}),
        "$ref": f"#/components/schemas/{name}",
    }


def _check_keywords(schema: dict[str, Any]) -> None:
    # A schema is a user's: nothing that it names by URL may be fetched, neither "$schema" nor a reference.
    jsonschema_rs.meta.validate(schema | {"$schema": _DIALECT})


def _compiled(document: dict[str, Any]) -> jsonschema_rs.Validator:
    schemas, name = document["components"]["schemas"], document["$ref"].rpartition("/")[2]
    _check_keywords(schemas[name])
    return jsonschema_rs.Draft202012Validator(document, offline=True, validate_formats=True, formats=FORMATS)


def _told(error: jsonschema_rs.ValidationError) -> tuple[jsonschema_rs.ValidationError, str]:
    """Return the error that says most of a value that fits no type of a union, and a message.

    That is the error of the one type that is meant, as of an object or null where an object came, or of the object
    whose field says which one it is. Where none is, the message has what each type needs.
    """
    while isinstance(error.kind, _KIND.AnyOf | _KIND.OneOfNotValid):
        each = [alternative for alternative in error.kind.context if alternative]
        right = [one for one in each if not any(_is_of_another_type(e, error) for e in one)]
        meant = [one for one in right if not any(_is_of_another_kind(e, error) for e in one)]
        if len(meant) != 1:
            firsts = [_of_kind(one, error) for one in meant or right or each]
            places = {tuple(one.instance_path) for one in firsts}
            at = firsts[0] if len(places) == 1 and firsts else error
            return at, "; or ".join(dict.fromkeys(one.message for one in firsts)) or error.message
        error = meant[0][0]
    return error, error.message


def _of_kind(
    errors: list[jsonschema_rs.ValidationError], whole: jsonschema_rs.ValidationError
) -> jsonschema_rs.ValidationError:
    """Return the error of the field that says which type an object is, or else the first one."""
    return next((one for one in errors if _is_of_another_kind(one, whole)), errors[0])


def _is_of_another_type(one: jsonschema_rs.ValidationError, whole: jsonschema_rs.ValidationError) -> bool:
    return isinstance(one.kind, _KIND.Type) and list(one.instance_path) == list(whole.instance_path)


def _is_of_another_kind(one: jsonschema_rs.ValidationError, whole: jsonschema_rs.ValidationError) -> bool:
    """Return whether a value is not of a type because a field has another constant."""
    is_constant = isinstance(one.kind, _KIND.Constant | _KIND.Enum)
    return is_constant and len(one.instance_path) == len(whole.instance_path) + 1


def _bounded(message: str) -> str:
    return message if len(message) <= MAX_MESSAGE else message[:MAX_MESSAGE] + "…"
