"""Keys, bundles, endpoints and tasks."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_SEQUENCE = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make the first tables."""
    _create_api_keys()
    _create_bundles()
    _create_endpoints()
    _create_tasks()
    _create_task_indexes()


def _create_api_keys() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("prefix", sa.Text, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("revoked_at", sa.Double),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
        sa.UniqueConstraint("digest", name="uq_api_keys_digest"),
    )


def _create_bundles() -> None:
    op.create_table(
        "bundles",
        sa.Column("seq", _SEQUENCE, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("flavor", sa.JSON, nullable=False),
        sa.Column("metadata", sa.JSON, nullable=False),
        sa.Column("schema_location", sa.Text),
        sa.Column("schemas", sa.JSON, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_bundles"),
        sa.UniqueConstraint("id", name="uq_bundles_id"),
    )
    op.create_index("ix_bundles_owner_name_seq", "bundles", ["owner", "name", "seq"])


def _create_endpoints() -> None:
    op.create_table(
        "endpoints",
        sa.Column("seq", _SEQUENCE, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("endpoint_type", sa.Text, nullable=False),
        sa.Column("bundle_id", sa.Text, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("spec", sa.JSON, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("status_reason", sa.Text),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("updated_at", sa.Double, nullable=False),
        sa.Column("ready_generation", sa.Integer),
        sa.Column("ready_bundle_id", sa.Text),
        sa.PrimaryKeyConstraint("seq", name="pk_endpoints"),
        sa.UniqueConstraint("id", name="uq_endpoints_id"),
        sa.ForeignKeyConstraint(["bundle_id"], ["bundles.id"], name="fk_endpoints_bundle_id"),
        sa.ForeignKeyConstraint(["ready_bundle_id"], ["bundles.id"], name="fk_endpoints_ready_bundle_id"),
    )
    op.create_index("uq_endpoints_owner_name", "endpoints", ["owner", "name"], unique=True)


def _create_tasks() -> None:
    op.create_table(
        "tasks",
        sa.Column("seq", _SEQUENCE, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
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
        sa.Column("lease_owner", sa.Text),
        sa.Column("lease_until", sa.Double),
        sa.Column("status_code", sa.SmallInteger),
        sa.Column("reason", sa.Text),
        sa.Column("idempotency_key", sa.Text),
        sa.Column("payload_key", sa.Text),
        sa.Column("result_key", sa.Text),
        sa.Column("payload", sa.LargeBinary),
        sa.Column("result", sa.LargeBinary),
        sa.PrimaryKeyConstraint("seq", name="pk_tasks"),
        sa.UniqueConstraint("id", name="uq_tasks_id"),
    )


def _create_task_indexes() -> None:
    columns: list[str | sa.TextClause] = [
        "endpoint_id",
        sa.text("priority DESC"),
        "seq",
        "expires_at",
        "status",
    ]
    _create_partial("ix_tasks_claim", columns, "status = 'PENDING'")
    _create_partial("ix_tasks_expiry", ["expires_at"], "status = 'PENDING' AND expires_at IS NOT NULL")
    _create_partial("ix_tasks_leases", ["lease_owner"], "status = 'STARTED'")
    _create_partial("ix_tasks_finished", ["finished_at"], "finished_at IS NOT NULL")
    _create_partial(
        "uq_tasks_idempotency", ["owner", "idempotency_key"], "idempotency_key IS NOT NULL", unique=True
    )
    op.create_index("ix_tasks_owner", "tasks", ["owner", "seq"])
    op.create_index("ix_tasks_endpoint", "tasks", ["endpoint_id", "seq"])
    # The last one: of two that fit equally well SQLite takes the one that was made later.
    _create_partial("ix_tasks_unsuccessful", ["owner", "seq"], "status = 'FAILURE' OR status = 'CANCELLED'")


def _create_partial(
    name: str, columns: Sequence[str | sa.TextClause], where: str, unique: bool = False
) -> None:
    op.create_index(
        name,
        "tasks",
        list(columns),
        unique=unique,
        sqlite_where=sa.text(where),
        postgresql_where=sa.text(where),
    )
