"""Looks up the caller and the endpoint of a prediction, first in every predict route; all of it is in memory."""

from collections.abc import Mapping
from contextlib import suppress
from urllib.parse import unquote

from openlaunch.errors import APIError, BadRequest, Conflict, Forbidden, NotFound, Unavailable
from openlaunch.server.access.auth import PRINCIPAL, Keyring, Principal
from openlaunch.server.asgi import Scope, header, query_value
from openlaunch.server.dispatch.lane import Lane
from openlaunch.server.dispatch.lanes import Lanes
from openlaunch.server.endpoints.specs import may_predict
from openlaunch.server.gateway.request_reader import Head
from openlaunch.store.records import EndpointRecord
from openlaunch.wire import routes
from openlaunch.wire.endpoints import EndpointType
from openlaunch.wire.keys import ALL_OWNERS

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

    def lane_of(self, endpoint_id: str) -> Lane | None:
        """Return the lane of an endpoint of any owner."""
        return self._lanes.get(endpoint_id)

    def authenticate(self, scope: Scope) -> Principal:
        """Find the caller, and note it in the scope; raise Unauthorized if there is none.

        An admin's request that names an `owner` is made for that one.
        """
        principal = scope[PRINCIPAL] = self._keyring.authenticate(
            header(scope, b"authorization"), scope["headers"]
        )
        # `in` would take twice as long: it first tries whether these bytes are a number.
        if scope["query_string"].find(b"owner=") < 0:
            return principal
        return self._acting(scope, principal)

    def _acting(self, scope: Scope, principal: Principal) -> Principal:
        owner = unquote(query_value(scope, b"owner"))
        actor = principal.acting_for(owner)
        if owner == ALL_OWNERS:
            return principal
        self._keyring.check_owner(owner)
        return actor

    def resolve(self, scope: Scope, wanted: EndpointType, requests: int = 1) -> tuple[Lane, Principal]:
        """Find the endpoint's lane and the caller, and count `requests` against the limits of the caller's key.

        With 0 nothing is counted, but the caller must be allowed one more.

        Raises:
            Unauthorized: no key, or a wrong one.
            TooManyRequests: the requests are more than the key may make.
            NotFound: there is no such endpoint, or it is somebody else's and not public, or no such owner.
            Forbidden: the request is made for another owner, and the caller is not an admin.
            BadRequest: the endpoint has another type.
            Unavailable: the server is stopping.
        """
        principal = self.authenticate(scope)
        if principal.meter is not None:
            principal.spend(requests)
        endpoint_id = query_value(scope, b"model_endpoint_id")
        lane = self._lanes.get(endpoint_id) or self._named(endpoint_id, principal.owner)
        owner = principal.owner
        if lane is None or (lane.endpoint.owner != owner and not may_predict(lane.endpoint, owner)):
            raise NotFound(
                f"no endpoint has the id {endpoint_id!r}, nor is it the name of one of yours, or owner/name of a "
                "public one",
                code="endpoint_not_found",
            )
        if lane.endpoint.endpoint_type is not wanted:
            raise _wrong_type(lane.endpoint, wanted)
        if self.stopping:
            raise _stopping()
        return lane, principal

    def resolve_name(self, scope: Scope, owner: str | None, name: str) -> tuple[Lane, Principal]:
        """Find the lane of an endpoint of any type by its name, and the caller, whose key pays for one request.

        Raises what `resolve` does, and Conflict where the name alone does not say which endpoint is meant.
        """
        principal = self.spending(scope)
        return find_by_name(self._lanes, principal.owner, owner, name), principal

    def origins(self, head: Head, owner: str | None, name: str) -> frozenset[str]:
        """Return the origins of which pages may call an endpoint by this name."""
        found = self._lanes.by_name.all(name)
        lanes = [lane for each, lane in found.items() if owner in (None, each)]
        if head.method != b"OPTIONS":
            with suppress(APIError):  # of which the page may read why
                caller = self.authenticate({"headers": head.headers, "query_string": b""}).owner
                lanes = [find_by_name(self._lanes, caller, owner, name)]
        return frozenset(origin for lane in lanes for origin in lane.endpoint.spec.cors_origins or ())

    def spending(self, scope: Scope) -> Principal:
        """Find the caller, whose key pays for one request, of an endpoint that is found later."""
        principal = self.authenticate(scope)
        if principal.meter is not None:
            principal.spend(1)
        if self.stopping:
            raise _stopping()
        return principal

    def refuse_uncounted(self, scope: Scope) -> None:
        """Raise Forbidden where a caller who has a limit of tokens asks a model otherwise than by OpenAI's routes."""
        if self._keyring.use.tokens.is_limited(scope[PRINCIPAL].account):
            raise Forbidden(
                "this key or its owner has a limit of tokens, and the model's tokens are counted on OpenAI's routes "
                f"alone: send the request to one of them, such as POST {routes.CHAT_COMPLETIONS}",
                code="tokens_not_counted",
            )

    def _named(self, name: str, owner: str) -> Lane | None:
        """Find the endpoint that is named in place of an id: one's own by its name, another's by `owner/name`."""
        *others, own_name = unquote(name).split("/", 1)
        return self._lanes.by_name.get(others[0] if others else owner, own_name)


def find_by_name(lanes: Lanes, caller: str, owner: str | None, name: str) -> Lane:
    """Return the lane of an endpoint that the caller may predict with: of this owner, or else their own, or public.

    Raises:
        NotFound: there is none.
        Conflict: several owners have public ones of this name.
    """
    of_name = lanes.by_name.all(name)
    if (mine := of_name.get(owner or caller)) is not None and may_predict(mine.endpoint, caller):
        return mine
    public = {each: lane for each, lane in of_name.items() if lane.endpoint.spec.public_inference}
    if owner is not None or not public:
        shown = name if owner is None else f"{owner}/{name}"
        raise NotFound(
            f"{shown!r} is neither an endpoint of yours nor a public one", code="endpoint_not_found"
        )
    return the_only_one(name, public)


def the_only_one(name: str, public: Mapping[str, Lane]) -> Lane:
    """Return the one of these lanes by owner; raise Conflict where there are several."""
    if len(public) > 1:
        raise Conflict(
            f"{len(public)} owners have a public endpoint {name!r}, such as {min(public)}: name it as OWNER/{name}",
            code="endpoint_ambiguous",
        )
    (lane,) = public.values()
    return lane


def _stopping() -> Unavailable:
    return Unavailable("the server is stopping", code="stopping", retry_after=2)


def _wrong_type(endpoint: EndpointRecord, wanted: EndpointType) -> BadRequest:
    return BadRequest(
        f"the endpoint {endpoint.name!r} is {endpoint.endpoint_type.value}, not {wanted.value}: "
        f"send its predictions to POST {_ROUTE_OF_TYPE[endpoint.endpoint_type]}",
        code="wrong_endpoint_type",
    )
