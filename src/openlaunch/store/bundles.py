"""Model bundles in the store."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Select, func, or_, select, union
from sqlalchemy import delete as delete_from
from sqlalchemy import insert as insert_into

from openlaunch.errors import Conflict
from openlaunch.store.records import BundleRecord
from openlaunch.store.rows import fields_of, is_of, values_of
from openlaunch.store.tables import batch_jobs, bundles, endpoints
from openlaunch.wire.bundles import FLAVOR

_FIELDS = fields_of(bundles)

MAX_DELETED = 1000
"""Old bundles that are deleted in one transaction."""

MAX_NAMED = 5
"""Users of a bundle that the refusal to delete it names."""


def insert(conn: Connection, bundle: BundleRecord) -> None:
    """Store a new bundle, with the next version of its name; the newest of a name is "latest"."""
    same = (bundles.c.owner == bundle.owner, bundles.c.name == bundle.name)
    last = conn.scalar(select(func.max(bundles.c.version)).where(*same)) or 0
    conn.execute(insert_into(bundles).values(_row(bundle) | {"version": last + 1}))


def get(conn: Connection, bundle_id: str, owner: str | None = None) -> BundleRecord | None:
    """Find the bundle; with an `owner`, only if it is theirs."""
    query = select(*_FIELDS).where(bundles.c.id == bundle_id)
    return _first(conn, query if owner is None else query.where(bundles.c.owner == owner))


def latest(conn: Connection, owner: str, name: str) -> BundleRecord | None:
    """Find the owner's newest bundle of this name."""
    query = select(*_FIELDS).where(bundles.c.owner == owner, bundles.c.name == name)
    return _first(conn, query.order_by(bundles.c.seq.desc()).limit(1))


def delete(conn: Connection, bundle_id: str) -> None:
    """Delete the bundle; raise Conflict if an endpoint or a batch job names it."""
    if users := _users(conn, bundle_id):
        more = f" and {len(users) - MAX_NAMED} more" if len(users) > MAX_NAMED else ""
        raise Conflict(
            f"the bundle {bundle_id!r} is used by {', '.join(users[:MAX_NAMED])}{more}: delete these endpoints, or "
            "have them serve another bundle; a job is kept for a limited time after its end",
            code="bundle_in_use",
        )
    conn.execute(delete_from(bundles).where(bundles.c.id == bundle_id))


def delete_old(conn: Connection, kept: int, before: float) -> int:
    """Delete bundles made before that time that nothing names, and that have `kept` newer ones of their name.

    Return their number, which is bounded: call it again for the rest.
    """
    newer_first = func.row_number().over(
        partition_by=(bundles.c.owner, bundles.c.name), order_by=bundles.c.seq.desc()
    )
    ranked = select(bundles.c.id, bundles.c.created_at, newer_first.label("place")).subquery()
    used = union(
        *(select(name).where(name.is_not(None)) for name in _OF_ENDPOINTS), select(batch_jobs.c.bundle_id)
    )
    old = select(ranked.c.id).where(
        ranked.c.place > kept, ranked.c.created_at < before, ranked.c.id.not_in(used)
    )
    return conn.execute(delete_from(bundles).where(bundles.c.id.in_(old.limit(MAX_DELETED)))).rowcount


_OF_ENDPOINTS = (
    endpoints.c.bundle_id,
    endpoints.c.ready_bundle_id,
    endpoints.c.canary["bundle_id"].as_string(),
)
"""The bundles that an endpoint names: what it is to serve, what it falls back on, and its canary's."""


def _users(conn: Connection, bundle_id: str) -> list[str]:
    of_endpoints = select(endpoints.c.name).where(or_(*(name == bundle_id for name in _OF_ENDPOINTS)))
    of_jobs = select(batch_jobs.c.id).where(batch_jobs.c.bundle_id == bundle_id)
    found = [f"the endpoint {name}" for name in conn.scalars(of_endpoints.order_by(endpoints.c.name))]
    return found + [f"the batch job {job_id}" for job_id in conn.scalars(of_jobs.order_by(batch_jobs.c.id))]


def ids_of_owner(
    conn: Connection, owner: str, name: str | None = None, newest_first: bool = True
) -> list[str]:
    """List the ids of the owner's bundles, or of those of one name."""
    query = select(bundles.c.id).where(is_of(bundles.c.owner, owner))
    if name is not None:
        query = query.where(bundles.c.name == name)
    return list(conn.scalars(query.order_by(bundles.c.seq.desc() if newest_first else bundles.c.seq)))


def get_many(conn: Connection, ids: Sequence[str]) -> list[BundleRecord]:
    """List the bundles of these ids, in their order, without those that are gone."""
    return [record for bundle_id in ids if (record := get(conn, bundle_id)) is not None]


def names(conn: Connection, ids: Iterable[str]) -> dict[str, str]:
    """Return the names of those of the bundles that exist, by id."""
    query = select(bundles.c.id, bundles.c.name).where(bundles.c.id.in_(list(ids)))
    return {row.id: row.name for row in conn.execute(query)}


def _first(conn: Connection, query: Select[Any]) -> BundleRecord | None:
    row = conn.execute(query).mappings().first()
    return None if row is None else _record(row)


def _row(bundle: BundleRecord) -> dict[str, Any]:
    return values_of(bundle) | {"flavor": bundle.flavor.model_dump(mode="json")}


def _record(row: Any) -> BundleRecord:
    return BundleRecord(**{**row, "flavor": FLAVOR.validate_python(row["flavor"])})
