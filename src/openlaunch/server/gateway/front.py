"""What every predict route does first: whose request, for which endpoint, and is its body right."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from openlaunch.errors import APIError, BadRequest, NotFound, Unavailable
from openlaunch.server.access.auth import Keyring, Principal
from openlaunch.server.asgi import Scope, header, query_value
from openlaunch.server.dispatch.dispatcher import Dispatcher
from openlaunch.server.dispatch.lane import Lane
from openlaunch.server.endpoints.specs import may_predict
from openlaunch.server.gateway.protocol import Exchange
from openlaunch.server.prediction.schemas import BundleSchemas, SchemaCache
from openlaunch.store.records import EndpointRecord
from openlaunch.wire import routes
from openlaunch.wire.endpoints import EndpointType
from openlaunch_worker.frames import Flags

_ROUTE_OF_TYPE = {
    EndpointType.SYNC: routes.SYNC_TASKS,
    EndpointType.ASYNC: routes.ASYNC_TASKS,
    EndpointType.STREAMING: routes.STREAMING_TASKS,
}


class Front:
    """What every predict route does first: whose request, for which endpoint, and is its body right."""

    def __init__(self, keyring: Keyring, dispatcher: Dispatcher, schemas: SchemaCache) -> None:
        self.schemas = schemas
        self._keyring = keyring
        self._dispatcher = dispatcher
        self.stopping = False
        self._loop = asyncio.get_running_loop()
        self._background: set[asyncio.Task[None]] = set()

    def principal(self, scope: Scope) -> Principal:
        """Whose request it is. Raises Unauthorized."""
        return self._keyring.authenticate(header(scope, b"authorization"))

    def lane(self, scope: Scope, wanted: EndpointType, requests: int = 1) -> tuple[Lane, Principal]:
        """The lane of the endpoint that the query names, and whose request it is.

        `requests` are counted against the key's limits; with 0 it is seen to that one more would be allowed.

        Raises:
            Unauthorized: no key, or a wrong one.
            TooManyRequests: they are more than the key may make.
            NotFound: there is no such endpoint, or it is somebody else's and not public.
            BadRequest: it is of another type.
            Unavailable: the server is stopping.
        """
        principal = self.principal(scope)
        if principal.meter is not None:
            principal.spend(requests)
        endpoint_id = query_value(scope, b"model_endpoint_id")
        lane = self._dispatcher.lane(endpoint_id)
        if lane is None or not may_predict(lane.endpoint, principal.owner):
            raise NotFound(f"no endpoint has the id {endpoint_id!r}", code="endpoint_not_found")
        if lane.endpoint.endpoint_type is not wanted:
            raise _wrong_type(lane.endpoint, wanted)
        if self.stopping:
            raise Unavailable("the server is stopping", code="stopping", retry_after=2)
        return lane, principal

    def spawn(self, coroutine: Coroutine[Any, Any, None], exchange: Exchange) -> asyncio.Task[None]:
        """Go on with a request in a task of its own; what it raises is the answer."""
        task = self._loop.create_task(coroutine)
        self._background.add(task)
        task.add_done_callback(lambda done: self._ended(done, exchange))
        return task

    def _ended(self, task: asyncio.Task[None], exchange: Exchange) -> None:
        self._background.discard(task)
        if not task.cancelled():
            exchange.guarded(task.result)

    async def schemas_of(self, lane: Lane) -> BundleSchemas:
        """The schemas of the bundle that serves now: while a new one rolls out, still the old one's."""
        return self.cached_schemas_of(lane) or await self.schemas.get(lane.endpoint.serving_bundle_id)

    def cached_schemas_of(self, lane: Lane) -> BundleSchemas | None:
        """The same where they are in memory."""
        return self.schemas.cached(lane.endpoint.serving_bundle_id)


def as_told(error: APIError, flags: Flags) -> APIError:
    """The error as the caller is told it: why an endpoint has no worker is for its owner, for it quotes the model."""
    if flags & Flags.FOREIGN and error.code == "endpoint_failed":
        return Unavailable(
            "the endpoint has no worker; only its owner is told why",
            code=error.code,
            retry_after=error.retry_after,
        )
    return error


def _wrong_type(endpoint: EndpointRecord, wanted: EndpointType) -> BadRequest:
    return BadRequest(
        f"the endpoint {endpoint.name!r} is {endpoint.endpoint_type.value}, not {wanted.value}: "
        f"send its predictions to POST {_ROUTE_OF_TYPE[endpoint.endpoint_type]}",
        code="wrong_endpoint_type",
    )
