"""The audit log: every change that was made through the API, and those that were refused to a key.

One place in front of the control plane's routes records them, so that no route can be forgotten. An entry is on disk
before the change is answered. Predictions are not changes; cancelling a task is one. Nobody can push out what others
did: refusals have a room for each key, and of too many changes, the owner with the most loses the oldest.
"""

import logging
import re
from collections.abc import Callable, Mapping
from typing import Any

import orjson
from sqlalchemy import Connection

from openlaunch.server import clock
from openlaunch.server.access.auth import ACTING, PRINCIPAL, Principal
from openlaunch.server.asgi import Scope
from openlaunch.server.logs import RareLog
from openlaunch.server.settings import AuditSettings
from openlaunch.store import audit as audit_store
from openlaunch.store.base import Store
from openlaunch.store.records import AuditRecord

log = logging.getLogger(__name__)

SHOWN = frozenset(
    {
        *("endpoints", "workers", "queued_tasks", "stored_bytes"),
        *("name", "owner", "role", "requests_per_second", "burst", "requests_per_day", "expires_at"),
        *("tokens_per_minute", "tokens_per_day"),
        *("model_bundle_id", "original_model_bundle_id", "endpoint_type", "public_inference"),
        *("min_workers", "max_workers", "per_worker", "cpus", "gpus", "memory", "storage", "high_priority"),
        *("bundle_id", "docker_image_batch_job_bundle_id", "docker_image_batch_job_bundle_name"),
        *("record.share", "record.max_bytes", "record.days"),
        *("image_repository", "image_tag", "cron_schedule", "suspend", "cancel", "serialization_format"),
    }
)
"""Fields of requests that are not secret, and of use to a reader of the log."""

REFUSED_FROM = 400
"""The status of an answer from which on nothing was changed."""

REFUSALS_OF_KEY = 100
FOLD_SECONDS = 3600
"""How many entries what one key is refused may take; the same within this time is one entry, with a count."""

MAX_VALUE = 200
MAX_FIELDS = 50
MAX_ID_BYTES = 64 * 1024
_FIELD_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_OWN_ID = re.compile(r"[a-z]{2,8}_[0-9a-f]{8,64}")


class AuditLog:
    """Stores entries, and forgets old ones. Used in the event loop's thread and, to write, in the store's."""

    def __init__(self, store: Store, settings: AuditSettings) -> None:
        self._store = store
        self._settings = settings
        self._fit = 0
        """How many changes fit, at least, before the number of entries has to be looked at."""
        self._strangers = RareLog(log)

    async def record(self, entry: AuditRecord) -> None:
        """Store an entry. One that can't be stored is written to the server's log: the change has been made."""
        try:
            await self._store.write(
                self._refused(entry) if entry.status >= REFUSED_FROM else self._changed(entry)
            )
        except Exception:
            log.exception("the audit log could not be written; this is the entry: %r", entry)

    def _changed(self, entry: AuditRecord) -> Callable[[Connection], None]:
        oldest = entry.at - self._settings.audit_retention_seconds
        limit = self._settings.max_audit_entries

        def write(conn: Connection) -> None:
            if self._fit > 0:
                self._fit -= 1
                audit_store.insert(conn, entry, oldest=oldest)
            else:
                self._fit = audit_store.insert(conn, entry, oldest=oldest, max_entries=limit)

        return write

    def _refused(self, entry: AuditRecord) -> Callable[[Connection], None]:
        since = entry.at - FOLD_SECONDS
        return lambda conn: audit_store.insert_refusal(conn, entry, since=since, max_of_key=REFUSALS_OF_KEY)

    async def record_own(self, action: str, object_id: str, summary: dict[str, Any]) -> None:
        """Store a change that the server made without a request."""
        await self.record(AuditRecord(_now(), None, None, None, action, "", "", object_id, summary, 200))

    async def record_request(self, scope: Scope, document: Any, status: int, answer: bytes) -> None:
        """Store a request that was answered; one without a good key, which changed nothing, goes to the log."""
        route, principal = scope.get("route"), scope.get(PRINCIPAL)
        if route is None:
            return
        if principal is None and status >= 400:
            if status in (401, 403):
                text = "%s, asked for by %s, is refused: %d"
                self._strangers.warning(route.name, text, route.name, _address(scope), status)
            return
        await self.record(_entry(scope, route.name, principal, document, status, answer))


def _entry(
    scope: Scope, action: str, principal: Principal | None, document: Any, status: int, answer: bytes
) -> AuditRecord:
    acting = scope.get(ACTING, principal)
    named = next((str(_cut(value)) for value in (scope.get("path_params") or {}).values()), None)
    return AuditRecord(
        at=_now(),
        key_id=None if principal is None else principal.key_id,
        owner=None if principal is None else principal.owner,
        address=_address(scope),
        action=action,
        method=scope["method"],
        path=_cut(scope["path"]),
        object_id=named or (made_id(answer) if status < 300 else None),
        summary=summary(document),
        status=status,
        object_owner=None if acting is None or acting == principal else acting.owner,
    )


def _now() -> float:
    return round(clock.now(), 3)  # in milliseconds, which `since` and `until` name exactly


def _address(scope: Scope) -> str | None:
    client = scope.get("client")
    return None if client is None else str(client[0])


def made_id(answer: bytes) -> str | None:
    """Return the id of the object that was made, from the answer."""
    if len(answer) > MAX_ID_BYTES:
        return None
    try:
        document = orjson.loads(answer)
    except orjson.JSONDecodeError:
        return None
    values = document.values() if isinstance(document, dict) else ()
    return next((v for v in values if isinstance(v, str) and _OWN_ID.fullmatch(v)), None)


def summary(document: Any) -> dict[str, Any]:
    """Return what a request asked for, without its secrets: the fields of `SHOWN`, and the names of the others."""
    if not isinstance(document, Mapping):
        return {}
    given = {name: value for name, value in document.items() if value is not None}
    if isinstance(record := given.get("record"), Mapping):
        given |= {f"record.{name}": value for name, value in record.items()}
    shown = {name: _cut(value) for name, value in given.items() if name in SHOWN and _is_plain(value)}
    others = sorted(name for name in given if name not in shown and _FIELD_NAME.fullmatch(name))
    return {**shown, "also": others[:MAX_FIELDS]} if others else shown


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float | bool)


def _cut(value: Any) -> Any:
    return value[:MAX_VALUE] if isinstance(value, str) else value
