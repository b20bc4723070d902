"""Which artifacts records name: the others are of no use."""

from collections.abc import Sequence

from sqlalchemy import Connection, select

from openlaunch.artifacts.locations import location_of
from openlaunch.store.tables import batch_jobs, bundles, files, tasks


def named_uploads(conn: Connection, keys: Sequence[str]) -> set[str]:
    """Return those of the keys that a bundle or a batch job names."""
    by_location = {location_of(key): key for key in keys}
    places = (bundles.c.flavor["location"].as_string(), bundles.c.schema_location)
    found = {
        by_location[one] for place in places for one in conn.scalars(select(place)) if one in by_location
    }
    return found | set(conn.scalars(select(batch_jobs.c.input_key).where(batch_jobs.c.input_key.in_(keys))))


def named_by_tasks(conn: Connection, keys: Sequence[str]) -> set[str]:
    """Return those of the keys that are of a task."""
    return _named(keys, set(conn.scalars(select(tasks.c.id).where(tasks.c.id.in_([*map(_id, keys)])))))


def named_by_jobs(conn: Connection, keys: Sequence[str]) -> set[str]:
    """Return those of the keys that are of a batch job."""
    found = select(batch_jobs.c.id).where(batch_jobs.c.id.in_([*map(_id, keys)]))
    return _named(keys, set(conn.scalars(found)))


def named_files(conn: Connection, keys: Sequence[str]) -> set[str]:
    """Return those of the keys that are of an uploaded file."""
    found = select(files.c.id).where(files.c.id.in_([*map(_id, keys)]))
    return _named(keys, set(conn.scalars(found)))


def _id(key: str) -> str:
    """Return the id in a key such as `results/ID.json`."""
    return key.rpartition("/")[2].partition(".")[0]


def _named(keys: Sequence[str], ids: set[str]) -> set[str]:
    return {key for key in keys if _id(key) in ids}
