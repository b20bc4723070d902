"""Whose a thing is, by its id."""

from collections.abc import Mapping

from sqlalchemy import Connection, select

from openlaunch.store import tables

_TABLES = {
    "model_endpoint_id": (tables.endpoints,),
    "model_bundle_id": (tables.bundles,),
    "task_id": (tables.tasks,),
    "batch_job_id": (tables.batch_jobs, tables.docker_image_jobs),
    "docker_image_batch_job_bundle_id": (tables.docker_image_bundles,),
    "trigger_id": (tables.triggers,),
    "file_id": (tables.files,),
    "subscription_id": (tables.subscriptions,),
    "batch_id": (tables.model_batches,),
}
"""The tables that an id may be of, by the name of the parameter that has it."""


def owner_of(conn: Connection, ids: Mapping[str, str]) -> str | None:
    """Return the owner of the first of these things, named by their parameters, that there is."""
    for name, value in ids.items():
        for table in _TABLES.get(name, ()):
            owner: str | None = conn.scalar(select(table.c.owner).where(table.c.id == value))
            if owner is not None:
                return owner
    return None
