"""Model endpoints in the store."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, Insert, Select, Update, select
from sqlalchemy import delete as delete_from
from sqlalchemy import insert as insert_into
from sqlalchemy import update as update_of
from sqlalchemy.exc import IntegrityError

from openlaunch.errors import Conflict
from openlaunch.store.records import CanaryRecord, EndpointRecord
from openlaunch.store.rows import fields_of, is_of, values_of
from openlaunch.store.tables import endpoints
from openlaunch.wire.endpoint_settings import EndpointSpec
from openlaunch.wire.endpoints import CanaryStatus, EndpointOrderBy, EndpointStatus, EndpointType

_FIELDS = fields_of(endpoints)
_ORDER = {
    EndpointOrderBy.NEWEST: endpoints.c.seq.desc(),
    EndpointOrderBy.OLDEST: endpoints.c.seq,
    EndpointOrderBy.ALPHABETICAL: endpoints.c.name,
}


def insert(conn: Connection, endpoint: EndpointRecord) -> None:
    """Store a new endpoint; raise Conflict if the owner has one of this name."""
    _write(conn, endpoint, insert_into(endpoints))


def update(conn: Connection, endpoint: EndpointRecord) -> None:
    """Store every field of a changed endpoint; raise Conflict if a new owner has one of this name."""
    _write(conn, endpoint, update_of(endpoints).where(endpoints.c.id == endpoint.id))


def _write(conn: Connection, endpoint: EndpointRecord, statement: Insert | Update) -> None:
    try:
        conn.execute(statement.values(_row(endpoint)))
    except IntegrityError as error:
        raise Conflict(
            f"an endpoint named {endpoint.name!r} exists: edit it, or delete it first", code="endpoint_exists"
        ) from error


def get(conn: Connection, endpoint_id: str, owner: str | None = None) -> EndpointRecord | None:
    """Find the endpoint; with an `owner`, only if it is theirs."""
    query = select(*_FIELDS).where(endpoints.c.id == endpoint_id)
    return _first(conn, query if owner is None else query.where(endpoints.c.owner == owner))


def get_by_name(conn: Connection, owner: str, name: str) -> EndpointRecord | None:
    """Find the owner's endpoint of this name."""
    return _first(conn, select(*_FIELDS).where(endpoints.c.owner == owner, endpoints.c.name == name))


def ids_of_owner(
    conn: Connection, owner: str, name: str | None = None, order_by: EndpointOrderBy = EndpointOrderBy.NEWEST
) -> list[str]:
    """List the ids of the owner's endpoints, or of the one of this name, without those that batch jobs run on."""
    query = select(endpoints.c.id).where(_mine(owner)).order_by(_ORDER[order_by])
    if name is not None:
        query = query.where(endpoints.c.name == name)
    return list(conn.scalars(query))


def get_many(conn: Connection, ids: Iterable[str]) -> Iterator[EndpointRecord]:
    """Give the endpoints of these ids, in their order, without those that are gone, each when it is asked for."""
    return (endpoint for each in ids if (endpoint := get(conn, each)) is not None)


def labelled(conn: Connection, owner: str, labels: Mapping[str, str]) -> list[str]:
    """List the ids of the owner's endpoints that have all of these labels."""
    query = select(endpoints.c.id, endpoints.c.spec["labels"]).where(_mine(owner))
    return [each for each, given in conn.execute(query) if labels.items() <= (given or {}).items()]


def with_secret(conn: Connection, owner: str, secret: str) -> list[EndpointRecord]:
    """List the owner's endpoints that have this secret, without those that are being deleted."""
    query = select(endpoints.c.id, endpoints.c.spec["secrets"]).where(
        _mine(owner), endpoints.c.status != EndpointStatus.DELETE_IN_PROGRESS.value
    )
    return list(get_many(conn, [each for each, given in conn.execute(query) if secret in (given or ())]))


def _mine(owner: str) -> ColumnElement[bool]:
    return is_of(endpoints.c.owner, owner) & (endpoints.c.owner != endpoints.c.id)


def names(conn: Connection, ids: Collection[str]) -> dict[str, str]:
    """Return the names of those of the endpoints that exist, by id."""
    query = select(endpoints.c.id, endpoints.c.name).where(endpoints.c.id.in_(list(ids)))
    return {row.id: row.name for row in conn.execute(query)}


def list_all(conn: Connection) -> list[EndpointRecord]:
    """List every owner's endpoints, oldest first."""
    return [_record(row) for row in conn.execute(select(*_FIELDS).order_by(endpoints.c.seq)).mappings()]


def set_status(
    conn: Connection,
    endpoint_id: str,
    generation: int,
    status: EndpointStatus,
    reason: str | None,
    now: float,
    ready_generation: int | None = None,
    ready_bundle_id: str | None = None,
    rejected_generation: int | None = None,
) -> bool:
    """Record where a generation's roll-out stands.

    Return False, and change nothing, if the row is of a newer generation, being deleted, or gone.
    """
    values: dict[str, Any] = {"status": status.value, "status_reason": reason, "updated_at": now}
    if ready_generation is not None:
        values |= {"ready_generation": ready_generation, "ready_bundle_id": ready_bundle_id}
    if ready_generation == generation:
        values["ready_spec"] = endpoints.c.spec
    if rejected_generation is not None:
        values["rejected_generation"] = rejected_generation
    current = (endpoints.c.id == endpoint_id) & (endpoints.c.generation <= generation)
    kept = endpoints.c.status != EndpointStatus.DELETE_IN_PROGRESS.value
    return conn.execute(update_of(endpoints).where(current, kept).values(values)).rowcount == 1


def set_canary(
    conn: Connection, endpoint_id: str, generation: int, status: CanaryStatus, reason: str | None
) -> bool:
    """Record the state of the canary of this `generation`; return False if it has ended, or the endpoint is gone."""
    endpoint = get(conn, endpoint_id)
    canary = endpoint.live_canary if endpoint is not None else None
    if endpoint is None or canary is None or canary.generation != generation:
        return False
    update(conn, replace(endpoint, canary=replace(canary, status=status, reason=reason)))
    return True


def delete(conn: Connection, endpoint_id: str) -> None:
    """Delete the endpoint, if it is there."""
    conn.execute(delete_from(endpoints).where(endpoints.c.id == endpoint_id))


def spec_document(spec: EndpointSpec) -> dict[str, Any]:
    """Return the spec as JSON, without what is not set."""
    return spec.model_dump(mode="json", exclude_none=True)


def _row(endpoint: EndpointRecord) -> dict[str, Any]:
    return values_of(endpoint) | {
        "endpoint_type": endpoint.endpoint_type.value,
        "status": endpoint.status.value,
        "spec": spec_document(endpoint.spec),
        "canary": endpoint.canary and asdict(endpoint.canary),
        "ready_spec": endpoint.ready_spec and spec_document(endpoint.ready_spec),
    }


def _record(row: Any) -> EndpointRecord:
    return EndpointRecord(
        **{
            **row,
            "endpoint_type": EndpointType(row["endpoint_type"]),
            "status": EndpointStatus(row["status"]),
            "spec": EndpointSpec.model_validate(row["spec"]),
            "canary": _canary(row["canary"]),
            "ready_spec": row["ready_spec"] and EndpointSpec.model_validate(row["ready_spec"]),
        }
    )


def _canary(document: dict[str, Any] | None) -> CanaryRecord | None:
    if document is None:
        return None
    return CanaryRecord(**document | {"status": CanaryStatus(document["status"])})


def _first(conn: Connection, query: Select[Any]) -> EndpointRecord | None:
    row = conn.execute(query).mappings().first()
    return None if row is None else _record(row)
