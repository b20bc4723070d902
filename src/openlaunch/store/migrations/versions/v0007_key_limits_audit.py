"""Limits of keys, their end, and the audit log."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

_SEQUENCE = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Give keys limits, and make the table of the audit log."""
    op.add_column("api_keys", sa.Column("expires_at", sa.Double))
    op.add_column("api_keys", sa.Column("requests_per_second", sa.Double))
    op.add_column("api_keys", sa.Column("burst", sa.Integer))
    op.add_column("api_keys", sa.Column("requests_per_day", sa.Integer))
    op.create_table(
        "audit_log",
        sa.Column("seq", _SEQUENCE, nullable=False),
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
        sa.PrimaryKeyConstraint("seq", name="pk_audit_log"),
    )
    op.create_index("ix_audit_log_at", "audit_log", ["at"])
