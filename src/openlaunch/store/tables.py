"""The tables, one definition for every database. Times are seconds since the epoch.

A change here needs a migration beside it, in `migrations/versions/`; `test_store_upgrades.py` holds the two together.
"""

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
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.sql.elements import TextClause

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite numbers rows by itself only in a column whose type is spelled INTEGER.
_SEQUENCE = BigInteger().with_variant(Integer, "sqlite")


def _partial(name: str, *columns: Column[object] | TextClause, where: str, unique: bool = False) -> Index:
    """An index of the rows that match `where` only, so that it stays as small as they are few."""
    # No `postgresql_where` beside it: to look at that, each server would import PostgreSQL's dialect at its start.
    return Index(name, *columns, unique=unique, sqlite_where=text(where))


api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("prefix", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("created_at", Double, nullable=False),
    Column("revoked_at", Double),
    Column("expires_at", Double),
    Column("requests_per_second", Double),
    Column("burst", Integer),
    Column("requests_per_day", Integer),
)

# How many requests keys with a quota have made on the last UTC day, counted from the epoch, on which they made any.
key_usage = Table(
    "key_usage",
    metadata,
    Column("key_id", Text, ForeignKey("api_keys.id"), primary_key=True),
    Column("day", Integer, nullable=False),
    Column("requests", BigInteger, nullable=False),
)

# Who changed what. It outlives what it is about, so nothing in it is a foreign key.
audit_log = Table(
    "audit_log",
    metadata,
    Column("seq", _SEQUENCE, primary_key=True),
    Column("at", Double, nullable=False),
    Column("key_id", Text),
    Column("owner", Text),
    Column("address", Text),
    Column("action", Text, nullable=False),
    Column("method", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("object_id", Text),
    Column("summary", JSON, nullable=False),
    Column("status", SmallInteger, nullable=False),
    Index("ix_audit_log_at", "at"),
)

bundles = Table(
    "bundles",
    metadata,
    Column("seq", _SEQUENCE, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("owner", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("flavor", JSON, nullable=False),
    Column("metadata", JSON, nullable=False),
    Column("schema_location", Text),
    Column("schemas", JSON, nullable=False),
    Column("created_at", Double, nullable=False),
    Index("ix_bundles_owner_name_seq", "owner", "name", "seq"),
)

endpoints = Table(
    "endpoints",
    metadata,
    Column("seq", _SEQUENCE, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("owner", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("endpoint_type", Text, nullable=False),
    Column("bundle_id", Text, ForeignKey("bundles.id"), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("spec", JSON, nullable=False),
    Column("status", Text, nullable=False),
    Column("status_reason", Text),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("ready_generation", Integer),
    Column("ready_bundle_id", Text, ForeignKey("bundles.id")),
    Column("rejected_generation", Integer),
    Column("canary", JSON(none_as_null=True)),
    Column("ready_spec", JSON(none_as_null=True)),
    Index("uq_endpoints_owner_name", "owner", "name", unique=True),
)

# Tasks outlive their endpoint, so `endpoint_id` is no foreign key. The two columns of bytes come last: what
# SQLite reads of a row to find, claim and list tasks lies before them.
tasks = Table(
    "tasks",
    metadata,
    Column("seq", _SEQUENCE, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("endpoint_id", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),
    Column("started_at", Double),
    Column("finished_at", Double),
    Column("attempts", SmallInteger, nullable=False),
    Column("max_attempts", SmallInteger, nullable=False),
    Column("return_pickled", Boolean, nullable=False),
    Column("timeout_seconds", Double),
    Column("lease_owner", Text),
    Column("lease_until", Double),
    Column("status_code", SmallInteger),
    Column("reason", Text),
    Column("idempotency_key", Text),
    Column("idempotency_digest", LargeBinary),
    Column("payload_key", Text),
    Column("result_key", Text),
    Column("payload", LargeBinary),
    Column("result", LargeBinary),
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
    Column("owner", Text, nullable=False),
    Column("idempotency_key", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("expires_at", Double, nullable=False),
    Column("body_key", Text),
    Column("body", LargeBinary),
    PrimaryKeyConstraint("owner", "idempotency_key"),
    Index("ix_answers_expires_at", "expires_at"),
)

# A callback that was asked for. It is WAITING until its task has ended, and then sent until it was taken.
deliveries = Table(
    "deliveries",
    metadata,
    Column("seq", _SEQUENCE, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("task_id", Text, nullable=False, unique=True),
    Column("endpoint_id", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("auth", JSON),
    Column("status", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("next_at", Double),
    Column("finished_at", Double),
    Column("failures", SmallInteger, nullable=False),
    Column("attempts", JSON, nullable=False),
    Index(
        "ix_deliveries_due",
        "next_at",
        sqlite_where=text("status = 'PENDING'"),
    ),
)

files = Table(
    "files",
    metadata,
    Column("seq", _SEQUENCE, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("owner", Text, nullable=False),
    Column("filename", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("key", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Index("ix_files_owner", "owner", "seq"),
)

# A batch job runs on an endpoint of its own, whose id and owner are the job's id, as are its tasks' owner and
# endpoint: nobody else sees them.
batch_jobs = Table(
    "batch_jobs",
    metadata,
    Column("seq", _SEQUENCE, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("owner", Text, nullable=False),
    Column("bundle_id", Text, ForeignKey("bundles.id"), nullable=False),
    Column("status", Text, nullable=False),
    Column("status_reason", Text),
    Column("input_key", Text, nullable=False),
    Column("serialization_format", Text, nullable=False),
    Column("labels", JSON, nullable=False),
    Column("spec", JSON, nullable=False),
    Column("timeout_seconds", Double, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("finished_at", Double),
    Column("total", Integer),
    Column("completed", Integer),
    Column("result_key", Text),
    Column("cleared", Boolean, nullable=False),
    Index("ix_batch_jobs_owner", "owner", "seq"),
)

# What has happened to an endpoint, a few hundred at most; they go with it.
endpoint_events = Table(
    "endpoint_events",
    metadata,
    Column("seq", _SEQUENCE, primary_key=True),
    Column("endpoint_id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("count", Integer, nullable=False),
    Column("first_at", Double, nullable=False),
    Column("last_at", Double, nullable=False),
    Index("ix_endpoint_events_endpoint", "endpoint_id", "seq"),
)

docker_image_bundles = Table(
    "docker_image_bundles",
    metadata,
    Column("seq", _SEQUENCE, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("owner", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("image_repository", Text, nullable=False),
    Column("image_tag", Text, nullable=False),
    Column("command", JSON, nullable=False),
    Column("env", JSON, nullable=False),
    Column("mount_location", Text),
    Column("resources", JSON, nullable=False),
    Column("public", Boolean, nullable=False),
    Column("created_at", Double, nullable=False),
    Index("ix_docker_image_bundles_name", "owner", "name", "seq"),
)

# A job outlives the trigger that it is of, as history: so the trigger's id is no foreign key.
docker_image_jobs = Table(
    "docker_image_jobs",
    metadata,
    Column("seq", _SEQUENCE, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("owner", Text, nullable=False),
    Column("bundle_id", Text, ForeignKey("docker_image_bundles.id"), nullable=False),
    Column("status", Text, nullable=False),
    Column("status_reason", Text),
    Column("job_config", JSON),
    Column("labels", JSON, nullable=False),
    Column("spec", JSON, nullable=False),
    Column("max_runtime", Double, nullable=False),
    Column("override_max_runtime", Integer),
    Column("created_at", Double, nullable=False),
    Column("trigger_id", Text),
    Column("due_at", Double),
    Column("gpu_indices", JSON, nullable=False),
    Column("started_at", Double),
    Column("finished_at", Double),
    UniqueConstraint("trigger_id", "due_at", name="uq_docker_image_jobs_due"),
    Index("ix_docker_image_jobs_owner", "owner", "seq"),
)

triggers = Table(
    "triggers",
    metadata,
    Column("seq", _SEQUENCE, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("owner", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("cron_schedule", Text, nullable=False),
    Column("bundle_id", Text, ForeignKey("docker_image_bundles.id"), nullable=False),
    Column("default_job_config", JSON),
    Column("default_job_metadata", JSON),
    Column("suspended", Boolean, nullable=False),
    Column("next_at", Double, nullable=False),
    Column("created_at", Double, nullable=False),
    UniqueConstraint("owner", "name", name="uq_triggers_name"),
)
