"""A caller's tasks on an endpoint are found by one index."""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Put the owner into the index of an endpoint's tasks."""
    op.drop_index("ix_tasks_endpoint", "tasks")
    op.create_index("ix_tasks_endpoint", "tasks", ["endpoint_id", "owner", "seq"])
