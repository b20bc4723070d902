"""Endpoints have canaries, and generations that were rolled back."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add the canary as JSON, and the number of the generation whose first predictions failed."""
    op.add_column("endpoints", sa.Column("rejected_generation", sa.Integer()))
    op.add_column("endpoints", sa.Column("canary", sa.JSON(none_as_null=True)))
