"""What the outbox does, whatever database is behind it. Time is virtual: every function takes `now`."""

import pytest
from store_drivers import Database

from openlaunch.tasks import control, housekeeping, outbox, queue
from openlaunch.tasks.callback import Callback
from openlaunch.tasks.outbox import RETRY_SECONDS, Attempt, Delivery
from openlaunch.tasks.queue import Finished, NewTask
from openlaunch.tasks.states import State
from openlaunch.wire.tasks import DeliveryStatus

URL = "https://example.org/done"
TAKEN = Attempt(10, 0.1, 204)


def submit(db: Database, *ids: str, key: str | None = None, owner: str = "ada", url: str = URL) -> None:
    auth = {"kind": "basic", "username": "ada", "password": "secret"}
    new = [
        NewTask(i, "end", owner, 1000, 3, payload=b"{}", idempotency_key=key, callback=Callback(url, auth))
        for i in ids
    ]
    db.write(lambda conn: queue.submit(conn, new, 0))


def end(db: Database, task_id: str, now: float = 5) -> None:
    db.write(lambda conn: queue.complete(conn, [Finished(task_id, State.SUCCESS, 200, b"{}")], now))


def due(
    db: Database, now: float, room: int = 10, after: str = "", under_way: dict[str, list[str]] | None = None
) -> list[str]:
    found = db.read(lambda conn: outbox.due(conn, "ada", now, room, after, under_way or {}))
    return [one.task_id for one in found]


def record(db: Database, attempt: Attempt, task_id: str = "a") -> None:
    db.write(lambda conn: outbox.record(conn, f"msg_{task_id}", attempt))


def stored(db: Database, task_id: str = "a", owner: str = "ada") -> Delivery:
    found = db.read(lambda conn: outbox.of_task(conn, owner, task_id))
    assert found is not None
    return found


def failed(at: float, status_code: int | None = 500) -> Attempt:
    return Attempt(at, 0.1, status_code, "it failed")


def test_a_callback_is_given_to_one_server_until_its_time_is_over(db: Database) -> None:
    submit(db, "a", "b")
    for task_id in "ab":
        end(db, task_id)

    def claim(now: float) -> set[str]:
        return db.write(lambda conn: outbox.claim(conn, ["msg_a", "msg_b"], now, now + 45))

    assert claim(6) == {"msg_a", "msg_b"}
    assert claim(6) == claim(50) == set()
    assert due(db, 50) == []
    record(db, TAKEN)
    assert due(db, 51) == ["b"]
    assert claim(51) == {"msg_b"}


def test_a_callback_waits_for_its_tasks_result(db: Database) -> None:
    submit(db, "a", "b")
    assert due(db, 100) == []
    end(db, "a")
    assert due(db, 4.9) == []
    assert due(db, 5) == ["a"]
    assert stored(db, "b").status is DeliveryStatus.WAITING


@pytest.mark.parametrize("way", ["cancel", "expire", "die", "delete"])
def test_every_end_of_a_task_releases_its_callback(db: Database, way: str) -> None:
    submit(db, "a")
    if way == "cancel":
        db.write(lambda conn: control.cancel(conn, "ada", "a", 5))
    elif way == "expire":
        db.write(lambda conn: housekeeping.expire(conn, 1001))
    elif way == "delete":
        db.write(lambda conn: control.fail_endpoint(conn, "end", "the endpoint was deleted", 5))
    else:
        for now in (1, 2, 3):
            db.write(lambda conn, at=now: queue.claim(conn, "end", 1, "me", 30, at))
            db.write(lambda conn, at=now: queue.give_back(conn, ["a"], "was killed", at, died=True))
    assert due(db, 2000) == ["a"]


def test_a_task_that_is_submitted_twice_has_one_callback(db: Database) -> None:
    submit(db, "a", key="once")
    submit(db, "b", key="once")
    end(db, "a")
    assert due(db, 10) == ["a"]
    assert db.read(lambda conn: outbox.of_task(conn, "ada", "b")) is None


def test_what_is_under_way_is_not_due(db: Database) -> None:
    submit(db, "a", "b")
    end(db, "a")
    end(db, "b", now=6)
    assert due(db, 10) == ["a", "b"]
    assert due(db, 10, under_way={"example.org": ["msg_a"]}) == ["b"]


def test_a_receiver_leaves_half_of_the_places_to_others(db: Database) -> None:
    submit(db, *(f"slow{i}" for i in range(9)), url="https://slow.example")
    submit(db, "quick", url="https://zest.example")
    for task_id in (*(f"slow{i}" for i in range(9)), "quick"):
        end(db, task_id)
    assert due(db, 10, room=4) == ["slow0", "slow1", "quick"]
    assert due(db, 10, room=2, under_way={"slow.example": ["msg_slow0", "msg_slow1"]}) == ["quick"]


def test_receivers_take_turns(db: Database) -> None:
    for name in ("a", "b", "c"):
        submit(db, name, url=f"https://{name}.example")
        end(db, name)
    assert due(db, 10, room=2, after="a.example") == ["b", "c"]
    assert due(db, 10, room=2, after="c.example") == ["a", "b"]


def test_owners_are_those_who_have_callbacks_to_be_sent(db: Database) -> None:
    for owner, task_id in (("bob", "a"), ("eve", "b"), ("ada", "c")):
        submit(db, task_id, owner=owner)
    end(db, "a")
    end(db, "c")
    assert db.read(outbox.owners) == ["ada", "bob"]


def test_what_was_taken_is_done(db: Database) -> None:
    submit(db, "a")
    end(db, "a")
    record(db, TAKEN)
    delivery = stored(db)
    assert (delivery.status, delivery.finished_at, delivery.attempts) == (
        DeliveryStatus.DELIVERED,
        10,
        (TAKEN,),
    )
    assert due(db, 1e9) == []


def test_what_failed_is_tried_again_with_growing_pauses_and_then_given_up(db: Database) -> None:
    submit(db, "a")
    end(db, "a")
    at = 10.0
    for pause in RETRY_SECONDS:
        record(db, failed(at))
        assert due(db, at + pause - 0.1) == []
        at += pause
        assert due(db, at) == ["a"]
    record(db, failed(at))
    assert stored(db).status is DeliveryStatus.FAILED
    assert due(db, 1e9) == []


def test_a_receiver_that_is_gone_is_not_asked_again(db: Database) -> None:
    submit(db, "a")
    end(db, "a")
    record(db, failed(10, outbox.GONE_STATUS))
    assert stored(db).status is DeliveryStatus.FAILED


def test_only_the_last_attempts_are_kept(db: Database) -> None:
    submit(db, "a")
    end(db, "a")
    for at in range(30):
        record(db, failed(at))
        db.write(lambda conn: outbox.send_again(conn, "ada", "a", 1))
    assert [attempt.at for attempt in stored(db).attempts] == list(range(10, 30))


def test_what_was_given_up_can_be_sent_again_with_all_its_tries(db: Database) -> None:
    submit(db, "a")
    end(db, "a")
    record(db, failed(10, outbox.GONE_STATUS))
    again = db.write(lambda conn: outbox.send_again(conn, "ada", "a", 50))
    assert again is not None
    assert (again.status, again.failures) == (DeliveryStatus.PENDING, 0)
    assert due(db, 50) == ["a"]


def test_a_task_without_a_result_has_nothing_to_send_again(db: Database) -> None:
    submit(db, "a")
    again = db.write(lambda conn: outbox.send_again(conn, "ada", "a", 50))
    assert again is not None
    assert again.status is DeliveryStatus.WAITING
    assert due(db, 100) == []


def test_somebody_elses_callback_is_not_found(db: Database) -> None:
    submit(db, "a")
    end(db, "a")
    assert db.read(lambda conn: outbox.of_task(conn, "bob", "a")) is None
    assert db.write(lambda conn: outbox.send_again(conn, "bob", "a", 50)) is None


def test_a_callback_goes_with_its_task(db: Database) -> None:
    submit(db, "a", "b")
    end(db, "a")
    db.write(lambda conn: housekeeping.delete_old(conn, housekeeping.find_old(conn, 1000, 100)))
    assert db.read(lambda conn: outbox.of_task(conn, "ada", "a")) is None
    assert stored(db, "b").status is DeliveryStatus.WAITING


def test_no_secret_is_in_a_repr(db: Database) -> None:
    submit(db, "a")
    assert stored(db).auth == {"kind": "basic", "username": "ada", "password": "secret"}
    assert "secret" not in repr(stored(db))
    assert "secret" not in repr(Callback(URL, {"password": "secret"}))
