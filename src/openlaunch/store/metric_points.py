"""Points of the history of metrics: a row has those of one endpoint in one block of time, as bytes."""

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, delete, insert, select

from openlaunch.store.tables import endpoints
from openlaunch.store.tables import metric_points as points

Row = tuple[str, int, float, bytes]
"""The endpoint's id, the seconds between two points, the start of the block, and the points."""


def save(conn: Connection, rows: Sequence[Row], oldest: Mapping[int, float]) -> None:
    """Put blocks in place of what there was of them; delete blocks that are too old, and those of deleted endpoints.

    `oldest` says by the seconds between two points which blocks are kept.
    """
    for endpoint_id, step, at, blob in rows:
        here = points.c.endpoint_id == endpoint_id, points.c.step == step, points.c.at == at
        conn.execute(delete(points).where(*here))
        conn.execute(insert(points).values(endpoint_id=endpoint_id, step=step, at=at, points=blob))
    for step, at in oldest.items():
        conn.execute(delete(points).where(points.c.step == step, points.c.at < at))
    conn.execute(delete(points).where(points.c.endpoint_id.not_in(select(endpoints.c.id))))


def of_endpoint(conn: Connection, endpoint_id: str, step: int, at: float) -> list[bytes]:
    """Return the points of an endpoint in the blocks that begin from a time on, oldest first."""
    query = select(points.c.points).where(points.c.endpoint_id == endpoint_id, points.c.step == step)
    return list(conn.scalars(query.where(points.c.at >= at).order_by(points.c.at)))


def all_since(conn: Connection, step: int, at: float) -> list[tuple[str, bytes]]:
    """Return the endpoints and points of all blocks that begin from a time on, oldest first."""
    query = select(points.c.endpoint_id, points.c.points).where(points.c.step == step, points.c.at >= at)
    return [(row[0], row[1]) for row in conn.execute(query.order_by(points.c.at))]
