"""The caller's endpoints as an OpenAPI document, and as a page to try them on."""

from collections.abc import Iterable, Iterator
from importlib.metadata import version
from typing import Any

from fastapi import Request, Response
from fastapi.responses import HTMLResponse
from sqlalchemy import Connection

from openlaunch.errors import NotFound, PayloadTooLarge
from openlaunch.server.control.api_pages import page
from openlaunch.server.control.context import Context
from openlaunch.server.control.routes.callers import Caller, named
from openlaunch.server.control.routing import ControlRouter
from openlaunch.server.endpoints.lookups import may_see
from openlaunch.server.prediction.schemas import written
from openlaunch.store import bundles as bundle_store
from openlaunch.store import endpoints as endpoint_store
from openlaunch.store.records import EndpointRecord
from openlaunch.wire import routes
from openlaunch.wire.endpoints import EndpointType

_ROUTES = {
    EndpointType.SYNC: routes.SYNC_TASKS,
    EndpointType.ASYNC: routes.ASYNC_TASKS,
    EndpointType.STREAMING: routes.STREAMING_TASKS,
}
MAX_SCHEMAS_BYTES = 8 * 1024 * 1024
_COMPONENTS = "#/components/schemas/"
_DEFS = "#/$defs/"


def router(context: Context) -> ControlRouter:
    """Serve the document and the page."""
    api = ControlRouter(tags=["endpoints"])

    @api.get(routes.ENDPOINTS_SCHEMA, response_model=dict[str, Any])
    async def get_model_endpoints_schema(request: Request, user: Caller, name: str | None = None) -> Response:
        """Get one OpenAPI document of all the caller's endpoints, with the schemas of each.

        With a `name` it is of that endpoint alone; `owner/name` is another owner's, which is public.
        """
        owner, own_name = named(context, user, name, public=True)
        base_url = context.urls.base_url(request.scope)

        def load(conn: Connection) -> bytes:
            ids = endpoint_store.ids_of_owner(conn, owner, own_name)
            found = (e for e in endpoint_store.get_many(conn, ids) if may_see(e, user))
            document = _document(_with_schemas(conn, found), base_url)
            if name is not None and not document["paths"]:
                raise NotFound(f"there is no endpoint {name!r}", code="endpoint_not_found")
            return written(document)

        return Response(await context.store.read(load, user.owner), media_type="application/json")

    @api.get(routes.ENDPOINTS_API, response_class=HTMLResponse)
    async def get_model_endpoints_api(
        request: Request, user: Caller, name: str | None = None
    ) -> HTMLResponse:
        """Get a page that shows the document and lets the caller try the endpoints."""
        document = f"{routes.ENDPOINTS_SCHEMA}?{request.url.query}".rstrip("?")
        return page(name or "Model endpoints", "../", document.removeprefix("/"))

    return api


def _with_schemas(
    conn: Connection, endpoints: Iterable[EndpointRecord]
) -> Iterator[tuple[EndpointRecord, dict[str, Any]]]:
    size = 0
    for endpoint in endpoints:
        bundle = bundle_store.get(conn, endpoint.serving_bundle_id)
        schemas = bundle.schemas if bundle else {}
        size += len(written(schemas))
        if size > MAX_SCHEMAS_BYTES:
            raise PayloadTooLarge(
                f"the schemas have over {MAX_SCHEMAS_BYTES} bytes, the limit for one document"
            )
        yield endpoint, schemas


def _document(endpoints: Iterable[tuple[EndpointRecord, dict[str, Any]]], base_url: str) -> dict[str, Any]:
    """Return the document; each endpoint comes with the schemas that its bundle was made with."""
    paths: dict[str, Any] = {}
    components: dict[str, Any] = {}
    for endpoint, schemas in endpoints:
        components |= renamed(endpoint.name, schemas)
        path = f"{_ROUTES[endpoint.endpoint_type]}?model_endpoint_id={endpoint.id}"
        paths[path] = {"post": _operation(endpoint, schemas)}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Model endpoints", "version": version("openlaunch")},
        "servers": [{"url": base_url}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"HTTPBasic": {"type": "http", "scheme": "basic"}},
        },
        "security": [{"HTTPBasic": []}],
    }


def _operation(endpoint: EndpointRecord, schemas: dict[str, Any]) -> dict[str, Any]:
    return {
        "operationId": endpoint.name,
        "summary": f"{endpoint.name} ({endpoint.endpoint_type.value})",
        "requestBody": {"required": True, "content": as_json(_request(endpoint.name, schemas))},
        "responses": {"200": {"description": "the answer", "content": _answer(endpoint, schemas)}},
    }


def _request(name: str, schemas: dict[str, Any]) -> dict[str, Any]:
    args = {"$ref": f"{_COMPONENTS}{name}-RequestSchema"} if schemas.get("RequestSchema") else {}
    return {"type": "object", "properties": {"args": args, "url": {"type": "string", "format": "uri"}}}


def _answer(endpoint: EndpointRecord, schemas: dict[str, Any]) -> dict[str, Any]:
    if endpoint.endpoint_type is EndpointType.ASYNC:
        return as_json(
            {"type": "object", "properties": {"task_id": {"type": "string"}}, "required": ["task_id"]}
        )
    known = bool(schemas.get("ResponseSchema"))
    value = {"$ref": f"{_COMPONENTS}{endpoint.name}-ResponseSchema"} if known else {}
    if endpoint.endpoint_type is EndpointType.STREAMING:
        return {"text/event-stream": {"schema": _response(value)}}
    text = {"type": "string", "contentMediaType": "application/json", "contentSchema": value}
    return as_json(_response(text))


def _response(value: dict[str, Any]) -> dict[str, Any]:
    properties = {
        "status": {"enum": ["SUCCESS", "FAILURE"]},
        "result": {"type": ["object", "null"], "properties": {"result": value}},
        "traceback": {"type": ["string", "null"]},
        "status_code": {"type": ["integer", "null"]},
    }
    return {"type": "object", "properties": properties, "required": ["status"]}


def as_json(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a body that is JSON of this schema."""
    return {"application/json": {"schema": schema}}


def renamed(endpoint: str, schemas: dict[str, Any]) -> dict[str, Any]:
    """Return the schemas under names of the endpoint's own; those in `$defs` stand beside the others."""
    found: dict[str, Any] = {}
    for name, schema in schemas.items():
        if not isinstance(schema, dict):
            continue
        here = f"{endpoint}-{name}-"
        rest = {key: value for key, value in schema.items() if key != "$defs"}
        found[f"{endpoint}-{name}"] = _with_refs(rest, f"{endpoint}-", here)
        for inner, part in schema.get("$defs", {}).items():
            found[here + inner] = _with_refs(part, f"{endpoint}-", here)
    return found


def _with_refs(value: Any, beside: str, inside: str) -> Any:
    if isinstance(value, list):
        return [_with_refs(part, beside, inside) for part in value]
    if not isinstance(value, dict):
        return value
    changed = {key: _with_refs(part, beside, inside) for key, part in value.items()}
    if "$ref" in value:
        changed["$ref"] = _moved(value["$ref"], beside, inside)
    choice = value.get("discriminator")
    if isinstance(choice, dict) and isinstance(kinds := choice.get("mapping"), dict):
        moved = {kind: _moved(ref, beside, inside) for kind, ref in kinds.items()}
        changed["discriminator"] = {**choice, "mapping": moved}
    return changed


def _moved(ref: Any, beside: str, inside: str) -> Any:
    if isinstance(ref, str) and ref.startswith(_COMPONENTS):
        return _COMPONENTS + beside + ref.removeprefix(_COMPONENTS)
    if isinstance(ref, str) and ref.startswith(_DEFS):
        return _COMPONENTS + inside + ref.removeprefix(_DEFS)
    return ref
