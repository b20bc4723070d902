"""Answers to sync requests under their idempotency keys, in the store."""

from dataclasses import dataclass, field
from typing import NamedTuple

from sqlalchemy import Connection, delete, exists, select, text, tuple_, update

from openlaunch.errors import Unprocessable
from openlaunch.store.cluster import GATEWAYS, alive
from openlaunch.store.rows import values_of
from openlaunch.store.tables import answers

_INSERT = text("""
INSERT INTO answers (owner, idempotency_key, digest, expires_at, body_key, body, server)
VALUES (:owner, :idempotency_key, :digest, :expires_at, :body_key, :body, :server)
ON CONFLICT (owner, idempotency_key) DO NOTHING""")


@dataclass(frozen=True, slots=True)
class AnswerRecord:
    """The answer under one key of an owner. Exactly one of `body` and `body_key` (an artifact) is given.

    With a `server` it is a claim: that server of the cluster runs the request, and there is no answer yet.
    `digest` is of the request: it distinguishes a repetition from another request under the same key.
    """

    owner: str
    idempotency_key: str
    digest: bytes = field(repr=False)
    expires_at: float
    body_key: str | None = None
    body: bytes | None = field(default=None, repr=False)
    server: str | None = None


class Claimed(NamedTuple):
    """What a claim has found: the answer, or the claim of a server that lives. None: the claim is stored."""

    found: AnswerRecord | None
    again: bool = False
    """Whether a server that is gone had the claim, so that the model may have run."""


def key_reused(key: str) -> Unprocessable:
    """Make the error for a key that was sent with another request before."""
    return Unprocessable(
        f"the Idempotency-Key {key!r} was sent with another body, or to another endpoint, before: "
        "make a new key for each new request",
        code="idempotency_key_reused",
    )


def get(conn: Connection, owner: str, key: str, now: float) -> AnswerRecord | None:
    """Find the answer under the owner's key, unless it has expired."""
    same = (answers.c.owner == owner, answers.c.idempotency_key == key)
    query = select(answers).where(*same, answers.c.expires_at > now, answers.c.server.is_(None))
    row = conn.execute(query).first()
    return None if row is None else AnswerRecord(**row._mapping)


def claim(conn: Connection, mine: AnswerRecord, now: float) -> Claimed:
    """Have this server of a cluster run the request, unless it has an answer, or runs at another one that lives.

    What is found under the key may have another digest.
    """
    same = (answers.c.owner == mine.owner, answers.c.idempotency_key == mine.idempotency_key)
    conn.execute(delete(answers).where(*same, answers.c.expires_at <= now))
    while not conn.execute(_INSERT, values_of(mine)).rowcount:
        if (row := conn.execute(select(answers).where(*same).with_for_update()).first()) is None:
            continue  # another server has given it up meanwhile
        found = AnswerRecord(**row._mapping)
        if found.server is None or found.digest != mine.digest:
            return Claimed(found)
        is_own = found.server == mine.server
        if not is_own and conn.scalar(select(exists(alive().where(GATEWAYS.c.id == found.server)))):
            return Claimed(found)
        conn.execute(update(answers).where(*same).values(values_of(mine)))
        return Claimed(None, again=not is_own)
    return Claimed(None)


def give_up(conn: Connection, mine: AnswerRecord) -> None:
    """Delete a claim, unless the key was claimed again since."""
    same = (answers.c.owner == mine.owner, answers.c.idempotency_key == mine.idempotency_key)
    own = (answers.c.server == mine.server, answers.c.expires_at == mine.expires_at)
    conn.execute(delete(answers).where(*same, *own))


def put(conn: Connection, answer: AnswerRecord, claimed_by: str | None = None) -> None:
    """Store an answer, in the place of one that has expired, or of this server's claim.

    Of the answers of several servers of a cluster the first one counts.
    """
    same = (answers.c.owner == answer.owner, answers.c.idempotency_key == answer.idempotency_key)
    own = () if claimed_by is None else (answers.c.server == claimed_by,)
    conn.execute(delete(answers).where(*same, *own))
    conn.execute(_INSERT, values_of(answer))


def purge(conn: Connection, now: float, limit: int = 100) -> tuple[int, list[str]]:
    """Delete expired answers; return their number and the keys of their artifacts."""
    old = select(answers.c.owner, answers.c.idempotency_key, answers.c.body_key)
    rows = conn.execute(old.where(answers.c.expires_at <= now).limit(limit)).fetchall()
    if rows:
        names = tuple_(answers.c.owner, answers.c.idempotency_key)
        conn.execute(delete(answers).where(names.in_([(row.owner, row.idempotency_key) for row in rows])))
    return len(rows), [row.body_key for row in rows if row.body_key is not None]
