"""The caller's endpoints as an OpenAPI document, and as a page to try them on."""

from importlib.metadata import version
from typing import Any

from fastapi import APIRouter
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from sqlalchemy import Connection

from openlaunch.server.control.endpoint_docs import endpoint_document
from openlaunch.server.control.routes.context import Caller, Context
from openlaunch.store import bundles as bundle_store
from openlaunch.store import endpoints as endpoint_store
from openlaunch.store.records import EndpointRecord
from openlaunch.wire import routes


def router(context: Context) -> APIRouter:
    """The document and the page."""
    api = APIRouter(tags=["endpoints"])

    @api.get(routes.ENDPOINTS_SCHEMA)
    async def get_model_endpoints_schema(user: Caller) -> dict[str, Any]:
        """Get one OpenAPI document of all the caller's endpoints, with each one's own schemas."""

        def load(conn: Connection) -> list[tuple[EndpointRecord, dict[str, Any]]]:
            found = endpoint_store.list_by_owner(conn, user.owner)
            bundles = [(e, bundle_store.get(conn, e.serving_bundle_id)) for e in found]
            return [(endpoint, bundle.schemas if bundle else {}) for endpoint, bundle in bundles]

        return endpoint_document(await context.store.read(load), version("openlaunch"))

    @api.get(routes.ENDPOINTS_API, response_class=HTMLResponse)
    async def get_model_endpoints_api(user: Caller) -> HTMLResponse:
        """Get a page that shows the document and lets the caller try the endpoints."""
        return get_swagger_ui_html(openapi_url=routes.ENDPOINTS_SCHEMA, title="Model endpoints")

    return api
