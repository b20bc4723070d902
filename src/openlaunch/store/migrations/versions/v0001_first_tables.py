"""The tables of the first release, on every database."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_SEQUENCE = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make the tables of an empty database."""
    _create_answers()
    _create_api_keys()
    _create_audit_log()
    _create_bundles()
    _create_deliveries()
    _create_docker_image_bundles()
    _create_endpoint_events()
    _create_files()
    _create_tasks()
    _create_batch_jobs()
    _create_docker_image_jobs()
    _create_endpoints()
    _create_key_usage()
    _create_triggers()


def _create_answers() -> None:
    op.create_table(
        "answers",
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("idempotency_key", sa.Text, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("expires_at", sa.Double, nullable=False),
        sa.Column("body_key", sa.Text),
        sa.Column("body", sa.LargeBinary),
        sa.PrimaryKeyConstraint("owner", "idempotency_key"),
    )
    op.create_index("ix_answers_expires_at", "answers", ["expires_at"])


def _create_api_keys() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("prefix", sa.Text, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False, unique=True),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("revoked_at", sa.Double),
        sa.Column("expires_at", sa.Double),
        sa.Column("requests_per_second", sa.Double),
        sa.Column("burst", sa.Integer),
        sa.Column("requests_per_day", sa.Integer),
    )


def _create_audit_log() -> None:
    op.create_table(
        "audit_log",
        sa.Column("seq", _SEQUENCE, primary_key=True),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("key_id", sa.Text),
        sa.Column("owner", sa.Text),
        sa.Column("address", sa.Text),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("method", sa.Text, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("object_id", sa.Text),
        sa.Column("summary", sa.JSON, nullable=False),
        sa.Column("status", sa.SmallInteger, nullable=False),
    )
    op.create_index("ix_audit_log_at", "audit_log", ["at"])


def _create_bundles() -> None:
    op.create_table(
        "bundles",
        sa.Column("seq", _SEQUENCE, primary_key=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("flavor", sa.JSON, nullable=False),
        sa.Column("metadata", sa.JSON, nullable=False),
        sa.Column("schema_location", sa.Text),
        sa.Column("schemas", sa.JSON, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
    )
    op.create_index("ix_bundles_owner_name_seq", "bundles", ["owner", "name", "seq"])


def _create_deliveries() -> None:
    op.create_table(
        "deliveries",
        sa.Column("seq", _SEQUENCE, primary_key=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("task_id", sa.Text, nullable=False, unique=True),
        sa.Column("endpoint_id", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("auth", sa.JSON),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("next_at", sa.Double),
        sa.Column("finished_at", sa.Double),
        sa.Column("failures", sa.SmallInteger, nullable=False),
        sa.Column("attempts", sa.JSON, nullable=False),
    )
    _create_partial("ix_deliveries_due", "deliveries", ["next_at"], "status = 'PENDING'")


def _create_docker_image_bundles() -> None:
    op.create_table(
        "docker_image_bundles",
        sa.Column("seq", _SEQUENCE, primary_key=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("image_repository", sa.Text, nullable=False),
        sa.Column("image_tag", sa.Text, nullable=False),
        sa.Column("command", sa.JSON, nullable=False),
        sa.Column("env", sa.JSON, nullable=False),
        sa.Column("mount_location", sa.Text),
        sa.Column("resources", sa.JSON, nullable=False),
        sa.Column("public", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
    )
    op.create_index("ix_docker_image_bundles_name", "docker_image_bundles", ["owner", "name", "seq"])


def _create_endpoint_events() -> None:
    op.create_table(
        "endpoint_events",
        sa.Column("seq", _SEQUENCE, primary_key=True),
        sa.Column("endpoint_id", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("first_at", sa.Double, nullable=False),
        sa.Column("last_at", sa.Double, nullable=False),
    )
    op.create_index("ix_endpoint_events_endpoint", "endpoint_events", ["endpoint_id", "seq"])


def _create_files() -> None:
    op.create_table(
        "files",
        sa.Column("seq", _SEQUENCE, primary_key=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("filename", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
    )
    op.create_index("ix_files_owner", "files", ["owner", "seq"])


def _create_tasks() -> None:
    op.create_table(
        "tasks",
        sa.Column("seq", _SEQUENCE, primary_key=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("endpoint_id", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("expires_at", sa.Double),
        sa.Column("started_at", sa.Double),
        sa.Column("finished_at", sa.Double),
        sa.Column("attempts", sa.SmallInteger, nullable=False),
        sa.Column("max_attempts", sa.SmallInteger, nullable=False),
        sa.Column("return_pickled", sa.Boolean, nullable=False),
        sa.Column("timeout_seconds", sa.Double),
        sa.Column("lease_owner", sa.Text),
        sa.Column("lease_until", sa.Double),
        sa.Column("status_code", sa.SmallInteger),
        sa.Column("reason", sa.Text),
        sa.Column("idempotency_key", sa.Text),
        sa.Column("idempotency_digest", sa.LargeBinary),
        sa.Column("payload_key", sa.Text),
        sa.Column("result_key", sa.Text),
        sa.Column("payload", sa.LargeBinary),
        sa.Column("result", sa.LargeBinary),
    )
    _create_partial(
        "ix_tasks_claim",
        "tasks",
        ["endpoint_id", "owner", sa.text("priority DESC"), "seq", "expires_at", "status"],
        "status = 'PENDING'",
    )
    op.create_index("ix_tasks_endpoint", "tasks", ["endpoint_id", "owner", "seq"])
    _create_partial(
        "ix_tasks_expiry", "tasks", ["expires_at"], "status = 'PENDING' AND expires_at IS NOT NULL"
    )
    _create_partial("ix_tasks_finished", "tasks", ["finished_at"], "finished_at IS NOT NULL")
    _create_partial("ix_tasks_leases", "tasks", ["lease_owner"], "status = 'STARTED'")
    op.create_index("ix_tasks_owner", "tasks", ["owner", "seq"])
    _create_partial(
        "ix_tasks_unsuccessful", "tasks", ["owner", "seq"], "status = 'FAILURE' OR status = 'CANCELLED'"
    )
    _create_partial(
        "uq_tasks_idempotency",
        "tasks",
        ["owner", "idempotency_key"],
        "idempotency_key IS NOT NULL",
        unique=True,
    )


def _create_batch_jobs() -> None:
    op.create_table(
        "batch_jobs",
        sa.Column("seq", _SEQUENCE, primary_key=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("bundle_id", sa.Text, sa.ForeignKey("bundles.id"), nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("status_reason", sa.Text),
        sa.Column("input_key", sa.Text, nullable=False),
        sa.Column("serialization_format", sa.Text, nullable=False),
        sa.Column("labels", sa.JSON, nullable=False),
        sa.Column("spec", sa.JSON, nullable=False),
        sa.Column("timeout_seconds", sa.Double, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("finished_at", sa.Double),
        sa.Column("total", sa.Integer),
        sa.Column("completed", sa.Integer),
        sa.Column("result_key", sa.Text),
        sa.Column("cleared", sa.Boolean, nullable=False),
    )
    op.create_index("ix_batch_jobs_owner", "batch_jobs", ["owner", "seq"])


def _create_docker_image_jobs() -> None:
    op.create_table(
        "docker_image_jobs",
        sa.Column("seq", _SEQUENCE, primary_key=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("bundle_id", sa.Text, sa.ForeignKey("docker_image_bundles.id"), nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("status_reason", sa.Text),
        sa.Column("job_config", sa.JSON),
        sa.Column("labels", sa.JSON, nullable=False),
        sa.Column("spec", sa.JSON, nullable=False),
        sa.Column("max_runtime", sa.Double, nullable=False),
        sa.Column("override_max_runtime", sa.Integer),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("trigger_id", sa.Text),
        sa.Column("due_at", sa.Double),
        sa.Column("gpu_indices", sa.JSON, nullable=False),
        sa.Column("started_at", sa.Double),
        sa.Column("finished_at", sa.Double),
        sa.UniqueConstraint("trigger_id", "due_at", name="uq_docker_image_jobs_due"),
    )
    op.create_index("ix_docker_image_jobs_owner", "docker_image_jobs", ["owner", "seq"])


def _create_endpoints() -> None:
    op.create_table(
        "endpoints",
        sa.Column("seq", _SEQUENCE, primary_key=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("endpoint_type", sa.Text, nullable=False),
        sa.Column("bundle_id", sa.Text, sa.ForeignKey("bundles.id"), nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("spec", sa.JSON, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("status_reason", sa.Text),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("updated_at", sa.Double, nullable=False),
        sa.Column("ready_generation", sa.Integer),
        sa.Column("ready_bundle_id", sa.Text, sa.ForeignKey("bundles.id")),
        sa.Column("rejected_generation", sa.Integer),
        sa.Column("canary", sa.JSON),
        sa.Column("ready_spec", sa.JSON),
    )
    op.create_index("uq_endpoints_owner_name", "endpoints", ["owner", "name"], unique=True)


def _create_key_usage() -> None:
    op.create_table(
        "key_usage",
        sa.Column("key_id", sa.Text, sa.ForeignKey("api_keys.id"), primary_key=True),
        sa.Column("day", sa.Integer, nullable=False),
        sa.Column("requests", sa.BigInteger, nullable=False),
    )


def _create_triggers() -> None:
    op.create_table(
        "triggers",
        sa.Column("seq", _SEQUENCE, primary_key=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("cron_schedule", sa.Text, nullable=False),
        sa.Column("bundle_id", sa.Text, sa.ForeignKey("docker_image_bundles.id"), nullable=False),
        sa.Column("default_job_config", sa.JSON),
        sa.Column("default_job_metadata", sa.JSON),
        sa.Column("suspended", sa.Boolean, nullable=False),
        sa.Column("next_at", sa.Double, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.UniqueConstraint("owner", "name", name="uq_triggers_name"),
    )


def _create_partial(
    name: str, table: str, columns: list[str | sa.TextClause], where: str, unique: bool = False
) -> None:
    """Make an index of the rows that match `where` only."""
    op.create_index(
        name, table, columns, unique=unique, sqlite_where=sa.text(where), postgresql_where=sa.text(where)
    )
