"""Quotas of owners in the store, and what each owner's endpoints and jobs may take."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, func, select

from openlaunch.store.tables import api_keys, batch_jobs, docker_image_jobs, endpoints, files, quotas
from openlaunch.wire.batch_jobs import BatchJobStatus
from openlaunch.wire.endpoint_settings import EndpointSpec
from openlaunch.wire.endpoints import EndpointStatus

_UNFINISHED = [BatchJobStatus.PENDING.value, BatchJobStatus.RUNNING.value]


def list_all(conn: Connection) -> dict[str, dict[str, Any]]:
    """Return the limits that admins have set, by owner."""
    return {row.owner: row.limits for row in conn.execute(select(quotas))}


def change(conn: Connection, owner: str, limits: dict[str, Any]) -> None:
    """Set the owner's limits; those that are not named stay as they are."""
    before = conn.scalar(select(quotas.c.limits).where(quotas.c.owner == owner))
    if before is None:
        conn.execute(quotas.insert().values(owner=owner, limits=limits))
    else:
        conn.execute(quotas.update().where(quotas.c.owner == owner).values(limits=before | limits))


def hold(conn: Connection, owner: str) -> None:
    """Have other servers wait with what counts for the owner until the transaction ends, by the owner's first key."""
    key = select(api_keys.c.id).where(api_keys.c.owner == owner).order_by(api_keys.c.id).limit(1)
    conn.execute(key.with_for_update())


def reserved(conn: Connection, owner: str) -> Counter[str]:
    """Add up what the owner's endpoints, and jobs that have not ended, take with all workers that they may have."""
    total: Counter[str] = Counter()
    for spec in _specs(conn, owner):
        workers = spec.max_workers
        total["workers"] += workers
        total["gpus"] += round(workers * spec.gpus, 2)  # type: ignore[assignment]
        total["memory"] += workers * spec.memory_bytes
        total["cpus"] += workers * spec.cores  # type: ignore[assignment]
    kept = endpoints.c.status != EndpointStatus.DELETE_IN_PROGRESS.value
    total["endpoints"] = conn.scalar(select(func.count()).where(endpoints.c.owner == owner, kept)) or 0
    return total


def _specs(conn: Connection, owner: str) -> Iterator[EndpointSpec]:
    kept = endpoints.c.status != EndpointStatus.DELETE_IN_PROGRESS.value
    queries = [select(endpoints.c.spec).where(endpoints.c.owner == owner, kept)]
    queries += [
        select(jobs.c.spec).where(jobs.c.owner == owner, jobs.c.status.in_(_UNFINISHED))
        for jobs in (batch_jobs, docker_image_jobs)
    ]
    for query in queries:
        yield from map(EndpointSpec.model_validate, conn.scalars(query))


def bytes_of_files(conn: Connection, owner: str) -> int:
    """Return the size of all files of the owner."""
    return int(conn.scalar(select(func.sum(files.c.size)).where(files.c.owner == owner)) or 0)
