"""What the workers of an endpoint's last ready generation were asked for."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Add the column; endpoints have it from their next roll-out on."""
    op.add_column("endpoints", sa.Column("ready_spec", sa.JSON))
