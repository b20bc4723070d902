"""Quotas of owners (`/v1/quotas`)."""

from typing import Any

from openlaunch.server import clock
from openlaunch.server.control.context import Context
from openlaunch.server.control.routes.callers import Admin, Owner, User
from openlaunch.server.control.routing import ControlRouter
from openlaunch.store import quotas as quota_store
from openlaunch.wire import routes
from openlaunch.wire.keys import ALL_OWNERS, Role
from openlaunch.wire.quotas import ListQuotasResponse, OwnerQuotas, QuotaAmounts, SetQuotasRequest


def router(context: Context) -> ControlRouter:
    """List and set quotas."""
    api = ControlRouter(prefix=routes.QUOTAS, tags=["quotas"])

    @api.get("")
    async def list_quotas(user: User, owner: Owner = None) -> ListQuotasResponse:
        """List what is used and what is allowed: the caller's, or for an admin everybody's."""
        everybody = user.role is Role.ADMIN and owner in (None, ALL_OWNERS)
        owners = sorted(context.keyring.owners) if everybody else [user.owner]
        return ListQuotasResponse(quotas=[await _of(context, each) for each in owners])

    @api.put("/{name}")
    async def set_quotas(name: str, body: SetQuotasRequest, admin: Admin) -> OwnerQuotas:
        """Set quotas of an owner from now on. What the owner has already stays, also where it is more."""
        context.keyring.check_owner(name)
        limits: dict[str, Any] = body.model_dump(exclude_none=True)

        await context.store.write(lambda conn: quota_store.change(conn, name, limits), admin.owner)
        context.quotas.set_all(await context.store.read(quota_store.list_all))
        return await _of(context, name)

    return api


async def _of(context: Context, owner: str) -> OwnerQuotas:
    used: dict[str, float] = dict(
        await context.store.read(lambda conn: quota_store.reserved(conn, owner), owner)
    )
    used["queued_tasks"] = context.lanes.queued_of(owner)
    used |= context.keyring.use.tokens.used_by(owner, clock.now())
    used["stored_bytes"] = await context.uploads.stored_by(owner)
    allowed = context.quotas.of(owner)
    return OwnerQuotas(
        owner=owner,
        used=QuotaAmounts.model_validate({name: used.get(name, 0) for name in QuotaAmounts.model_fields}),
        allowed=QuotaAmounts.model_validate(allowed),
    )
