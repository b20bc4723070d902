"""The audit log; for admins."""

from datetime import datetime

from openlaunch.client.effects import Flow, url_with
from openlaunch.client.models import got
from openlaunch.wire import routes
from openlaunch.wire.audit import ListAuditResponse


def list_audit_log(
    *,
    owner: str | None = None,
    key_id: str | None = None,
    action: str | None = None,
    object_id: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int = 100,
    cursor: str | None = None,
) -> Flow[ListAuditResponse]:
    """List the entries of the audit log that match all given filters, newest first.

    `action` is an operation's name, such as "update_model_endpoint"; `since` and `until` need a time zone, or are
    taken as this machine's. `next_cursor` of the answer is the `cursor` of the next page.
    """
    query = {
        "owner": owner,
        "key_id": key_id,
        "action": action,
        "object_id": object_id,
        "since": None if since is None else since.astimezone().isoformat(),
        "until": None if until is None else until.astimezone().isoformat(),
        "limit": limit,
        "cursor": cursor,
    }
    return (yield from got(ListAuditResponse, url_with(routes.AUDIT_LOG, query)))
