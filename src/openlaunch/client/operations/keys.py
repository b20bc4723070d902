"""API keys; for admins."""

from datetime import datetime
from typing import Any

from openlaunch.client.effects import Flow, Request, call, json_body, path_to
from openlaunch.client.models import checked
from openlaunch.wire import routes
from openlaunch.wire.keys import (
    CreateKeyRequest,
    CreateKeyResponse,
    KeySummary,
    ListKeysResponse,
    UpdateKeyRequest,
)


def create_api_key(
    owner: str,
    role: str = "user",
    *,
    requests_per_second: float | None = None,
    burst: int | None = None,
    requests_per_day: int | None = None,
    expires_at: datetime | None = None,
) -> Flow[CreateKeyResponse]:
    """Make a key for an owner; `role` is "user", "admin" or "predict". The answer is the one time that it is shown.

    Args:
        owner: whose things it reads and writes.
        role: a key with the role "predict" can change nothing.
        requests_per_second: more predictions are refused, those of a bulk counted one by one.
        burst: how many may come at once after a quiet time; else what comes in one second.
        requests_per_day: more are refused until 0:00 UTC.
        expires_at: when it expires; without a time zone, in this machine's.
    """
    limits = _limits(requests_per_second, burst, requests_per_day, expires_at)
    body = checked(CreateKeyRequest, {"owner": owner, "role": role, **limits})
    response = yield from call(Request("POST", routes.KEYS, json_body(body)))
    return CreateKeyResponse.model_validate_json(response.body)


def list_api_keys() -> Flow[list[KeySummary]]:
    """List all keys, without their secrets."""
    response = yield from call(Request("GET", routes.KEYS, idempotent=True))
    return ListKeysResponse.model_validate_json(response.body).keys


def update_api_key(
    key_id: str,
    *,
    requests_per_second: float | None = None,
    burst: int | None = None,
    requests_per_day: int | None = None,
    expires_at: datetime | None = None,
) -> Flow[KeySummary]:
    """Change what is given of a key's limits; 0 takes a limit away. `key_id` is its id, not the key.

    Raises:
        NotFound: there is no key with this id.
    """
    body = checked(UpdateKeyRequest, _limits(requests_per_second, burst, requests_per_day, expires_at))
    response = yield from call(Request("PUT", path_to(routes.KEYS, key_id), json_body(body), idempotent=True))
    return KeySummary.model_validate_json(response.body)


def revoke_api_key(key_id: str) -> Flow[None]:
    """Make a key useless from now on; `key_id` is its id, not the key.

    Raises:
        NotFound: there is no key with this id.
    """
    yield from call(Request("DELETE", path_to(routes.KEYS, key_id), idempotent=True))


def _limits(
    requests_per_second: float | None,
    burst: int | None,
    requests_per_day: int | None,
    expires_at: datetime | None,
) -> dict[str, Any]:
    return {
        "requests_per_second": requests_per_second,
        "burst": burst,
        "requests_per_day": requests_per_day,
        "expires_at": None if expires_at is None else expires_at.astimezone(),
    }
