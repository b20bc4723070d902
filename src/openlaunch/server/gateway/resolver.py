"""Looks up the caller and the endpoint of a prediction, first in every predict route; all of it is in memory."""

from openlaunch.errors import BadRequest, NotFound, Unavailable
from openlaunch.server.access.auth import PRINCIPAL, Keyring, Principal
from openlaunch.server.asgi import Scope, header, query_value
from openlaunch.server.dispatch.lane import Lane
from openlaunch.server.dispatch.lanes import Lanes
from openlaunch.server.endpoints.specs import may_predict
from openlaunch.store.records import EndpointRecord
from openlaunch.wire import routes
from openlaunch.wire.endpoints import EndpointType

_ROUTE_OF_TYPE = {
    EndpointType.SYNC: routes.SYNC_TASKS,
    EndpointType.ASYNC: routes.ASYNC_TASKS,
    EndpointType.STREAMING: routes.STREAMING_TASKS,
}


class EndpointResolver:
    """Finds the caller of a predict route, and the lane of the endpoint that the request names."""

    def __init__(self, keyring: Keyring, lanes: Lanes) -> None:
        self._keyring = keyring
        self._lanes = lanes
        self.stopping = False

    def authenticate(self, scope: Scope) -> Principal:
        """Find the caller, and note it in the scope; raise Unauthorized if there is none."""
        principal = scope[PRINCIPAL] = self._keyring.authenticate(header(scope, b"authorization"))
        return principal

    def resolve(self, scope: Scope, wanted: EndpointType, requests: int = 1) -> tuple[Lane, Principal]:
        """Find the endpoint's lane and the caller, and count `requests` against the limits of the caller's key.

        With 0 nothing is counted, but the caller must be allowed one more.

        Raises:
            Unauthorized: no key, or a wrong one.
            TooManyRequests: the requests are more than the key may make.
            NotFound: there is no such endpoint, or it is somebody else's and not public.
            BadRequest: the endpoint has another type.
            Unavailable: the server is stopping.
        """
        principal = self.authenticate(scope)
        if principal.meter is not None:
            principal.spend(requests)
        endpoint_id = query_value(scope, b"model_endpoint_id")
        lane = self._lanes.get(endpoint_id)
        if lane is None or not may_predict(lane.endpoint, principal.owner):
            raise NotFound(f"no endpoint has the id {endpoint_id!r}", code="endpoint_not_found")
        if lane.endpoint.endpoint_type is not wanted:
            raise _wrong_type(lane.endpoint, wanted)
        if self.stopping:
            raise Unavailable("the server is stopping", code="stopping", retry_after=2)
        return lane, principal


def _wrong_type(endpoint: EndpointRecord, wanted: EndpointType) -> BadRequest:
    return BadRequest(
        f"the endpoint {endpoint.name!r} is {endpoint.endpoint_type.value}, not {wanted.value}: "
        f"send its predictions to POST {_ROUTE_OF_TYPE[endpoint.endpoint_type]}",
        code="wrong_endpoint_type",
    )
