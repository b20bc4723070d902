"""Endpoints are created, changed, found and deleted."""

import difflib
import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Unpack

from pydantic import BaseModel

from openlaunch.client.effects import (
    Flow,
    Pause,
    Request,
    call,
    json_body,
    path_to,
    takes_owner,
    url_with,
)
from openlaunch.client.models import EndpointLike, HasModelEndpoint, ModelEndpoint, answer, checked, got
from openlaunch.client.operations import keywords
from openlaunch.client.operations.bundles import BundleLike, bundle_id
from openlaunch.client.predictions import callback_auth
from openlaunch.client.seconds import check_seconds
from openlaunch.errors import BadRequest, Conflict, EndpointFailed, NotFound, Unprocessable, WaitTimeout
from openlaunch.wire import routes
from openlaunch.wire.endpoints import (
    CreateModelEndpointRequest,
    DeleteModelEndpointResponse,
    EndpointStatus,
    EndpointType,
    HandOverRequest,
    RestartModelEndpointResponse,
    UpdateModelEndpointRequest,
)
from openlaunch.wire.keywords import DEFAULTS, EndpointKeywords

FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 1.0
StatusCallback = Callable[[ModelEndpoint], None]


class ModelEndpointList(BaseModel):
    """GET /v1/model-endpoints."""

    model_endpoints: list[ModelEndpoint]


class Settings(EndpointKeywords, total=False):
    """The settings of an endpoint, and how its default callback is authenticated."""

    public: Annotated[bool | None, "The same as public_inference. Default: false."]
    default_callback_auth_kind: Annotated[str | None, 'Authentication of callbacks: "basic" or "mtls".']
    default_callback_auth_username: Annotated[str | None, 'User name, for "basic".']
    default_callback_auth_password: Annotated[str | None, 'Password, for "basic".']
    default_callback_auth_cert: Annotated[str | None, 'Client certificate as PEM text, for "mtls".']
    default_callback_auth_key: Annotated[str | None, 'Key of the certificate as PEM text, for "mtls".']


@takes_owner("endpoint_name")
def create_model_endpoint(
    *,
    endpoint_name: str,
    model_bundle: BundleLike,
    endpoint_type: str = "sync",
    update_if_exists: bool = False,
    **settings: Unpack[Settings],
) -> Flow[ModelEndpoint]:
    """Deploy a bundle. Returns at once: `wait_until_ready` of the endpoint waits for its workers.

    Args:
        endpoint_name: letters, digits, `.`, `_` and `-`, at most 63, a letter or digit first and last.
        model_bundle: a bundle, its name (the newest is taken) or its id.
        endpoint_type: "sync", "async" or "streaming".
        update_if_exists: change an endpoint of this name instead of failing; settings that are omitted stay.
        **settings: of the endpoint; `openlaunch.wire.keywords.EndpointKeywords` describes them.

    Raises:
        TypeError: a setting is unknown.
        Unprocessable: a setting is not allowed.
        Conflict: there is an endpoint of this name.
        NotFound: there is no such bundle.
    """
    body = creation(endpoint_name, endpoint_type, settings, DEFAULTS)
    bundle = yield from bundle_id(model_bundle)
    existing = (yield from find(endpoint_name)) if update_if_exists else None
    if existing is not None:
        check_type(existing, endpoint_type)
        return (yield from update(existing, update_body(settings) | {"model_bundle_id": bundle}))
    return (yield from create(body | {"model_bundle_id": bundle}))


def creation(
    name: str, endpoint_type: str, settings: Settings, defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """Give the body of a request to create an endpoint, of a bundle that is still to be named.

    Raises:
        TypeError: a setting is unknown.
        Unprocessable: a setting is not allowed.
    """
    given = _given(settings)
    fixed = {"name": name, "endpoint_type": endpoint_type, "model_bundle_id": "unknown yet", "metadata": {}}
    body = {**defaults, "labels": {}, **given, **fixed}
    if "max_workers" not in given and isinstance(least := given.get("min_workers"), int):
        body["max_workers"] = max(body["max_workers"], least)
    return checked(CreateModelEndpointRequest, body)


def update_body(settings: Settings) -> dict[str, Any]:
    """Give the body of a request to change settings; raises what `creation` does."""
    return checked(UpdateModelEndpointRequest, _given(settings))


def create(body: dict[str, Any]) -> Flow[ModelEndpoint]:
    """Create an endpoint."""
    yield from call(Request("POST", routes.ENDPOINTS, json_body(body)))
    return (yield from get_model_endpoint(body["name"]))


def _given(settings: Settings) -> dict[str, Any]:
    values = keywords.given(Settings, settings)
    if (public := values.pop("public", None)) is not None:
        values["public_inference"] = public
    auth = callback_auth(
        *(
            values.get(f"default_callback_auth_{part}")
            for part in ("kind", "username", "password", "cert", "key")
        )
    )
    return values if auth is None else {**values, "default_callback_auth": auth}


def check_type(existing: ModelEndpoint, endpoint_type: str) -> None:
    """Raise Conflict where an endpoint is of another type, which can't change."""
    if existing.endpoint_type != endpoint_type:
        raise Conflict(
            f"the endpoint {existing.name!r} is of type {existing.endpoint_type.value!r} and can't become "
            f"{endpoint_type!r}: delete it first, or choose another name"
        )


def update(endpoint: ModelEndpoint, changes: dict[str, Any]) -> Flow[ModelEndpoint]:
    """Change what is given of an endpoint, and give it as it is then."""
    path = path_to(routes.ENDPOINTS, endpoint.id)
    yield from call(Request("PUT", path, json_body(changes), idempotent=True))
    return (yield from refreshed(endpoint))


def edit_model_endpoint(
    *, model_endpoint: EndpointLike, model_bundle: BundleLike | None = None, **settings: Unpack[Settings]
) -> Flow[ModelEndpoint]:
    """Change the given settings of an endpoint, which are those of `create_model_endpoint`.

    The workers of a new bundle start beside the old ones, which keep serving until the new ones are ready.

    Raises:
        TypeError: a setting is unknown.
        NotFound: there is no such endpoint or bundle.
        Unprocessable: a setting is not allowed.
        Conflict: it has a canary, and the change needs new workers.
    """
    changes = update_body(settings)
    endpoint = yield from resolved(model_endpoint)
    if model_bundle is not None:
        changes["model_bundle_id"] = yield from bundle_id(model_bundle)
    return (yield from update(endpoint, changes))


def get_model_endpoint(endpoint_name: EndpointLike) -> Flow[ModelEndpoint]:
    """Get an endpoint by its name, or as it is now.

    `owner/name` names a public endpoint of another owner; for an admin, any endpoint of that owner.

    Raises:
        NotFound: there is none; similar names are listed.
        TypeError: this is neither a name nor an endpoint.
    """
    if not isinstance(endpoint_name, str):
        return (yield from refreshed(_described(endpoint_name)))
    found = yield from find(endpoint_name)
    if found is not None:
        return found
    if "/" in endpoint_name:
        listed = yield from list_model_endpoints(public=True)
        names = [f"{endpoint.created_by}/{endpoint.name}" for endpoint in listed]
    else:
        names = [endpoint.name for endpoint in (yield from list_model_endpoints())]
    similar = difflib.get_close_matches(endpoint_name, names)
    hint = f"; similar names: {', '.join(similar)}" if similar else ""
    raise NotFound(f"there is no endpoint {endpoint_name!r}{hint}", code="endpoint_not_found")


def find(name: str) -> Flow[ModelEndpoint | None]:
    """Get an endpoint by its name, None if there is none."""
    url = url_with(routes.ENDPOINTS, {"name": name})
    found = (yield from got(ModelEndpointList, url)).model_endpoints
    if len(found) > 1:
        names = " or ".join(f"{endpoint.created_by}/{endpoint.name}" for endpoint in found)
        raise Unprocessable(f"{name!r} is the name of {len(found)} endpoints: give {names}")
    return found[0] if found else None


def list_model_endpoints(owner: str | None = None, *, public: bool = False) -> Flow[list[ModelEndpoint]]:
    """List your endpoints.

    Args:
        owner: for admins: whose endpoints; `"*"` lists everybody's.
        public: list the public endpoints of all owners instead, which every key may call.
    """
    url = url_with(routes.ENDPOINTS, {"owner": owner, "public": "true" if public else None})
    return (yield from got(ModelEndpointList, url)).model_endpoints


def refreshed(endpoint: ModelEndpoint) -> Flow[ModelEndpoint]:
    """Ask the server for an endpoint again. Raises NotFound when it has been deleted."""
    if not endpoint.id:
        return (yield from get_model_endpoint(endpoint.name))
    path = path_to(routes.ENDPOINTS, endpoint.id)
    return (yield from got(ModelEndpoint, path))


def looked_up(endpoint: ModelEndpoint, wanted: EndpointType) -> Flow[ModelEndpoint]:
    """Ask the server for an endpoint of which the name is known.

    Raises:
        NotFound: there is none of this name.
        BadRequest: it has another type.
    """
    found = yield from get_model_endpoint(endpoint.name)
    if found.endpoint_type is not wanted:
        kind = found.endpoint_type.value
        raise BadRequest(
            f"the endpoint {endpoint.name!r} is {kind}, not {wanted.value}: use {kind.capitalize()}Endpoint, or "
            "client.get_model_endpoint, which gives the class that fits",
            code="wrong_endpoint_type",
        )
    return found


def delete_model_endpoint(model_endpoint: EndpointLike) -> Flow[bool]:
    """Delete an endpoint; its workers are stopped.

    Raises:
        NotFound: there is none of this name.
    """
    endpoint = yield from resolved(model_endpoint)
    request = Request("DELETE", path_to(routes.ENDPOINTS, endpoint.id), idempotent=True)
    return (yield from answer(DeleteModelEndpointResponse, request)).deleted


def restart_model_endpoint(model_endpoint: EndpointLike) -> Flow[bool]:
    """Replace all workers of an endpoint by new ones, one after the other.

    Raises:
        NotFound: there is none of this name.
    """
    endpoint = yield from resolved(model_endpoint)
    path = path_to(routes.ENDPOINTS, endpoint.id, "restart")
    return (yield from answer(RestartModelEndpointResponse, Request("POST", path, b"{}"))).restarted


def hand_over_model_endpoint(model_endpoint: EndpointLike, owner: str) -> Flow[ModelEndpoint]:
    """Make another owner the endpoint's, for admins. New workers replace the old ones, without an interruption.

    The new owner gets a copy of the bundle. Tasks stay with the owners who sent them.

    Raises:
        NotFound: there is no such endpoint, or nobody has a key of this owner.
        Conflict: the new owner has an endpoint of this name, or the endpoint has a canary.
        Forbidden: the new owner would have more than the quotas allow.
    """
    body = checked(HandOverRequest, {"owner": owner})
    endpoint = yield from resolved(model_endpoint)
    path = path_to(routes.ENDPOINTS, endpoint.id, "hand-over")
    return (yield from answer(ModelEndpoint, Request("POST", path, json_body(body))))


def resolved(endpoint: EndpointLike) -> Flow[ModelEndpoint]:
    """Give the endpoint that is meant; one without an id is asked for by its name."""
    if isinstance(endpoint, str):
        return (yield from get_model_endpoint(endpoint))
    described = _described(endpoint)
    return described if described.id else (yield from get_model_endpoint(described.name))


def _described(endpoint: ModelEndpoint | HasModelEndpoint) -> ModelEndpoint:
    described = endpoint if isinstance(endpoint, ModelEndpoint) else getattr(endpoint, "model_endpoint", None)
    if not isinstance(described, ModelEndpoint):
        raise TypeError(f"an endpoint or its name is needed here, not {endpoint!r:.100}")
    return described


def wait_until_ready(
    endpoint: ModelEndpoint,
    timeout: float,
    on_status: StatusCallback | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Flow[ModelEndpoint]:
    """Wait until the endpoint is READY; `on_status` is called at each change of its status or reason.

    Raises:
        EndpointFailed: it became UPDATE_FAILED, or is being deleted.
        WaitTimeout: it is not READY after `timeout` seconds; it keeps running.
    """
    check_seconds(timeout)
    deadline, pause = clock() + timeout, FIRST_PAUSE_SECONDS
    reported: tuple[EndpointStatus, str | None] | None = None
    while True:
        endpoint = yield from refreshed(endpoint)
        state = (endpoint.status, endpoint.status_reason)
        if on_status is not None and state != reported:
            on_status(endpoint)
        reported = state
        if _is_ready(endpoint):
            return endpoint
        left = deadline - clock()
        if left <= 0:
            because = f": {endpoint.status_reason}" if endpoint.status_reason else ""
            raise WaitTimeout(
                f"endpoint {endpoint.name!r} is {endpoint.status.value} after {timeout:g} seconds{because}"
            )
        yield Pause(min(pause, left))
        pause = min(pause * 1.5, LONGEST_PAUSE_SECONDS)


def _is_ready(endpoint: ModelEndpoint) -> bool:
    if endpoint.status is EndpointStatus.UPDATE_FAILED:
        reason = endpoint.status_reason or "no reason was given"
        failed = EndpointFailed(f"endpoint {endpoint.name!r} is UPDATE_FAILED: {reason}")
        failed.add_note(
            f"`openlaunch endpoints logs {endpoint.name} --creation` shows how its environment was built and its "
            "workers started"
        )
        raise failed
    if endpoint.status is EndpointStatus.DELETE_IN_PROGRESS:
        raise EndpointFailed(f"endpoint {endpoint.name!r} is being deleted")
    return endpoint.status is EndpointStatus.READY
