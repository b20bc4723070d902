"""Bundles and endpoints by their owner, or an error that says what was not found."""

from typing import TypeVar

from sqlalchemy import Connection

from openlaunch.errors import Conflict, NotFound
from openlaunch.server.access.auth import Principal
from openlaunch.server.endpoints.specs import may_predict
from openlaunch.store import bundles as bundle_store
from openlaunch.store import endpoints as endpoint_store
from openlaunch.store.base import Store
from openlaunch.store.records import BundleRecord, EndpointRecord
from openlaunch.wire.endpoints import EndpointStatus
from openlaunch.wire.keys import Role

T = TypeVar("T")


def found(record: T | None, what: str, code: str) -> T:
    """Return the record, or raise NotFound, which says `what` was not found."""
    if record is None:
        raise NotFound(what, code=code)
    return record


async def find_bundle(store: Store, bundle_id: str, owner: str) -> BundleRecord:
    """Return the owner's bundle, or raise NotFound."""
    record = await store.read(lambda conn: bundle_store.get(conn, bundle_id, owner), owner)
    hint = (
        "" if bundle_id.startswith("bun_") else ": an id begins with bun_, and the list of bundles shows it"
    )
    return found(record, f"no bundle has the id {bundle_id!r}{hint}", "bundle_not_found")


async def find_endpoint(store: Store, endpoint_id: str, owner: str) -> EndpointRecord:
    """Return the owner's endpoint, or raise NotFound."""
    endpoint = await store.read(lambda conn: endpoint_store.get(conn, endpoint_id, owner), owner)
    if endpoint is None:
        raise no_endpoint(endpoint_id)
    return endpoint


def may_see(endpoint: EndpointRecord, caller: Principal) -> bool:
    """Tell whether the endpoint is the caller's or public, or the caller an admin; a batch job's own is hidden."""
    if endpoint.owner == endpoint.id:
        return False
    return caller.role is Role.ADMIN or may_predict(endpoint, caller.owner)


async def visible_endpoint(store: Store, endpoint_id: str, caller: Principal) -> EndpointRecord:
    """Return an endpoint that the caller may see, or raise NotFound."""
    endpoint = await store.read(lambda conn: endpoint_store.get(conn, endpoint_id), caller.owner)
    if endpoint is None or not may_see(endpoint, caller):
        raise no_endpoint(endpoint_id)
    return endpoint


def no_endpoint(endpoint_id: str) -> NotFound:
    """Return the error for an unknown endpoint."""
    return NotFound(f"no endpoint has the id {endpoint_id!r}", code="endpoint_not_found")


def current_endpoint(conn: Connection, endpoint_id: str, owner: str) -> EndpointRecord:
    """Return the endpoint as it stands in this transaction; raise Conflict where it is being deleted."""
    endpoint = endpoint_store.get(conn, endpoint_id, owner)
    if endpoint is None:
        raise no_endpoint(endpoint_id)
    if endpoint.status is EndpointStatus.DELETE_IN_PROGRESS:
        raise Conflict(f"the endpoint {endpoint.name!r} is being deleted", code="endpoint_deleted")
    return endpoint
