"""What has happened to endpoints."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

_SEQUENCE = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make the table of endpoint events."""
    op.create_table(
        "endpoint_events",
        sa.Column("seq", _SEQUENCE, nullable=False),
        sa.Column("endpoint_id", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("first_at", sa.Double, nullable=False),
        sa.Column("last_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_endpoint_events"),
    )
    op.create_index("ix_endpoint_events_endpoint", "endpoint_events", ["endpoint_id", "seq"])
