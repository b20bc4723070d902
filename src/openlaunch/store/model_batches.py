"""Batches of requests to models in the store."""

from typing import Any

from sqlalchemy import ColumnElement, Connection, exists, select
from sqlalchemy import delete as delete_from
from sqlalchemy import insert as insert_into
from sqlalchemy import update as update_of

from openlaunch.store import files
from openlaunch.store.records import FileRecord, JobEnd, ModelBatchRecord
from openlaunch.store.rows import fields_of, is_of, values_of
from openlaunch.store.tables import model_batches as batches
from openlaunch.wire.batch_jobs import BatchJobStatus

_FIELDS = fields_of(batches)
_UNFINISHED = [BatchJobStatus.PENDING.value, BatchJobStatus.RUNNING.value]


def insert(conn: Connection, batch: ModelBatchRecord) -> None:
    """Store a new batch."""
    conn.execute(insert_into(batches).values(values_of(batch) | {"status": batch.status.value}))


def get(conn: Connection, owner: str, batch_id: str) -> ModelBatchRecord | None:
    """Find the owner's batch of this id."""
    found = _find(conn, batches.c.id == batch_id, batches.c.owner == owner, limit=1)
    return found[0] if found else None


def list_page(conn: Connection, owner: str, after: str | None, limit: int) -> list[ModelBatchRecord]:
    """List up to `limit` of the owner's batches, newest first, behind the one with the id `after`."""
    place = select(batches.c.seq).where(batches.c.id == after).scalar_subquery()
    behind = () if after is None else (batches.c.seq < place,)
    return _find(conn, is_of(batches.c.owner, owner), *behind, limit=limit)


def list_uncleared(conn: Connection) -> list[ModelBatchRecord]:
    """List every owner's batches that run, are to run, or have left something behind; oldest first."""
    query = select(*_FIELDS).where(~batches.c.cleared).order_by(batches.c.seq)
    return [_record(row) for row in conn.execute(query).mappings()]


def counted(conn: Connection, batch_id: str, total: int, now: float) -> bool:
    """Record the number of the lines and that the batch is RUNNING; return False if it has ended meanwhile."""
    values = {"total": total, "started_at": now, "status": BatchJobStatus.RUNNING.value}
    return _change(conn, batch_id, values)


def end(conn: Connection, batch_id: str, end: JobEnd, now: float) -> bool:
    """Record a batch's end; return False, and change nothing, where it had ended already."""
    values = {"status": end.status.value, "status_reason": end.reason, "finished_at": now}
    return _change(conn, batch_id, values)


def _change(conn: Connection, batch_id: str, values: dict[str, Any]) -> bool:
    unfinished = (batches.c.id == batch_id) & batches.c.status.in_(_UNFINISHED)
    return conn.execute(update_of(batches).where(unfinished).values(values)).rowcount == 1


def set_written(
    conn: Connection,
    batch_id: str,
    output: FileRecord | None,
    errors: FileRecord | None,
    done: tuple[int, int],
    usage: dict[str, int],
) -> None:
    """Record the files of answers and of errors, how many lines are in each, and the tokens of the answers."""
    for file in filter(None, (output, errors)):
        files.insert(conn, file)
    completed, failed = done
    values = {
        "completed": completed,
        "failed": failed,
        "usage": usage,
        "output_file_id": output and output.id,
        "error_file_id": errors and errors.id,
    }
    conn.execute(update_of(batches).where(batches.c.id == batch_id).values(values))


def set_cleared(conn: Connection, batch_id: str) -> None:
    """Record that no task is left of the batch."""
    conn.execute(update_of(batches).where(batches.c.id == batch_id).values(cleared=True))


def purge(conn: Connection, before: float, limit: int = 100) -> list[str]:
    """Delete batches that ended before then; their files stay, which are their owner's."""
    old = _find(conn, batches.c.cleared, batches.c.finished_at < before, limit=limit)
    conn.execute(delete_from(batches).where(batches.c.id.in_([batch.id for batch in old])))
    return []


def runs(batch_id: ColumnElement[str]) -> ColumnElement[bool]:
    """Make the condition that this id is of a batch that is not cleared, so that its tasks are still needed."""
    return exists().where(batches.c.id == batch_id, ~batches.c.cleared)


def _find(conn: Connection, *conditions: ColumnElement[bool], limit: int) -> list[ModelBatchRecord]:
    query = select(*_FIELDS).where(*conditions).order_by(batches.c.seq.desc()).limit(limit)
    return [_record(row) for row in conn.execute(query).mappings()]


def _record(row: Any) -> ModelBatchRecord:
    return ModelBatchRecord(**{**row, "status": BatchJobStatus(row["status"])})
