"""API keys; for admins."""

from typing import Any, Unpack

from openlaunch.client.effects import Flow, Request, call, json_body, path_to, url_with
from openlaunch.client.models import answer, checked, got
from openlaunch.client.operations.keywords import LimitKeywords, given
from openlaunch.wire import routes
from openlaunch.wire.keys import (
    CreateKeyRequest,
    CreateKeyResponse,
    KeySummary,
    ListKeysResponse,
    PageLinkResponse,
    UpdateKeyRequest,
    WhoamiResponse,
)


def create_api_key(
    owner: str, role: str = "user", **limits: Unpack[LimitKeywords]
) -> Flow[CreateKeyResponse]:
    """Create a key for an owner; `role` is "user", "admin", "predict" or "metrics". Only this answer shows the key.

    Args:
        owner: whose objects the key reads and writes.
        role: a key with the role "predict" can change nothing, and one with "metrics" only reads `/metrics`.
        **limits: of the key; `openlaunch.client.operations.keywords.LimitKeywords` describes them.

    Raises:
        TypeError: a limit is unknown.
    """
    body = checked(CreateKeyRequest, {"owner": owner, "role": role, **_limits(limits)})
    return (yield from answer(CreateKeyResponse, Request("POST", routes.KEYS, json_body(body))))


def list_api_keys(owner: str | None = None) -> Flow[list[KeySummary]]:
    """List all keys, or those of one owner, without their secrets."""
    return (yield from got(ListKeysResponse, url_with(routes.KEYS, {"owner": owner}))).keys


def whoami() -> Flow[WhoamiResponse]:
    """Return the owner and the role of the client's own key."""
    return (yield from got(WhoamiResponse, routes.WHOAMI))


def make_page_link() -> Flow[str]:
    """Make the token of a link that signs in to the server's page once, within ten minutes, with the client's key."""
    return (yield from answer(PageLinkResponse, Request("POST", routes.PAGE_LINKS, idempotent=True))).link


def update_api_key(key_id: str, **limits: Unpack[LimitKeywords]) -> Flow[KeySummary]:
    """Change the given limits of a key; 0 removes a limit. `key_id` is its id, not the key.

    Raises:
        NotFound: there is no key with this id.
    """
    body = checked(UpdateKeyRequest, _limits(limits))
    request = Request("PUT", path_to(routes.KEYS, key_id), json_body(body), idempotent=True)
    return (yield from answer(KeySummary, request))


def revoke_api_key(key_id: str) -> Flow[None]:
    """Revoke a key: it is refused from now on. `key_id` is its id, not the key.

    Raises:
        NotFound: there is no key with this id.
    """
    yield from call(Request("DELETE", path_to(routes.KEYS, key_id), idempotent=True))


def _limits(limits: LimitKeywords) -> dict[str, Any]:
    values = given(LimitKeywords, limits)
    if "expires_at" in values:
        values["expires_at"] = values["expires_at"].astimezone()
    return values
