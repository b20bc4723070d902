"""Notifications: what happens to an owner's endpoints and jobs, sent where the owner has subscribed a URL.

They go into the outbox in the transaction that records what they are about.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import Connection

from openlaunch.store import endpoints, subscriptions
from openlaunch.store import events as event_store
from openlaunch.store.events import EventRecord
from openlaunch.store.owners import owner_of
from openlaunch.store.records import JobEnd
from openlaunch.tasks import outbox
from openlaunch.wire.events import EventKind
from openlaunch.wire.subscriptions import NotificationKind

_OF_EVENTS = {
    EventKind.UPDATE_FAILED.value: NotificationKind.ENDPOINT_FAILED,
    EventKind.FAILURES_BEGAN.value: NotificationKind.ENDPOINT_FAILED,
    EventKind.FAILURES_ENDED.value: NotificationKind.ENDPOINT_RECOVERED,
    EventKind.RECOVERED.value: NotificationKind.ENDPOINT_RECOVERED,
    EventKind.ROLLED_OUT.value: NotificationKind.ENDPOINT_RECOVERED,
    EventKind.QUEUE_OLD.value: NotificationKind.QUEUE_OLD,
    EventKind.QUEUE_CAUGHT_UP.value: NotificationKind.QUEUE_CAUGHT_UP,
}


def of_events(conn: Connection, events: Sequence[EventRecord], now: float) -> None:
    """Notify of those of an endpoint's events that are worth it."""
    for event in events:
        kind = _OF_EVENTS.get(event.kind)
        if kind is None or (event.kind == EventKind.ROLLED_OUT.value and not _had_failed(conn, event)):
            continue
        endpoint = endpoints.get(conn, event.endpoint_id)
        if (
            endpoint is not None and endpoint.owner != endpoint.id
        ):  # a batch job's own says what it does itself
            about = {"endpoint": endpoint.name, "model_endpoint_id": endpoint.id}
            notify(conn, endpoint.owner, kind, {**about, "event": event.kind, "detail": event.detail}, now)


def _had_failed(conn: Connection, rolled_out: EventRecord) -> bool:
    """Return whether what was rolled out follows a failure."""
    ends = (EventKind.UPDATE_FAILED.value, EventKind.RECOVERED.value, EventKind.ROLLED_OUT.value)
    stored = reversed(event_store.list_after(conn, rolled_out.endpoint_id))
    before = (each for each in stored if each.detail != rolled_out.detail)
    return next((each.kind for each in before if each.kind in ends), "") == ends[0]


def of_batch_job(conn: Connection, job_id: str, end: JobEnd, now: float) -> None:
    """Notify of the end of a batch job."""
    if (owner := owner_of(conn, {"batch_job_id": job_id})) is not None:
        data = {"job_id": job_id, "status": end.status.value, "detail": end.reason or ""}
        notify(conn, owner, NotificationKind.BATCH_JOB_ENDED, data, now)


def notify(conn: Connection, owner: str, kind: NotificationKind, data: dict[str, str], now: float) -> None:
    """Have every URL that the owner has subscribed to this kind get a notification."""
    found = [each.url for each in subscriptions.list_by_owner(conn, owner) if kind.value in each.events]
    if found:
        at = datetime.fromtimestamp(now, UTC).isoformat()
        body = {"type": kind.value, "timestamp": at, "data": {"owner": owner, **data}}
        outbox.notify(conn, owner, found, json.dumps(body, ensure_ascii=False).encode(), now)
