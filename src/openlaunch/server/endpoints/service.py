"""What can be done with an endpoint: each change is checked, recorded in one transaction, then brought about."""

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from sqlalchemy import Connection

from openlaunch.server import clock
from openlaunch.server.access.quotas import Quotas
from openlaunch.server.endpoints import changes
from openlaunch.server.endpoints.lookups import current_endpoint, find_bundle, find_endpoint
from openlaunch.server.endpoints.specs import (
    changed_settings,
    check_batching,
    check_secrets,
    check_streams,
    new_spec,
    updated_spec,
)
from openlaunch.store import bundles as bundle_store
from openlaunch.store import endpoints as endpoint_store
from openlaunch.store import secrets as secret_store
from openlaunch.store.base import Store
from openlaunch.store.records import BundleRecord, EndpointRecord
from openlaunch.wire.endpoint_settings import EndpointSpec
from openlaunch.wire.endpoints import (
    CreateModelEndpointRequest,
    EndpointType,
    StartCanaryRequest,
    UpdateModelEndpointRequest,
)
from openlaunch.wire.events import EventKind
from openlaunch.wire.ids import object_id

Change = Callable[[EndpointRecord], EndpointRecord]


class Events(Protocol):
    """Collects what happens to endpoints."""

    def add(self, endpoint_id: str, kind: EventKind, detail: str = "") -> None:
        """Record that this has happened now."""


class Workers(Protocol):
    """Makes an endpoint's workers what its record says: the controller."""

    @property
    def events(self) -> Events:
        """Where changes are recorded as events."""

    def apply(self, record: EndpointRecord) -> None:
        """Take over a new or changed record."""

    def remove(self, record: EndpointRecord) -> None:
        """Stop the workers, then delete the record."""

    def check_gpus(self, spec: EndpointSpec) -> None:
        """Refuse what no worker of this machine could ever have."""


class Tasks(Protocol):
    """The queue, as far as deleting an endpoint needs it."""

    async def fail_endpoint(self, endpoint_id: str, reason: str) -> None:
        """End all tasks of an endpoint."""


class Endpoints:
    """Creates, changes and deletes endpoints and their changes. Used in the event loop's thread.

    A method raises NotFound where the owner has no such endpoint or bundle, Forbidden where the owner would have more
    than the quotas allow, Conflict where the endpoint's name or
    state forbids the change, and Unprocessable where a setting is not allowed or does not suit the bundle.
    """

    def __init__(self, store: Store, workers: Workers, tasks: Tasks, quotas: Quotas | None = None) -> None:
        self._store = store
        self._quotas = quotas or Quotas()
        self._workers = workers
        self._tasks = tasks

    async def create(self, owner: str, request: CreateModelEndpointRequest) -> EndpointRecord:
        """Create an endpoint; its workers start after this."""
        spec, kind, bundle_id = new_spec(request), request.endpoint_type, request.model_bundle_id
        await self.check(owner, kind, bundle_id, spec)
        endpoint = changes.new_endpoint(owner, request.name, kind, bundle_id, spec)
        await self.add(endpoint)
        self._workers.events.add(endpoint.id, EventKind.CREATED)
        return endpoint

    async def check(self, owner: str, kind: EndpointType, bundle_id: str, spec: EndpointSpec) -> None:
        """Refuse settings that do not suit the bundle or the machine."""
        bundle = await find_bundle(self._store, bundle_id, owner)
        check_streams(kind, bundle)
        check_batching(spec, kind, bundle)
        await self._check_secrets(owner, spec, bundle)
        self._workers.check_gpus(spec)

    async def _check_secrets(self, owner: str, spec: EndpointSpec, bundle: BundleRecord) -> None:
        if spec.secrets:
            found = await self._store.read(lambda conn: secret_store.of_owner(conn, owner), owner)
            check_secrets(spec, bundle, {secret.name for secret in found})

    async def add(self, endpoint: EndpointRecord) -> None:
        """Store a new endpoint whose settings were checked, and start its workers."""

        def insert(conn: Connection) -> None:
            endpoint_store.insert(conn, endpoint)

        # That of a batch job is not its owner's: the job itself counts.
        is_jobs = endpoint.owner == endpoint.id
        change = insert if is_jobs else self._quotas.within(endpoint.owner, insert)
        await self._store.write(change, endpoint.owner)
        self._workers.apply(endpoint)

    async def update(
        self, owner: str, endpoint_id: str, request: UpdateModelEndpointRequest
    ) -> EndpointRecord:
        """Change what the request gives; new workers replace the old ones once they are ready."""
        before = await find_endpoint(self._store, endpoint_id, owner)
        spec, bundle_id = updated_spec(before.spec, request), request.model_bundle_id or before.bundle_id
        await self.check(owner, before.endpoint_type, bundle_id, spec)
        changed = await self._change(owner, endpoint_id, lambda current: changes.updated(current, request))
        details = [f"bundle {bundle_id}"] if bundle_id != before.bundle_id else []
        if details := [*details, *changed_settings(before.spec, spec)]:
            self._workers.events.add(endpoint_id, EventKind.UPDATED, ", ".join(details))
        return changed

    async def restart(self, owner: str, endpoint_id: str) -> None:
        """Replace every worker by a new one, without a gap."""
        await self._change(owner, endpoint_id, changes.restarted)
        self._workers.events.add(endpoint_id, EventKind.RESTARTED)

    async def hand_over(self, owner: str, endpoint_id: str, new_owner: str) -> EndpointRecord:
        """Give an endpoint, with a copy of its bundle, to another owner; new workers replace those of the old one."""

        def write(conn: Connection) -> EndpointRecord:
            current = current_endpoint(conn, endpoint_id, owner)
            bundle = bundle_store.get(conn, current.bundle_id)
            assert bundle is not None  # while an endpoint names it
            theirs = {secret.name for secret in secret_store.of_owner(conn, new_owner)}
            check_secrets(current.spec, bundle, theirs)
            copied = replace(bundle, id=object_id("bun"), owner=new_owner, created_at=clock.now())
            bundle_store.insert(conn, copied)
            return _stored(conn, changes.handed_over(current, new_owner, copied.id))

        endpoint = await self._store.write(self._quotas.within(new_owner, write), owner)
        self._workers.apply(endpoint)
        self._workers.events.add(
            endpoint_id, EventKind.UPDATED, f"it belongs to {new_owner}, before to {owner}"
        )
        return endpoint

    async def delete(self, owner: str, endpoint_id: str) -> None:
        """Delete an endpoint: what runs may end, what waits is refused, tasks end as FAILURE."""
        endpoint = await self._record(owner, endpoint_id, changes.deleted)
        self._workers.remove(endpoint)
        await self._tasks.fail_endpoint(endpoint.id, f"the endpoint {endpoint.name!r} was deleted")

    async def discard(self, endpoint_id: str, reason: str) -> None:
        """Delete an endpoint unless it is gone or being deleted already, and end all its tasks for this reason."""

        def mark(conn: Connection) -> EndpointRecord | None:
            endpoint = endpoint_store.get(conn, endpoint_id)
            return endpoint and _stored(conn, changes.deleted(endpoint))

        if (endpoint := await self._store.write(mark)) is not None:
            self._workers.remove(endpoint)
        await self._tasks.fail_endpoint(endpoint_id, reason)

    async def start_canary(self, owner: str, endpoint_id: str, request: StartCanaryRequest) -> EndpointRecord:
        """Give a second bundle a share of the endpoint's predictions, once it is loaded."""
        endpoint = await find_endpoint(self._store, endpoint_id, owner)
        bundle = await find_bundle(self._store, request.model_bundle_id, owner)
        check_streams(endpoint.endpoint_type, bundle)
        check_batching(endpoint.spec, endpoint.endpoint_type, bundle)
        await self._check_secrets(owner, endpoint.spec, bundle)
        return await self._change(owner, endpoint_id, lambda current: changes.with_canary(current, request))

    async def set_canary_percent(self, owner: str, endpoint_id: str, percent: int) -> EndpointRecord:
        return await self._change(owner, endpoint_id, lambda current: changes.with_percent(current, percent))

    async def promote_canary(self, owner: str, endpoint_id: str) -> EndpointRecord:
        """Make the canary's bundle the endpoint's; its workers stay, the others leave as new ones are ready."""
        return await self._change(owner, endpoint_id, changes.promoted)

    async def roll_back_canary(self, owner: str, endpoint_id: str) -> EndpointRecord:
        """End the canary: its workers finish what they run, and get nothing more."""
        return await self._change(owner, endpoint_id, changes.rolled_back)

    async def _change(self, owner: str, endpoint_id: str, change: Change) -> EndpointRecord:
        changed = await self._record(owner, endpoint_id, change)
        self._workers.apply(changed)
        return changed

    async def _record(self, owner: str, endpoint_id: str, change: Change) -> EndpointRecord:
        def write(conn: Connection) -> EndpointRecord:
            return _stored(conn, change(current_endpoint(conn, endpoint_id, owner)))

        return await self._store.write(self._quotas.within(owner, write), owner)


def _stored(conn: Connection, endpoint: EndpointRecord) -> EndpointRecord:
    changed = replace(endpoint, updated_at=clock.now())
    endpoint_store.update(conn, changed)
    return changed
