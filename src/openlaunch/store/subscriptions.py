"""Where owners have notifications sent."""

from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, select
from sqlalchemy import insert as insert_into

from openlaunch.errors import Conflict
from openlaunch.store.rows import is_of, values_of
from openlaunch.store.tables import subscriptions
from openlaunch.wire.subscriptions import MAX_SUBSCRIPTIONS


@dataclass(frozen=True, slots=True)
class SubscriptionRecord:
    """A subscription as it is stored; `events` are kinds of notifications."""

    id: str
    owner: str
    url: str
    events: list[str]
    created_at: float


_FIELDS = [subscriptions.c[name] for name in SubscriptionRecord.__dataclass_fields__]


def insert(conn: Connection, new: SubscriptionRecord) -> None:
    """Store a subscription; raise Conflict where its owner has as many as are allowed."""
    mine = subscriptions.c.owner == new.owner
    if (conn.scalar(select(func.count()).where(mine)) or 0) >= MAX_SUBSCRIPTIONS:
        raise Conflict(
            f"you have {MAX_SUBSCRIPTIONS} subscriptions, which is the limit: delete one first",
            code="too_many_subscriptions",
        )
    conn.execute(insert_into(subscriptions).values(values_of(new)))


def list_by_owner(conn: Connection, owner: str) -> list[SubscriptionRecord]:
    """List the owner's subscriptions, or everybody's, oldest first."""
    query = select(*_FIELDS).where(is_of(subscriptions.c.owner, owner)).order_by(subscriptions.c.seq)
    return [SubscriptionRecord(*row) for row in conn.execute(query)]


def remove(conn: Connection, owner: str, subscription_id: str) -> bool:
    """Delete the owner's subscription; return False where there is none."""
    mine = subscriptions.c.owner == owner, subscriptions.c.id == subscription_id
    return conn.execute(delete(subscriptions).where(*mine)).rowcount == 1
