"""Batch jobs in the store."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, exists, select
from sqlalchemy import delete as delete_from
from sqlalchemy import insert as insert_into
from sqlalchemy import update as update_of

from openlaunch.store.endpoints import spec_document
from openlaunch.store.records import BatchJobRecord, JobEnd
from openlaunch.store.rows import fields_of, is_of, values_of
from openlaunch.store.tables import batch_jobs
from openlaunch.wire.batch_jobs import BatchJobStatus, SerializationFormat
from openlaunch.wire.endpoint_settings import EndpointSpec

_FIELDS = fields_of(batch_jobs)
_UNFINISHED = [BatchJobStatus.PENDING.value, BatchJobStatus.RUNNING.value]
_MAX_LISTED = 1000


def insert(conn: Connection, job: BatchJobRecord) -> None:
    """Store a new job."""
    changed = {
        "status": job.status.value,
        "serialization_format": job.serialization_format.value,
        "spec": spec_document(job.spec),
    }
    conn.execute(insert_into(batch_jobs).values(values_of(job) | changed))


def get(conn: Connection, owner: str, job_id: str) -> BatchJobRecord | None:
    """Find the owner's job of this id."""
    found = _find(conn, batch_jobs.c.id == job_id, batch_jobs.c.owner == owner)
    return found[0] if found else None


def ids_of_owner(conn: Connection, owner: str) -> list[str]:
    """List the ids of the owner's last jobs, newest first."""
    query = select(batch_jobs.c.id).where(is_of(batch_jobs.c.owner, owner))
    return list(conn.scalars(query.order_by(batch_jobs.c.seq.desc()).limit(_MAX_LISTED)))


def get_many(conn: Connection, ids: Sequence[str]) -> list[BatchJobRecord]:
    """List the jobs of these ids, newest first, without those that are gone."""
    return _find(conn, batch_jobs.c.id.in_(ids))


def list_uncleared(conn: Connection) -> list[BatchJobRecord]:
    """List every owner's jobs that run, are to run, or have left something behind; oldest first."""
    query = select(*_FIELDS).where(~batch_jobs.c.cleared).order_by(batch_jobs.c.seq)
    return [_record(row) for row in conn.execute(query).mappings()]


def counted(conn: Connection, job_id: str, total: int) -> bool:
    """Record the number of the job's inputs and that it is RUNNING; return False if it has ended meanwhile."""
    return _change(conn, job_id, {"total": total, "status": BatchJobStatus.RUNNING.value})


def end(conn: Connection, job_id: str, end: JobEnd, now: float) -> bool:
    """Record a job's end; return False, and change nothing, where it had ended already."""
    values = {
        "status": end.status.value,
        "status_reason": end.reason,
        "completed": end.completed,
        "result_key": end.result_key,
        "finished_at": now,
    }
    return _change(conn, job_id, values)


def _change(conn: Connection, job_id: str, values: dict[str, Any]) -> bool:
    unfinished = (batch_jobs.c.id == job_id) & batch_jobs.c.status.in_(_UNFINISHED)
    return conn.execute(update_of(batch_jobs).where(unfinished).values(values)).rowcount == 1


def set_result(conn: Connection, job_id: str, result_key: str, completed: int) -> None:
    """Record where the results of a job are that ended before all was done."""
    values = {"result_key": result_key, "completed": completed}
    conn.execute(update_of(batch_jobs).where(batch_jobs.c.id == job_id).values(values))


def set_cleared(conn: Connection, job_id: str) -> None:
    """Record that nothing is left of the job but its results."""
    conn.execute(update_of(batch_jobs).where(batch_jobs.c.id == job_id).values(cleared=True))


def purge(conn: Connection, before: float, limit: int = 100) -> list[str]:
    """Delete jobs that ended before then, and return the keys of the artifacts that no job names now."""
    old = _find(conn, batch_jobs.c.cleared, batch_jobs.c.finished_at < before, limit=limit)
    conn.execute(delete_from(batch_jobs).where(batch_jobs.c.id.in_([job.id for job in old])))
    inputs = {job.input_key for job in old}
    shared = set(conn.scalars(select(batch_jobs.c.input_key).where(batch_jobs.c.input_key.in_(inputs))))
    return [*(inputs - shared), *(job.result_key for job in old if job.result_key is not None)]


def runs(job_id: ColumnElement[str]) -> ColumnElement[bool]:
    """Make the condition that this id is of a job that is not cleared, so that its tasks are still needed."""
    return exists().where(batch_jobs.c.id == job_id, ~batch_jobs.c.cleared)


def _find(
    conn: Connection, *conditions: ColumnElement[bool], limit: int = _MAX_LISTED
) -> list[BatchJobRecord]:
    query = select(*_FIELDS).where(*conditions).order_by(batch_jobs.c.seq.desc()).limit(limit)
    return [_record(row) for row in conn.execute(query).mappings()]


def _record(row: Any) -> BatchJobRecord:
    return BatchJobRecord(
        **{
            **row,
            "status": BatchJobStatus(row["status"]),
            "serialization_format": SerializationFormat(row["serialization_format"]),
            "spec": EndpointSpec.model_validate(row["spec"]),
        }
    )
