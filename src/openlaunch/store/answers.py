"""Answers to sync requests under their idempotency keys, in the store."""

from dataclasses import dataclass, field

from sqlalchemy import Connection, delete, insert, select, tuple_

from openlaunch.errors import Unprocessable
from openlaunch.store.rows import values_of
from openlaunch.store.tables import answers


@dataclass(frozen=True, slots=True)
class AnswerRecord:
    """The answer under one key of an owner. Exactly one of `body` and `body_key` (an artifact) is given.

    `digest` is of the request: it distinguishes a repetition from another request under the same key.
    """

    owner: str
    idempotency_key: str
    digest: bytes = field(repr=False)
    expires_at: float
    body_key: str | None = None
    body: bytes | None = field(default=None, repr=False)


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
    row = conn.execute(select(answers).where(*same, answers.c.expires_at > now)).first()
    return None if row is None else AnswerRecord(**row._mapping)


def put(conn: Connection, answer: AnswerRecord) -> None:
    """Store an answer, in the place of one that has expired."""
    same = (answers.c.owner == answer.owner, answers.c.idempotency_key == answer.idempotency_key)
    conn.execute(delete(answers).where(*same))
    conn.execute(insert(answers).values(values_of(answer)))


def purge(conn: Connection, now: float, limit: int = 100) -> tuple[int, list[str]]:
    """Delete expired answers; return their number and the keys of their artifacts."""
    old = select(answers.c.owner, answers.c.idempotency_key, answers.c.body_key)
    rows = conn.execute(old.where(answers.c.expires_at <= now).limit(limit)).fetchall()
    if rows:
        names = tuple_(answers.c.owner, answers.c.idempotency_key)
        conn.execute(delete(answers).where(names.in_([(row.owner, row.idempotency_key) for row in rows])))
    return len(rows), [row.body_key for row in rows if row.body_key is not None]
