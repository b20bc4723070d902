"""What stored answers do, whatever database is behind them. Time is virtual."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text
from store_drivers import OPENERS, Database, database

from openlaunch.store import answers
from openlaunch.store.answers import AnswerRecord, Claimed


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


def claim(db: Database, server: str, now: float = 1, digest: bytes = b"digest", key: str = "k") -> Claimed:
    mine = AnswerRecord("ada", key, digest, now + 5, server=server)
    return db.write(lambda conn: answers.claim(conn, mine, now))


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Database]:
    """A database that the servers `first` and `second` share."""
    with database(OPENERS["postgres"], tmp_path) as opened:
        alive = text("INSERT INTO gateways VALUES ('first', '', 0), ('second', '', 0)")
        opened.write(lambda conn: conn.execute(alive))
        yield opened
        opened.write(lambda conn: conn.execute(text("DELETE FROM gateways")))


def test_one_server_of_a_cluster_runs_a_request_and_the_others_find_its_answer(shared: Database) -> None:
    assert claim(shared, "first") == Claimed(None)
    assert get(shared) is None
    for _ in range(2):
        found = claim(shared, "second").found
        assert found is not None
        assert found.server == "first"
    shared.write(lambda conn: answers.put(conn, answer(), "first"))
    assert claim(shared, "second") == claim(shared, "first") == Claimed(answer())
    assert get(shared) == answer()


def test_a_claim_ends_with_its_server_when_it_is_given_up_and_in_time(shared: Database) -> None:
    claim(shared, "first")
    shared.write(lambda conn: conn.execute(text("DELETE FROM gateways WHERE id = 'first'")))
    assert claim(shared, "second") == Claimed(None, again=True)
    # Of two answers the first one counts; one that comes late is not stored.
    shared.write(lambda conn: answers.put(conn, answer(), "first"))
    assert claim(shared, "second") == Claimed(None)

    mine = AnswerRecord("ada", "k", b"digest", 6, server="second")
    shared.write(lambda conn: answers.give_up(conn, mine))
    assert claim(shared, "third") == Claimed(None)
    shared.write(lambda conn: answers.give_up(conn, mine))  # of a claim that is another one's now
    assert claim(shared, "third", now=5.9).again is False
    assert claim(shared, "first", now=20) == Claimed(None)


def test_another_request_under_the_key_of_a_claim_is_told(shared: Database) -> None:
    claim(shared, "first")
    found = claim(shared, "second", digest=b"other").found
    assert found is not None
    assert found.digest == b"digest"
