"""What an endpoint takes and returns, under its name: as a short description, and as an OpenAPI document."""

from importlib.metadata import version
from typing import Any
from urllib.parse import quote

from fastapi import Request, Response

from openlaunch.server.access.auth import Principal
from openlaunch.server.control.context import Context
from openlaunch.server.control.routes.callers import Caller
from openlaunch.server.control.routes.docs import as_json, renamed
from openlaunch.server.control.routing import ControlRouter
from openlaunch.server.gateway.resolver import find_by_name
from openlaunch.server.prediction.forms import FORM, Fields
from openlaunch.server.prediction.schemas import written
from openlaunch.store import bundles as bundle_store
from openlaunch.store.records import EndpointRecord
from openlaunch.wire import routes
from openlaunch.wire.bundles import BINARY, DERIVED
from openlaunch.wire.endpoints import EndpointType
from openlaunch.wire.problems import CONTENT_TYPE
from openlaunch_worker.files import ARROW, NPY, OCTETS

OWN = routes.BY_NAME + "/{name}"
ANY = routes.BY_NAME + "/{owner_name}/{name}"
DOCUMENT = "/openapi.json"
_COMPONENTS = "#/components/schemas/"
_JSON = "-InJSON"
"""The end of the name of a schema that is for JSON, and has another form in other content."""
_TEXT = {"type": "string"}
_BYTES = {"type": "string", "format": "binary"}
_VALUES = frozenset(("default", "const", "enum", "examples"))
"""Keywords of a schema that have values, and no schemas."""
_MEDIA_TYPES = {"array": NPY, "tensor": NPY, "table": ARROW}
_ACCEPTED = {
    "type": "object",
    "properties": {"task_id": _TEXT, "status": _TEXT, "location": {"type": "string", "format": "uri"}},
    "required": ["task_id", "status", "location"],
}
_PROBLEM = {
    "type": "object",
    "properties": {
        "type": _TEXT,
        "title": _TEXT,
        "status": {"type": "integer"},
        "detail": {},
        "code": _TEXT,
        "request_id": _TEXT,
        "traceback": _TEXT,
    },
    "required": ["title", "status", "detail", "code"],
}


def router(context: Context) -> ControlRouter:
    """Serve the descriptions and the documents."""
    api = ControlRouter(tags=["predictions"])

    async def describe(request: Request, user: Principal, owner: str | None, name: str) -> Response:
        endpoint, schemas = await _found(context, user, owner, name)
        url = context.urls.base_url(request.scope) + _path(endpoint)
        described = {
            "name": endpoint.name,
            "owner": endpoint.owner,
            "endpoint_type": endpoint.endpoint_type.value,
            "status": endpoint.status.value,
            "takes": _alone(schemas, "RequestSchema"),
            "returns": _alone(schemas, "ResponseSchema"),
            "url": url,
            "openapi_url": url + DOCUMENT,
        }
        return Response(written(described), media_type="application/json")

    async def document(request: Request, user: Principal, owner: str | None, name: str) -> Response:
        endpoint, schemas = await _found(context, user, owner, name)
        made = _document(endpoint, schemas, context.urls.base_url(request.scope))
        return Response(written(made), media_type="application/json")

    @api.get(OWN + DOCUMENT, response_model=dict[str, Any])
    async def get_openapi_by_name(request: Request, user: Caller, name: str) -> Response:
        """Get an OpenAPI document of an endpoint by its name, from which clients can be generated."""
        return await document(request, user, None, name)

    @api.get(ANY + DOCUMENT, response_model=dict[str, Any])
    async def get_openapi_by_owner_and_name(
        request: Request, user: Caller, owner_name: str, name: str
    ) -> Response:
        """Get the same of an endpoint of this owner."""
        return await document(request, user, owner_name, name)

    @api.get(OWN, response_model=dict[str, Any])
    async def describe_by_name(request: Request, user: Caller, name: str) -> Response:
        """Get what an endpoint takes and returns: one of the caller's, or else a public one."""
        return await describe(request, user, None, name)

    @api.get(ANY, response_model=dict[str, Any])
    async def describe_by_owner_and_name(
        request: Request, user: Caller, owner_name: str, name: str
    ) -> Response:
        """Get the same of an endpoint of this owner."""
        return await describe(request, user, owner_name, name)

    return api


async def _found(
    context: Context, user: Principal, owner: str | None, name: str
) -> tuple[EndpointRecord, dict[str, Any]]:
    endpoint = find_by_name(context.lanes, user.owner, owner, name).endpoint
    bundle = await context.store.read(
        lambda conn: bundle_store.get(conn, endpoint.serving_bundle_id), user.owner
    )
    return endpoint, bundle.schemas if bundle else {}


def _path(endpoint: EndpointRecord) -> str:
    return f"{routes.BY_NAME}/{quote(endpoint.owner, safe='')}/{endpoint.name}"


def _alone(schemas: dict[str, Any], name: str) -> Any:
    """Return one of the schemas with those that it names by reference; None where every value fits."""
    schema = schemas.get(name)
    if not isinstance(schema, dict) or not schema:
        return None
    if _COMPONENTS.encode() in written(schema):
        return {**schema, "components": {"schemas": schemas}}
    return schema


def _document(endpoint: EndpointRecord, schemas: dict[str, Any], base_url: str) -> dict[str, Any]:
    components = {name: _compiled(schema) for name, schema in renamed(endpoint.name, schemas).items()}
    files = _ref(components, f"{endpoint.name}-RequestSchema")
    # In JSON, bytes are text: a generator would make a file of them, which is nothing there.
    for name, schema in list(components.items()):
        if (in_json := _in_json(schema)) != schema:
            components[f"{name}{_JSON}"] = in_json
    args, value = (
        _ref(components, f"{endpoint.name}-{part}{_JSON}") or _ref(components, f"{endpoint.name}-{part}")
        for part in ("RequestSchema", "ResponseSchema")
    )
    path = _path(endpoint)
    sent = _sent(schemas, args, files)
    returned = _returned(schemas, value)
    paths = {path: {"post": _operation(endpoint, sent, value, returned)}}
    if endpoint.endpoint_type is not EndpointType.STREAMING:
        paths[path + "/tasks/{task_id}"] = {"get": _task_operation(value, returned)}
    return {
        "openapi": "3.1.0",
        "info": {"title": endpoint.name, "version": version("openlaunch")},
        "servers": [{"url": base_url}],
        "paths": paths,
        "components": {
            "schemas": {**components, "Accepted": _ACCEPTED, "Problem": _PROBLEM},
            "securitySchemes": {
                "HTTPBearer": {"type": "http", "scheme": "bearer"},
                "HTTPBasic": {"type": "http", "scheme": "basic"},
            },
        },
        "security": [{"HTTPBearer": []}, {"HTTPBasic": []}],
    }


def _ref(components: dict[str, Any], name: str) -> dict[str, Any]:
    return {"$ref": _COMPONENTS + name} if components.get(name) else {}


def _compiled(schema: Any, *, of_union: bool = False) -> Any:
    """Return a schema without types of which generators make code that can't be compiled: several, or null alone."""
    if isinstance(schema, list):
        return [_compiled(each, of_union=of_union) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {
        key: part if key in _VALUES else _compiled(part, of_union=key in {"anyOf", "oneOf"})
        for key, part in schema.items()
    }
    for union in ("anyOf", "oneOf"):
        if any(_is_several(each) for each in schema.get(union, ()) if isinstance(each, dict)):
            del made[union]
    kinds = made.get("type")
    if (kinds == "null" and not of_union) or _is_several(made):
        del made["type"]
    return made


def _is_several(schema: dict[str, Any]) -> bool:
    kinds = schema.get("type")
    return isinstance(kinds, list) and len({*kinds} - {"null"}) > 1


def _in_json(schema: Any) -> Any:
    """Return a schema in which bytes are text, as JSON has them."""
    if isinstance(schema, list):
        return [_in_json(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: _in_json(each) for name, each in schema.items()}
    if made.get("format") == "binary":
        del made["format"]
        made.setdefault(
            "description", "in base64; as an argument a data: URL, or the URL or the id of a file"
        )
    return made


def _sent(schemas: dict[str, Any], args: dict[str, Any], files: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a request by its types, as `server.gateway.by_name` takes it.

    Generators take the first one: a form, where there are files to be sent.
    """
    schema = schemas.get("RequestSchema")
    if not isinstance(schema, dict) or DERIVED not in schema:
        return as_json(args)
    fields = Fields(schema)
    alone = {} if fields.only_file is None else {"*/*": {"schema": _BYTES}}
    form = {FORM: {"schema": files}}
    return {**form, **as_json(args), **alone} if args != files else {**as_json(args), **form, **alone}


def _returned(schemas: dict[str, Any], value: dict[str, Any]) -> dict[str, Any]:
    """Return the content of an answer by its types: bytes as they are, where that is what the value is."""
    schema = schemas.get("ResponseSchema")
    kind = schema.get(BINARY) if isinstance(schema, dict) else None
    if not isinstance(schema, dict) or kind is None:
        return as_json(value)
    # Generators take the first one: what a caller gets that takes anything.
    if kind in _MEDIA_TYPES:
        return {**as_json(value), _MEDIA_TYPES[kind]: {"schema": _BYTES}}
    return {schema.get("contentMediaType", OCTETS): {"schema": _BYTES}, **as_json(value)}


def _operation(
    endpoint: EndpointRecord, sent: dict[str, Any], value: dict[str, Any], returned: dict[str, Any]
) -> dict[str, Any]:
    answers = _answers(value)
    answers["200"]["content"] = returned
    if endpoint.endpoint_type is EndpointType.STREAMING:
        answers = {"200": _stream(value), "default": answers["default"]}
    elif endpoint.endpoint_type is EndpointType.ASYNC:
        # A generated client has one type for what succeeds: without a `Prefer: wait`, that is the task.
        del answers["200"]
    return {
        "operationId": "predict",
        "summary": f"{endpoint.name} ({endpoint.endpoint_type.value})",
        "requestBody": {"required": True, "content": sent},
        "responses": answers,
    }


def _task_operation(value: dict[str, Any], returned: dict[str, Any]) -> dict[str, Any]:
    answers = _answers(value)
    answers["200"]["content"] = returned
    task_id = {"name": "task_id", "in": "path", "required": True, "schema": _TEXT}
    prefer = {
        "name": "Prefer",
        "in": "header",
        "schema": _TEXT,
        "description": "wait=SECONDS: how long to wait for the value; without it, 202 says that there is none yet.",
    }
    return {
        "operationId": "getPrediction",
        "summary": "the value of a task, once it is there",
        "parameters": [task_id, prefer],
        "responses": answers,
    }


def _answers(value: dict[str, Any]) -> dict[str, Any]:
    return {
        "200": {"description": "the value", "content": as_json(value)},
        "202": {
            "description": "it is a task: ask for its value at `location`",
            "headers": {"Location": {"schema": _TEXT}},
            "content": as_json({"$ref": _COMPONENTS + "Accepted"}),
        },
        "default": {
            "description": "why there is no value",
            "content": {CONTENT_TYPE: {"schema": {"$ref": _COMPONENTS + "Problem"}}},
        },
    }


def _stream(item: dict[str, Any]) -> dict[str, Any]:
    content = {"text/event-stream": {"schema": _TEXT}, "application/x-ndjson": {"schema": _TEXT}}
    return {
        "description": "the items, as the Accept header asks for them",
        "content": {**content, **as_json({"type": "array", "items": item})},
    }
