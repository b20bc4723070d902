"""Batch jobs."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_SEQUENCE = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make the table of batch jobs."""
    op.create_table(
        "batch_jobs",
        sa.Column("seq", _SEQUENCE, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("bundle_id", sa.Text, nullable=False),
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
        sa.PrimaryKeyConstraint("seq", name="pk_batch_jobs"),
        sa.UniqueConstraint("id", name="uq_batch_jobs_id"),
        sa.ForeignKeyConstraint(["bundle_id"], ["bundles.id"], name="fk_batch_jobs_bundle_id"),
    )
    op.create_index("ix_batch_jobs_owner", "batch_jobs", ["owner", "seq"])
