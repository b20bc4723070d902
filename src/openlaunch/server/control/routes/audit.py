"""The audit log; for admins."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import Query
from pydantic import AwareDatetime

from openlaunch.server.control.answers import shown
from openlaunch.server.control.context import Context
from openlaunch.server.control.routes.callers import Admin, Owner
from openlaunch.server.control.routing import ControlRouter
from openlaunch.store import audit as audit_store
from openlaunch.store.audit import AuditFilter
from openlaunch.wire import routes
from openlaunch.wire.audit import AuditEntry, ListAuditResponse
from openlaunch.wire.keys import ALL_OWNERS


def router(context: Context) -> ControlRouter:
    """List who changed what."""
    api = ControlRouter(tags=["audit log"])

    @api.get(routes.AUDIT_LOG)
    async def list_audit_log(
        admin: Admin,
        owner: Owner = None,
        key_id: str | None = None,
        action: str | None = None,
        object_id: str | None = None,
        since: AwareDatetime | None = None,
        until: AwareDatetime | None = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        cursor: Annotated[str | None, Query(pattern=r"^[0-9]{1,18}$")] = None,
    ) -> ListAuditResponse:
        """List changes and refused attempts at changes, newest first."""
        owner = None if owner == ALL_OWNERS else owner
        wanted = AuditFilter(owner, key_id, action, object_id, _seconds(since), _seconds(until))
        page, next_cursor = await context.store.read(
            lambda conn: audit_store.list_page(conn, wanted, limit, cursor), admin.owner
        )
        entries = [shown(AuditEntry, r, at=datetime.fromtimestamp(r.at, UTC)) for r in page]
        return ListAuditResponse(entries=entries, next_cursor=next_cursor)

    return api


def _seconds(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()
