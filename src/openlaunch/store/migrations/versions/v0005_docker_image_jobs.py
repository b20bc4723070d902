"""Docker-image batch jobs, their bundles and triggers."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_SEQUENCE = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make the three tables."""
    op.create_table(
        "docker_image_bundles",
        sa.Column("seq", _SEQUENCE, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
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
        sa.PrimaryKeyConstraint("seq", name="pk_docker_image_bundles"),
        sa.UniqueConstraint("id", name="uq_docker_image_bundles_id"),
    )
    op.create_index("ix_docker_image_bundles_name", "docker_image_bundles", ["owner", "name", "seq"])
    op.create_table(
        "docker_image_jobs",
        sa.Column("seq", _SEQUENCE, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("bundle_id", sa.Text, nullable=False),
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
        sa.PrimaryKeyConstraint("seq", name="pk_docker_image_jobs"),
        sa.UniqueConstraint("id", name="uq_docker_image_jobs_id"),
        sa.UniqueConstraint("trigger_id", "due_at", name="uq_docker_image_jobs_due"),
        sa.ForeignKeyConstraint(
            ["bundle_id"], ["docker_image_bundles.id"], name="fk_docker_image_jobs_bundle_id"
        ),
    )
    op.create_index("ix_docker_image_jobs_owner", "docker_image_jobs", ["owner", "seq"])
    op.create_table(
        "triggers",
        sa.Column("seq", _SEQUENCE, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("cron_schedule", sa.Text, nullable=False),
        sa.Column("bundle_id", sa.Text, nullable=False),
        sa.Column("default_job_config", sa.JSON),
        sa.Column("default_job_metadata", sa.JSON),
        sa.Column("suspended", sa.Boolean, nullable=False),
        sa.Column("next_at", sa.Double, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_triggers"),
        sa.UniqueConstraint("id", name="uq_triggers_id"),
        sa.UniqueConstraint("owner", "name", name="uq_triggers_name"),
        sa.ForeignKeyConstraint(["bundle_id"], ["docker_image_bundles.id"], name="fk_triggers_bundle_id"),
    )
