"""Docker-image batch jobs and their bundles in the store."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, select
from sqlalchemy import delete as delete_from
from sqlalchemy import insert as insert_into
from sqlalchemy import update as update_of

from openlaunch.store.endpoints import spec_document
from openlaunch.store.records import ImageJobBundleRecord, ImageJobRecord, JobEnd
from openlaunch.store.rows import fields_of, is_of, values_of
from openlaunch.store.tables import docker_image_bundles as bundles
from openlaunch.store.tables import docker_image_jobs as jobs
from openlaunch.wire.batch_jobs import BatchJobStatus
from openlaunch.wire.endpoint_settings import EndpointSpec

_BUNDLE_FIELDS = fields_of(bundles)
_JOB_FIELDS = fields_of(jobs)
_UNFINISHED = [BatchJobStatus.PENDING.value, BatchJobStatus.RUNNING.value]
_MAX_LISTED = 1000


def insert_bundle(conn: Connection, bundle: ImageJobBundleRecord) -> None:
    """Store a new bundle; the newest of its name is "latest"."""
    conn.execute(insert_into(bundles).values(values_of(bundle)))


def get_bundle(conn: Connection, bundle_id: str, owner: str | None = None) -> ImageJobBundleRecord | None:
    """Find the bundle; with an `owner`, only if it is theirs."""
    conditions = [bundles.c.id == bundle_id]
    return _bundle(conn, *conditions if owner is None else (*conditions, bundles.c.owner == owner))


def latest_bundle(conn: Connection, owner: str, name: str) -> ImageJobBundleRecord | None:
    """Find the owner's newest bundle of this name."""
    return _bundle(conn, bundles.c.owner == owner, bundles.c.name == name)


def bundle_ids_of_owner(
    conn: Connection, owner: str, name: str | None = None, newest_first: bool = True
) -> list[str]:
    """List the ids of the owner's last bundles, or of those of one name."""
    conditions = [is_of(bundles.c.owner, owner)]
    if name is not None:
        conditions.append(bundles.c.name == name)
    query = select(bundles.c.id).where(*conditions).order_by(bundles.c.seq.desc()).limit(_MAX_LISTED)
    found = list(conn.scalars(query))
    return found if newest_first else found[::-1]


def get_bundles(conn: Connection, ids: Sequence[str]) -> list[ImageJobBundleRecord]:
    """List the bundles of these ids, in their order, without those that are gone."""
    return [bundle for each in ids if (bundle := get_bundle(conn, each)) is not None]


def _bundle(conn: Connection, *conditions: ColumnElement[bool]) -> ImageJobBundleRecord | None:
    query = select(*_BUNDLE_FIELDS).where(*conditions).order_by(bundles.c.seq.desc()).limit(1)
    row = conn.execute(query).mappings().first()
    return None if row is None else ImageJobBundleRecord(**row)


def insert(conn: Connection, job: ImageJobRecord) -> None:
    """Store a new job."""
    changed = {"status": job.status.value, "spec": spec_document(job.spec)}
    conn.execute(insert_into(jobs).values(values_of(job) | changed))


def get(conn: Connection, owner: str, job_id: str) -> ImageJobRecord | None:
    """Find the owner's job of this id."""
    found = _jobs(conn, jobs.c.id == job_id, jobs.c.owner == owner)
    return found[0] if found else None


def ids_of_owner(conn: Connection, owner: str, trigger_id: str | None = None) -> list[str]:
    """List the ids of the owner's last jobs, or of those of one trigger, newest first."""
    conditions = [is_of(jobs.c.owner, owner)]
    if trigger_id is not None:
        conditions.append(jobs.c.trigger_id == trigger_id)
    query = select(jobs.c.id).where(*conditions).order_by(jobs.c.seq.desc()).limit(_MAX_LISTED)
    return list(conn.scalars(query))


def get_many(conn: Connection, ids: Sequence[str]) -> list[ImageJobRecord]:
    """List the jobs of these ids, newest first, without those that are gone."""
    return _jobs(conn, jobs.c.id.in_(ids))


def list_unfinished(conn: Connection) -> list[ImageJobRecord]:
    """List every owner's jobs that run or are to run, oldest first."""
    query = select(*_JOB_FIELDS).where(jobs.c.status.in_(_UNFINISHED)).order_by(jobs.c.seq)
    return [_job(row) for row in conn.execute(query).mappings()]


def has_any(conn: Connection) -> bool:
    """Return whether there is any job."""
    return conn.scalar(select(jobs.c.id).limit(1)) is not None


def has_due(conn: Connection, trigger_id: str, due_at: float) -> bool:
    """Return whether the trigger has had a job for this time."""
    query = select(jobs.c.id).where(jobs.c.trigger_id == trigger_id, jobs.c.due_at == due_at)
    return conn.scalar(query) is not None


def set_held(conn: Connection, job_id: str, held: str) -> bool:
    """Record what the job holds of the engine's machine; return False if the job has ended meanwhile."""
    return _change(conn, job_id, {"held": held})


def set_waiting(conn: Connection, job_id: str, reason: str) -> bool:
    """Record what a job waits for that has not started; return False if the job has ended meanwhile."""
    return _change(conn, job_id, {"status_reason": reason})


def set_running(conn: Connection, job_id: str, now: float) -> bool:
    """Record that the job's container was started; return False if the job has ended meanwhile."""
    running = {"status": BatchJobStatus.RUNNING.value, "started_at": now, "status_reason": None}
    return _change(conn, job_id, running)


def end(conn: Connection, job_id: str, end: JobEnd, now: float) -> bool:
    """Record a job's end; return False, and change nothing, where it had ended already."""
    ended = {"status": end.status.value, "status_reason": end.reason, "finished_at": now}
    return _change(conn, job_id, ended | {"held": ""})


def _change(conn: Connection, job_id: str, values: dict[str, Any]) -> bool:
    unfinished = (jobs.c.id == job_id) & jobs.c.status.in_(_UNFINISHED)
    return conn.execute(update_of(jobs).where(unfinished).values(values)).rowcount == 1


def purge(conn: Connection, before: float, limit: int = 100) -> list[str]:
    """Delete jobs that ended before then, and return their ids."""
    query = select(jobs.c.id).where(jobs.c.finished_at < before).order_by(jobs.c.seq).limit(limit)
    old = list(conn.scalars(query))
    conn.execute(delete_from(jobs).where(jobs.c.id.in_(old)))
    return old


def _jobs(conn: Connection, *conditions: ColumnElement[bool]) -> list[ImageJobRecord]:
    query = select(*_JOB_FIELDS).where(*conditions).order_by(jobs.c.seq.desc())
    return [_job(row) for row in conn.execute(query).mappings()]


def _job(row: Any) -> ImageJobRecord:
    return ImageJobRecord(
        **{**row, "status": BatchJobStatus(row["status"]), "spec": EndpointSpec.model_validate(row["spec"])}
    )
