"""API keys; for admins."""

from openlaunch.client.effects import Flow, Request, call, json_body, path_to
from openlaunch.client.models import checked
from openlaunch.wire import routes
from openlaunch.wire.keys import CreateKeyRequest, CreateKeyResponse, KeySummary, ListKeysResponse


def create_api_key(owner: str, role: str = "user") -> Flow[CreateKeyResponse]:
    """Make a key for an owner; `role` is "user" or "admin". The answer is the one time that it is shown."""
    body = checked(CreateKeyRequest, {"owner": owner, "role": role})
    response = yield from call(Request("POST", routes.KEYS, json_body(body)))
    return CreateKeyResponse.model_validate_json(response.body)


def list_api_keys() -> Flow[list[KeySummary]]:
    """All keys, without their secrets."""
    response = yield from call(Request("GET", routes.KEYS, idempotent=True))
    return ListKeysResponse.model_validate_json(response.body).keys


def revoke_api_key(key_id: str) -> Flow[None]:
    """Make a key useless from now on; `key_id` is its id, not the key.

    Raises:
        NotFound: there is no key with this id.

    """
    yield from call(Request("DELETE", path_to(routes.KEYS, key_id), idempotent=True))
