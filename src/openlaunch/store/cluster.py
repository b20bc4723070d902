"""What several servers on one database need of it: leases by the database's clock, and messages to each other."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from sqlalchemy import Connection, String, column, delete, func, select, table
from sqlalchemy.sql.selectable import Select

from openlaunch.errors import Unavailable

GATEWAYS = table("gateways", column("id", String), column("address", String), column("until"))
LEADER = table("leader", column("epoch"))
_CLOCK = func.extract("epoch", func.clock_timestamp())


@dataclass(frozen=True, slots=True)
class Beat:
    """How the leases stand after a server has renewed its own."""

    was_missing: bool
    """Whether the server's row was not there: it is new, or others took it for dead."""
    epoch: int
    """The epoch under which this server leads; 0: another one leads."""
    left: float
    """How long the leader's lease still lasts."""
    others: int
    """Other servers that live."""
    dead: int
    """Rows of servers whose lease has run out."""


class Server(NamedTuple):
    """A server that lives, and whether it leads."""

    gateway: str
    address: str
    leads: bool


class ClusterRecords(Protocol):
    """The records that the servers of a cluster share beside those in `tables.py`. One server uses it."""

    gateway: str
    """The name of this server's row, which owns the leases of the tasks that it runs."""

    async def beat(self, *, lead: bool) -> Beat:
        """Renew this server's lease, and take or renew the leader's where that is possible and it is to lead.

        Raises Unavailable while the database does not answer.
        """
        ...

    async def hand_over(self) -> None:
        """End the leader's lease now if it is this server's, so that another one leads at once."""
        ...

    async def servers(self) -> list[Server]:
        """Return the servers that live, by their addresses."""
        ...

    async def leave(self) -> None:
        """Delete this server's row."""
        ...

    async def send(self, messages: Sequence[str]) -> None:
        """Send messages of up to 7,900 bytes to every server that listens now."""
        ...

    def listen(self, heard: Callable[[str], None], gap: Callable[[], None]) -> None:
        """Call `heard` with each message, and `gap` where some may have been lost; in the event loop's thread."""
        ...

    async def url_secret(self, own: bytes) -> bytes:
        """Return the cluster's key of signed URLs: the first server's `own`."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


def not_leading(what: str) -> Unavailable:
    """Make the error of a server that is asked for what the leader alone has, such as "the workers"."""
    text = f"another server of the cluster leads, and has {what}: ask that one, as a client with the URLs of all does"
    return Unavailable(text, code="not_leading", retry_after=1)


def check_leads(conn: Connection, epoch: int) -> None:
    """Raise Unavailable unless the leader has this epoch; no other one leads before the transaction ends.

    The epoch 0 is that of a server that is alone.
    """
    same = select(LEADER.c.epoch).where(LEADER.c.epoch == epoch)
    if epoch and conn.scalar(same.with_for_update(read=True)) is None:
        raise Unavailable("another server of the cluster leads", code="not_leading", retry_after=1)


def forget_dead(conn: Connection) -> int:
    """Delete the rows of servers whose lease has run out, and return how many."""
    return conn.execute(delete(GATEWAYS).where(GATEWAYS.c.until <= _CLOCK)).rowcount


def alive() -> Select[Any]:
    """Select the names of the servers that others may count on."""
    return select(GATEWAYS.c.id)
