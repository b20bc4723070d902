"""The audit log on the wire (`/v1/audit-log`); ours, not the contract's."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel


class AuditEntry(BaseModel):
    """A change that was made or attempted.

    `action` is the operation's name in the OpenAPI document, `status` what it was answered with. `summary` has the
    request's fields that are not secret, and under `also` the names of the others. `key_id` is None for what was done
    with a signed URL, and both it and `address` for what the server did without a request. What is refused again
    to the same key within an hour is the same entry, and `times` says how often it was refused. `object_owner` is
    whose the object was, where an admin acted for another owner.
    """

    at: datetime
    key_id: str | None
    owner: str | None
    address: str | None
    action: str
    method: str
    path: str
    object_id: str | None
    summary: dict[str, Any]
    status: int
    times: int = 1
    object_owner: str | None = None


class ListAuditResponse(BaseModel):
    """GET /v1/audit-log (admin), newest first; `next_cursor` is the `cursor` of the next page."""

    entries: list[AuditEntry]
    next_cursor: str | None = None
