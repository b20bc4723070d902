"""What the queue does from submit to result, whatever database is behind it. Time is virtual."""

import pytest
from queue_calls import claim, complete, die, get, stored, submit, success, task
from store_drivers import Database

from openlaunch.errors import Unprocessable
from openlaunch.tasks import lookups, queue
from openlaunch.tasks.lookups import TaskRecord
from openlaunch.tasks.queue import ClaimedTask, Finished, NewTask
from openlaunch.tasks.states import State

# Submit and claim.


def test_a_submitted_task_is_pending(db: Database) -> None:
    assert submit(db, task("a"), now=5) == ["a"]
    assert stored(db, "a") == TaskRecord("a", "end", "ada", State.PENDING, 0, 5, None, None, None, None, None)


def test_a_claim_takes_the_task_with_what_was_asked_for(db: Database) -> None:
    large = NewTask(
        "large", "end", "ada", 1000, 3, None, "tasks/large", return_pickled=True, timeout_seconds=2.5
    )
    submit(db, task("small"), large)
    taken = db.write(lambda conn: queue.claim(conn, "end", 5, "me", 30, 1))
    assert taken == [
        ClaimedTask("small", "ada", b"small", None, 1, 3, return_pickled=False, timeout_seconds=None),
        ClaimedTask("large", "ada", None, "tasks/large", 1, 3, return_pickled=True, timeout_seconds=2.5),
    ]
    assert stored(db, "small").state is State.STARTED
    assert claim(db) == []


def test_claims_go_by_priority_and_then_by_arrival(db: Database) -> None:
    submit(db, task("low", priority=-1), task("a"), task("b"))
    submit(db, task("high", priority=5), task("c"))
    assert claim(db, limit=2) == ["high", "a"]
    assert claim(db) == ["b", "c", "low"]


def test_a_claim_takes_only_its_endpoints_tasks_and_no_expired_one(db: Database) -> None:
    submit(db, task("other", endpoint_id="other"), task("late", expires_at=5), task("a"))
    assert claim(db, now=5) == ["a"]


def test_claimers_at_once_share_no_task(db: Database) -> None:
    ids = [f"t{n:03}" for n in range(200)]
    submit(db, *map(task, ids))
    claims = db.write_at_once(
        [lambda conn, me=f"me{n}": queue.claim(conn, "end", 7, me, 30, 1) for n in range(40)]
    )
    assert sorted(one.id for batch in claims for one in batch) == ids


# Owners take turns.


def test_owners_take_turns_whatever_each_has_waiting(db: Database) -> None:
    submit(db, *(task(f"a{n}") for n in range(5)))
    submit(db, task("b0", owner="bob"), task("c0", owner="cyd"), task("c1", owner="cyd"))
    assert claim(db, limit=6) == ["a0", "b0", "c0", "a1", "c1"]
    assert claim(db, limit=6) == ["a2", "a3", "a4"]


def test_a_claim_begins_behind_the_owner_whose_turn_was_last(db: Database) -> None:
    submit(db, *(task(f"{owner}{n}", owner=owner) for owner in "abc" for n in range(3)))
    served = [claim(db, limit=1, after=after)[0] for after in ("", "a", "b", "c", "a")]
    assert served == ["a0", "b0", "c0", "a1", "b1"]
    assert claim(db, limit=2, after="b") == ["c1", "a2"]


def test_a_priority_is_among_an_owners_own_tasks(db: Database) -> None:
    submit(db, *(task(f"a{n}", priority=100) for n in range(4)))
    submit(db, task("b0", owner="bob", priority=-100), task("b1", owner="bob"))
    assert claim(db, limit=4) == ["a0", "b1", "a1", "b0"]


def test_an_owner_whose_tasks_have_expired_has_no_turn(db: Database) -> None:
    submit(db, task("late", expires_at=5), task("b0", owner="bob"))
    assert claim(db, limit=1, now=5) == ["b0"]


def test_more_owners_than_slots_are_all_served(db: Database) -> None:
    owners = [f"o{n:02}" for n in range(20)]
    submit(db, *(task(f"{owner}-{n}", owner=owner) for owner in owners for n in range(2)))
    after, served = "", []
    while claimed := claim(db, limit=3, after=after):
        served += claimed
        after = claimed[-1].partition("-")[0]
    assert served[:20] == [f"{owner}-0" for owner in owners]
    assert len(served) == 40


# Idempotency.


def test_an_idempotency_key_names_the_first_task(db: Database) -> None:
    submit(db, task("a", key="k"))
    assert submit(db, task("b", key="k"), task("c")) == ["a", "c"]
    complete(db, success("a"))
    assert submit(db, task("d", key="k")) == ["a"]
    assert get(db, "b") is None


def test_an_idempotency_key_holds_within_one_batch(db: Database) -> None:
    assert submit(db, task("a", key="k"), task("b", key="k"), task("c")) == ["a", "a", "c"]


def test_an_idempotency_key_is_its_owners_alone(db: Database) -> None:
    submit(db, task("a", key="k"), task("b", key="m", owner="bob"))
    assert submit(db, task("c", key="k", owner="bob"), task("d", key="m")) == ["c", "d"]


def test_a_key_that_was_used_for_something_else_is_refused_and_nothing_is_stored(db: Database) -> None:
    submit(db, task("a", key="k#0", digest=b"1"))
    assert submit(db, task("b", key="k#0", digest=b"1")) == ["a"]
    with pytest.raises(Unprocessable, match="'k' was sent with another body") as caught:
        submit(db, task("c"), task("d", key="k#0", digest=b"2"))
    assert caught.value.code == "idempotency_key_reused"
    assert db.read(lambda conn: lookups.queued_counts(conn, 0)) == {"end": {"ada": 1}}


def test_submits_at_once_with_one_key_make_one_task(db: Database) -> None:
    first = db.write_at_once(
        [lambda conn, n=n: queue.submit(conn, [task(f"t{n}", key="k")], 0) for n in range(20)]
    )
    assert len({ids[0] for ids in first}) == 1
    assert db.read(lambda conn: lookups.queued_counts(conn, 0)) == {"end": {"ada": 1}}


# Results.


def test_the_first_result_wins(db: Database) -> None:
    submit(db, task("a"))
    claim(db)
    assert complete(db, success("a", b"1"), success("a", b"2")) == {"a"}
    assert complete(db, Finished("a", State.FAILURE, 500, b"3"), now=9) == set()
    assert (stored(db, "a").state, stored(db, "a").result, stored(db, "a").finished_at) == (
        State.SUCCESS,
        b"1",
        2,
    )


def test_a_result_that_comes_after_the_task_went_back_is_taken(db: Database) -> None:
    submit(db, task("a"))
    claim(db)
    die(db, "a")
    assert complete(db, success("a")) == {"a"}
    assert claim(db) == []


def test_a_result_of_a_task_that_is_not_there_is_dropped(db: Database) -> None:
    assert complete(db, success("gone")) == set()
