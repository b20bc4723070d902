"""API keys; for admins."""

from functools import partial
from typing import Any

from fastapi import Response

from openlaunch.server import clock
from openlaunch.server.control.answers import listed, shown
from openlaunch.server.control.context import Context
from openlaunch.server.control.routes.callers import Admin, Caller, Owner
from openlaunch.server.control.routing import ControlRouter
from openlaunch.store import keys as key_store
from openlaunch.store.records import KeyRecord
from openlaunch.wire import routes
from openlaunch.wire.keys import (
    ALL_OWNERS,
    CreateKeyRequest,
    CreateKeyResponse,
    KeyLimits,
    KeySummary,
    ListKeysResponse,
    UpdateKeyRequest,
    WhoamiResponse,
)

KEY = routes.KEYS + "/{key_id}"


def router(context: Context) -> ControlRouter:
    """Make, list, change and revoke keys."""
    api = ControlRouter(tags=["keys"])

    @api.get(routes.WHOAMI)
    async def whoami(caller: Caller) -> WhoamiResponse:
        """Get the owner and the role of the key that the request is sent with."""
        return shown(WhoamiResponse, caller)

    @api.post(routes.KEYS)
    async def create_key(body: CreateKeyRequest, admin: Admin) -> CreateKeyResponse:
        """Create a key. Only this answer shows it."""
        record, key = await context.keyring.create(body.owner, body.role, **_settings(body))
        return shown(CreateKeyResponse, record, api_key=key)

    @api.get(routes.KEYS, response_model=ListKeysResponse)
    async def list_keys(admin: Admin, owner: Owner = None) -> Response:
        """List every key, or those of one owner, including revoked ones, oldest first."""
        records = await context.store.read(key_store.list_all)
        found = [record for record in records if owner in (None, ALL_OWNERS, record.owner)]
        return listed("keys", found, partial(_summary, context))

    @api.put(KEY)
    async def update_key(key_id: str, body: UpdateKeyRequest, admin: Admin) -> KeySummary:
        """Change a key's limits or its expiry. Omitted fields stay unchanged."""
        return _summary(context, await context.keyring.change(key_id, **_settings(body)))

    @api.delete(KEY, status_code=204)
    async def revoke_key(key_id: str, admin: Admin) -> None:
        """Revoke a key; it is refused from now on."""
        await context.keyring.revoke(key_id)

    return api


def _summary(context: Context, key: KeyRecord) -> KeySummary:
    today = context.keyring.use.tokens.key(key.id).today_at(clock.now())
    return shown(KeySummary, key, tokens_today=today)


def _settings(body: CreateKeyRequest | UpdateKeyRequest) -> dict[str, Any]:
    """Return what is given of the limits and the end, as in a key's record."""
    given = body.model_dump(include={*KeyLimits.model_fields}, exclude_none=True)
    limits: dict[str, Any] = {name: value or None for name, value in given.items()}
    return limits if body.expires_at is None else limits | {"expires_at": body.expires_at.timestamp()}
