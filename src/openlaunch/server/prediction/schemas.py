"""Request and response schemas of bundles: compiled once, and used to validate every input and result."""

from collections import OrderedDict
from typing import Any

import jsonschema_rs

from openlaunch.errors import Unprocessable
from openlaunch.store import bundles as bundle_store
from openlaunch.store.base import Store

MAX_ERRORS = 20
MAX_MESSAGE = 300
CACHE_SIZE = 1000
_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_KIND = jsonschema_rs.ValidationErrorKind


class BundleSchemas:
    """One bundle's compiled schemas; each is None if the bundle has none."""

    def __init__(self, schemas: dict[str, Any]) -> None:
        self.request = _compile(schemas, "RequestSchema")
        self.response = _compile(schemas, "ResponseSchema")

    def check_request(self, args: Any) -> None:
        """Raise Unprocessable, with the path of each field, if the `args` do not fit the request schema."""
        if self.request is None or self.request.is_valid(args):
            return
        errors = []
        for error in self.request.iter_errors(args):
            missing = [error.kind.property] if isinstance(error.kind, _KIND.Required) else []
            errors.append(
                {
                    "loc": ["body", "args", *error.instance_path, *missing],
                    "msg": _bounded(error.message),
                    "type": type(error.kind).__name__.lower(),
                }
            )
            if len(errors) == MAX_ERRORS:
                break
        text = "the args do not fit the bundle's request schema"
        raise Unprocessable(text, code="request_schema", errors=errors)

    def response_error(self, value: Any) -> str | None:
        """Say why a return value does not fit the response schema; None if it fits."""
        if self.response is None:
            return None
        for error in self.response.iter_errors(value):
            path = ".".join(str(part) for part in error.instance_path)
            return f"{path}: {_bounded(error.message)}" if path else _bounded(error.message)
        return None


class SchemaCache:
    """Compiled schemas by bundle id; bundles never change, so an entry never goes stale."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._entries: OrderedDict[str, BundleSchemas] = OrderedDict()

    def cached(self, bundle_id: str) -> BundleSchemas | None:
        """Return the schemas if they are in memory: the hot path's look, without waiting."""
        return self._entries.get(bundle_id)

    async def get(self, bundle_id: str) -> BundleSchemas:
        """Return the schemas, read from the store if they are not in memory."""
        entry = self._entries.get(bundle_id)
        if entry is None:
            record = await self._store.read(lambda conn: bundle_store.get(conn, bundle_id))
            entry = self._entries[bundle_id] = BundleSchemas(record.schemas if record else {})
            if len(self._entries) > CACHE_SIZE:
                self._entries.popitem(last=False)
        return entry


def validate_schemas(schemas: Any) -> dict[str, Any]:
    """Check the document at a `schema_location`, and raise Unprocessable if it is not one of two JSON schemas."""
    if not isinstance(schemas, dict):
        raise Unprocessable(
            "schema_location does not hold a JSON object with RequestSchema and ResponseSchema"
        )
    for name in ("RequestSchema", "ResponseSchema"):
        try:
            _compile(schemas, name)
        except ValueError as error:
            text = error.message if isinstance(error, jsonschema_rs.ValidationError) else str(error)
            message = _bounded(text)
            raise Unprocessable(
                f"{name} is not a JSON schema: {message}",
                errors=[{"loc": ["body", "schema_location", name], "msg": message, "type": "json_schema"}],
            ) from error
    return schemas


def _compile(schemas: dict[str, Any], name: str) -> jsonschema_rs.Validator | None:
    schema = schemas.get(name)
    if schema in (None, {}, True):
        return None
    if not isinstance(schema, dict):
        raise ValueError(f"it is {type(schema).__name__}, not an object")
    # References are "#/components/schemas/NAME", as the existing client writes them, or pydantic's "#/$defs/NAME".
    document = {
        "components": {"schemas": schemas},
        "$defs": schema.get("$defs", {}),
        "$ref": f"#/components/schemas/{name}",
    }
    # A schema is a user's: nothing that it names by URL may be fetched, neither "$schema" nor a reference.
    jsonschema_rs.meta.validate(schema | {"$schema": _DIALECT})
    return jsonschema_rs.Draft202012Validator(document, offline=True)


def _bounded(message: str) -> str:
    return message if len(message) <= MAX_MESSAGE else message[:MAX_MESSAGE] + "…"
