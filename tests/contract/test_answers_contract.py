"""What stored answers do, whatever database is behind them. Time is virtual."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from store_drivers import OPENERS, Database, database

from openlaunch.store import answers
from openlaunch.store.answers import AnswerRecord


@pytest.fixture(params=OPENERS)
def db(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    with database(OPENERS[request.param], tmp_path) as opened:
        yield opened


def answer(
    key: str = "k", owner: str = "ada", expires_at: float = 10, body_key: str | None = None
) -> AnswerRecord:
    body = None if body_key else key.encode()
    return AnswerRecord(owner, key, b"digest", expires_at, body_key, body)


def put(db: Database, *records: AnswerRecord) -> None:
    for record in records:
        db.write(lambda conn, record=record: answers.put(conn, record))


def get(db: Database, key: str = "k", owner: str = "ada", now: float = 1) -> AnswerRecord | None:
    return db.read(lambda conn: answers.get(conn, owner, key, now))


def test_an_answer_is_found_under_its_owners_key(db: Database) -> None:
    put(db, answer(), answer("l", body_key="answers/l"))
    assert get(db) == answer()
    assert get(db, "l") == answer("l", body_key="answers/l")
    assert get(db, "m") is None
    assert get(db, owner="bob") is None


def test_an_answer_that_has_expired_is_not_found_and_makes_room(db: Database) -> None:
    put(db, answer(expires_at=10))
    assert get(db, now=9.9) is not None
    assert get(db, now=10) is None
    put(db, answer(expires_at=20))
    assert get(db, now=10) == answer(expires_at=20)


def test_purge_deletes_what_has_expired_and_names_its_artifacts(db: Database) -> None:
    put(db, answer("a"), answer("b", body_key="answers/b"), answer("c", expires_at=11, body_key="answers/c"))
    assert db.write(lambda conn: answers.purge(conn, 10)) == (2, ["answers/b"])
    assert [get(db, key, now=0) is not None for key in "abc"] == [False, False, True]
    assert db.write(lambda conn: answers.purge(conn, 10)) == (0, [])


def test_one_call_purges_no_more_than_its_limit(db: Database) -> None:
    put(db, *(answer(f"k{n}") for n in range(5)))
    db.write(lambda conn: answers.purge(conn, 10, limit=3))
    assert sum(get(db, f"k{n}", now=0) is not None for n in range(5)) == 2
