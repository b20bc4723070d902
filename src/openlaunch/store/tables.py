"""The tables, one definition for every database. Times are seconds since the epoch.

A change here needs a migration beside it, in `migrations/versions/`; `test_store_upgrades.py` compares the two.
"""

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    UniqueConstraint,
    text,
)
from sqlalchemy import Text as AnyText
from sqlalchemy.sql.elements import TextClause
from sqlalchemy.types import TypeEngine

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


# Text is ordered by its bytes on every database, whatever the language that a PostgreSQL database was made for.
Text = AnyText().with_variant(AnyText(collation="C"), "postgresql")

# SQLite numbers rows automatically only in a column whose type is spelled INTEGER.
_SEQUENCE = BigInteger().with_variant(Integer, "sqlite")


def _numbered(*unique: str) -> list[Column[Any]]:
    """Make the primary key `seq`, which the database counts up, and text columns whose values are unique."""
    keys: list[Column[Any]] = [Column(name, Text, nullable=False, unique=True) for name in unique]
    return [Column("seq", _SEQUENCE, primary_key=True), *keys]


def _required(kind: type[TypeEngine[Any]] | TypeEngine[Any], *names: str) -> list[Column[Any]]:
    return [Column(name, kind, nullable=False) for name in names]


def _optional(kind: type[TypeEngine[Any]] | TypeEngine[Any], *names: str) -> list[Column[Any]]:
    return [Column(name, kind) for name in names]


def _partial(name: str, *columns: Column[object] | TextClause, where: str, unique: bool = False) -> Index:
    """Make an index of only the rows that match `where`, so that it stays small."""
    # No `postgresql_where` beside it: to look at that, each server would import PostgreSQL's dialect at its start.
    return Index(name, *columns, unique=unique, sqlite_where=text(where))


api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),
    *_required(Text, "owner", "role", "prefix"),
    Column("digest", LargeBinary, nullable=False, unique=True),
    *_required(Double, "created_at"),
    *_optional(Double, "revoked_at", "expires_at", "requests_per_second"),
    *_optional(Integer, "burst", "requests_per_day"),
    *_optional(BigInteger, "tokens_per_minute", "tokens_per_day"),
)

# How many requests keys with a quota have made on the last UTC day, counted from the epoch, on which they made any.
key_usage = Table(
    "key_usage",
    metadata,
    Column("key_id", Text, ForeignKey("api_keys.id"), primary_key=True),
    *_required(Integer, "day"),
    *_required(BigInteger, "requests"),
)

# How many tokens of models keys have used on a UTC day, for the owner that they acted for.
token_usage = Table(
    "token_usage",
    metadata,
    *_required(Text, "key_id", "owner"),
    *_required(Integer, "day"),
    *_required(BigInteger, "tokens"),
    PrimaryKeyConstraint("key_id", "owner", "day"),
    Index("ix_token_usage_day", "day"),
)

# Who changed what. It outlives what it is about, so it has no foreign key.
audit_log = Table(
    "audit_log",
    metadata,
    *_numbered(),
    *_required(Double, "at"),
    *_optional(Text, "key_id", "owner", "address"),
    *_required(Text, "action", "method", "path"),
    *_optional(Text, "object_id"),
    *_required(JSON, "summary"),
    *_required(SmallInteger, "status"),
    *_required(Integer, "times"),
    *_optional(Text, "object_owner"),
    Index("ix_audit_log_at", "at"),
    Index("ix_audit_log_changes", "owner", "seq", sqlite_where=text("status < 400")),
    Index("ix_audit_log_refusals", "key_id", "seq", sqlite_where=text("status >= 400")),
)

# What admins have set for an owner: numbers, or "unlimited"; what is not there is the server's default.
quotas = Table(
    "quotas",
    metadata,
    Column("owner", Text, primary_key=True),
    *_required(JSON, "limits"),
)

# What an owner's workers need to know and nobody else, encrypted.
secrets = Table(
    "secrets",
    metadata,
    *_required(Text, "owner", "name"),
    *_required(LargeBinary, "sealed"),
    *_required(Double, "updated_at"),
    PrimaryKeyConstraint("owner", "name"),
)

bundles = Table(
    "bundles",
    metadata,
    *_numbered("id"),
    *_required(Text, "owner", "name"),
    *_required(JSON, "flavor", "metadata"),
    *_optional(Text, "schema_location"),
    *_required(JSON, "schemas"),
    *_required(Double, "created_at"),
    *_required(Integer, "version"),
    Index("ix_bundles_owner_name_seq", "owner", "name", "seq"),
)

endpoints = Table(
    "endpoints",
    metadata,
    *_numbered("id"),
    *_required(Text, "owner", "name", "endpoint_type"),
    Column("bundle_id", Text, ForeignKey("bundles.id"), nullable=False),
    *_required(Integer, "generation"),
    *_required(JSON, "spec"),
    *_required(Text, "status"),
    *_optional(Text, "status_reason"),
    *_required(Double, "created_at", "updated_at"),
    *_optional(Integer, "ready_generation"),
    Column("ready_bundle_id", Text, ForeignKey("bundles.id")),
    *_optional(Integer, "rejected_generation"),
    Column("canary", JSON(none_as_null=True)),
    Column("ready_spec", JSON(none_as_null=True)),
    Index("uq_endpoints_owner_name", "owner", "name", unique=True),
)

# Tasks outlive their endpoint, so `endpoint_id` is not a foreign key. The two columns of bytes come last: what
# SQLite reads of a row to find, claim and list tasks lies before them.
tasks = Table(
    "tasks",
    metadata,
    *_numbered("id"),
    *_required(Text, "endpoint_id", "owner", "status"),
    *_required(Integer, "priority"),
    *_required(Double, "created_at"),
    *_optional(Double, "expires_at", "started_at", "finished_at"),
    *_required(SmallInteger, "attempts", "max_attempts"),
    Column("recoveries", SmallInteger, nullable=False, server_default="0"),
    *_required(Boolean, "return_pickled"),
    *_optional(Double, "timeout_seconds"),
    *_optional(Text, "lease_owner"),
    *_optional(Double, "lease_until"),
    *_optional(SmallInteger, "status_code"),
    *_optional(Text, "reason", "idempotency_key"),
    *_optional(LargeBinary, "idempotency_digest"),
    *_optional(Text, "payload_key", "result_key"),
    *_optional(LargeBinary, "payload", "result"),
)

# One index for each question that the queue asks, each no larger than the tasks it is about. The first is by
# owner, so that claims step from one owner to the next; `expires_at` and `status` are in it so that they pass over
# expired tasks, and counts are made, without reading rows.
_partial(
    "ix_tasks_claim",
    tasks.c.endpoint_id,
    tasks.c.owner,
    text("priority DESC"),
    tasks.c.seq,
    tasks.c.expires_at,
    tasks.c.status,
    where="status = 'PENDING'",
)
_partial("ix_tasks_expiry", tasks.c.expires_at, where="status = 'PENDING' AND expires_at IS NOT NULL")
_partial("ix_tasks_leases", tasks.c.lease_owner, where="status = 'STARTED'")
_partial("ix_tasks_finished", tasks.c.finished_at, where="finished_at IS NOT NULL")
_partial(
    "uq_tasks_idempotency",
    tasks.c.owner,
    tasks.c.idempotency_key,
    where="idempotency_key IS NOT NULL",
    unique=True,
)
Index("ix_tasks_owner", tasks.c.owner, tasks.c.seq)
Index("ix_tasks_endpoint", tasks.c.endpoint_id, tasks.c.owner, tasks.c.seq)
_partial(
    "ix_tasks_unsuccessful", tasks.c.owner, tasks.c.seq, where="status = 'FAILURE' OR status = 'CANCELLED'"
)

# What a sync request with an Idempotency-Key was answered with: the JSON body, or the artifact that holds it.
answers = Table(
    "answers",
    metadata,
    *_required(Text, "owner", "idempotency_key"),
    *_required(LargeBinary, "digest"),
    *_required(Double, "expires_at"),
    *_optional(Text, "body_key"),
    *_optional(LargeBinary, "body"),
    *_optional(Text, "server"),
    PrimaryKeyConstraint("owner", "idempotency_key"),
    Index("ix_answers_expires_at", "expires_at"),
)

# A callback that was asked for. It is WAITING until its task has ended, and then sent until it was taken. One with a
# body is a notification, which is of no task: its own id stands for the task's.
deliveries = Table(
    "deliveries",
    metadata,
    *_numbered("id", "task_id"),
    *_required(Text, "endpoint_id", "owner", "receiver", "url"),
    *_optional(JSON, "auth"),
    *_required(Text, "status"),
    *_required(Double, "created_at"),
    *_optional(Double, "next_at", "finished_at"),
    *_required(SmallInteger, "failures"),
    *_required(JSON, "attempts"),
    *_required(Boolean, "progress"),
    *_optional(LargeBinary, "body"),
    Index("ix_deliveries_due", "owner", "receiver", "next_at", sqlite_where=text("status = 'PENDING'")),
)

# The last progress and the last partial value of tasks that have said something before their end.
task_notes = Table(
    "task_notes",
    metadata,
    Column("task_id", Text, primary_key=True),
    *_required(BigInteger, "number"),
    *_optional(LargeBinary, "progress"),
    *_optional(BigInteger, "partial_number"),
    *_optional(LargeBinary, "partial"),
)

# Where an owner wants to have notifications of these kinds of events.
subscriptions = Table(
    "subscriptions",
    metadata,
    *_numbered("id"),
    *_required(Text, "owner", "url"),
    *_required(JSON, "events"),
    *_required(Double, "created_at"),
    Index("ix_subscriptions_owner", "owner", "seq"),
)

files = Table(
    "files",
    metadata,
    *_numbered("id"),
    *_required(Text, "owner", "filename"),
    *_required(BigInteger, "size"),
    *_required(Text, "key"),
    *_required(Double, "created_at"),
    *_optional(Text, "purpose"),
    Index("ix_files_owner", "owner", "seq"),
)

# A batch job runs on an endpoint of its own, whose id and owner are the job's id, as are its tasks' owner and
# endpoint: nobody else sees them.
batch_jobs = Table(
    "batch_jobs",
    metadata,
    *_numbered("id"),
    *_required(Text, "owner"),
    Column("bundle_id", Text, ForeignKey("bundles.id"), nullable=False),
    *_required(Text, "status"),
    *_optional(Text, "status_reason"),
    *_required(Text, "input_key", "serialization_format"),
    *_required(JSON, "labels", "spec"),
    *_required(Double, "timeout_seconds", "created_at"),
    *_optional(Double, "finished_at"),
    *_optional(Integer, "total", "completed"),
    *_optional(Text, "result_key"),
    *_required(Boolean, "cleared"),
    Index("ix_batch_jobs_owner", "owner", "seq"),
)

# A batch of requests to models. Its lines are tasks of the models' endpoints, whose owner is the batch's id.
model_batches = Table(
    "model_batches",
    metadata,
    *_numbered("id"),
    *_required(Text, "owner", "status"),
    *_optional(Text, "status_reason"),
    *_required(Text, "endpoint", "input_file_id", "input_key", "completion_window", "key_id"),
    *_required(JSON, "metadata"),
    *_required(Double, "created_at", "expires_at"),
    *_optional(Double, "started_at", "finished_at"),
    *_optional(Integer, "total", "completed", "failed"),
    *_optional(Text, "output_file_id", "error_file_id"),
    *_optional(JSON, "completions", "usage"),
    *_required(Boolean, "cleared"),
    Index("ix_model_batches_owner", "owner", "seq"),
)

# What has happened to an endpoint, a few hundred at most; they go with it.
endpoint_events = Table(
    "endpoint_events",
    metadata,
    *_numbered(),
    *_required(Text, "endpoint_id", "kind", "detail"),
    *_required(Integer, "count"),
    *_required(Double, "first_at", "last_at"),
    Index("ix_endpoint_events_endpoint", "endpoint_id", "seq"),
)

# The history of metrics: each row has the points of an endpoint in a block of time. Those of deleted endpoints are
# deleted with the oldest, so it has no foreign key.
metric_points = Table(
    "metric_points",
    metadata,
    Column("endpoint_id", Text, primary_key=True),
    Column("step", Integer, primary_key=True, autoincrement=False),
    Column("at", Double, primary_key=True),
    *_required(LargeBinary, "points"),
    Index("ix_metric_points_at", "step", "at"),
)

docker_image_bundles = Table(
    "docker_image_bundles",
    metadata,
    *_numbered("id"),
    *_required(Text, "owner", "name", "image_repository", "image_tag"),
    *_required(JSON, "command", "env"),
    *_optional(Text, "mount_location"),
    *_required(JSON, "resources"),
    *_required(Boolean, "public"),
    *_required(Double, "created_at"),
    Index("ix_docker_image_bundles_name", "owner", "name", "seq"),
)

# A job outlives the trigger that it is of, as history: so the trigger's id is not a foreign key.
docker_image_jobs = Table(
    "docker_image_jobs",
    metadata,
    *_numbered("id"),
    *_required(Text, "owner"),
    Column("bundle_id", Text, ForeignKey("docker_image_bundles.id"), nullable=False),
    *_required(Text, "status"),
    *_optional(Text, "status_reason"),
    *_optional(JSON, "job_config"),
    *_required(JSON, "labels", "spec"),
    *_required(Double, "max_runtime"),
    *_optional(Integer, "override_max_runtime"),
    *_required(Double, "created_at"),
    *_optional(Text, "trigger_id"),
    *_optional(Double, "due_at"),
    *_required(Text, "held"),
    *_optional(Double, "started_at", "finished_at"),
    UniqueConstraint("trigger_id", "due_at", name="uq_docker_image_jobs_due"),
    Index("ix_docker_image_jobs_owner", "owner", "seq"),
)

triggers = Table(
    "triggers",
    metadata,
    *_numbered("id"),
    *_required(Text, "owner", "name", "cron_schedule"),
    Column("bundle_id", Text, ForeignKey("docker_image_bundles.id")),
    *_optional(JSON, "default_job_config", "default_job_metadata"),
    *_required(Boolean, "suspended"),
    *_required(Double, "next_at", "created_at"),
    *_optional(Text, "endpoint_name"),
    *_optional(JSON, "args"),
    *_optional(Double, "last_at"),
    *_optional(Text, "last_task_id", "last_error"),
    UniqueConstraint("owner", "name", name="uq_triggers_name"),
)
