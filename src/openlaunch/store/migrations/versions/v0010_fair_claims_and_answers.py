"""Answers under idempotency keys, the digest of a task's body, and an index by which owners take turns."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Make the table of answers, and put the owner in front of the priority in the index of claims."""
    op.create_table(
        "answers",
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("idempotency_key", sa.Text, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("expires_at", sa.Double, nullable=False),
        sa.Column("body_key", sa.Text),
        sa.Column("body", sa.LargeBinary),
        sa.PrimaryKeyConstraint("owner", "idempotency_key", name="pk_answers"),
    )
    op.create_index("ix_answers_expires_at", "answers", ["expires_at"])
    op.add_column("tasks", sa.Column("idempotency_digest", sa.LargeBinary))
    op.drop_index("ix_tasks_claim", "tasks")
    pending = sa.text("status = 'PENDING'")
    op.create_index(
        "ix_tasks_claim",
        "tasks",
        ["endpoint_id", "owner", sa.text("priority DESC"), "seq", "expires_at", "status"],
        sqlite_where=pending,
        postgresql_where=pending,
    )
