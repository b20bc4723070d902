"""How tasks end that no result ends, whatever database is behind the queue: crashes, expiry, cancels, purges."""

import json
from dataclasses import replace
from functools import partial

from example_bundles import make_bundle
from queue_calls import cancel, claim, complete, die, get, stored, submit, success, task
from store_drivers import Database

from openlaunch.store import batch_jobs, bundles
from openlaunch.store.records import BatchJobRecord
from openlaunch.tasks import control, housekeeping, lookups, queue
from openlaunch.tasks.housekeeping import FIRST, OldTasks, Place
from openlaunch.tasks.queue import Finished, NewTask, failed
from openlaunch.tasks.states import State
from openlaunch.wire.batch_jobs import BatchJobStatus, SerializationFormat
from openlaunch.wire.endpoint_settings import EndpointSpec


def test_a_task_that_keeps_killing_its_worker_fails_with_the_reason(db: Database) -> None:
    submit(db, task("a", max_attempts=2))
    claim(db)
    assert die(db, "a") == [("a", State.PENDING)]
    assert claim(db) == ["a"]
    assert die(db, "a") == [("a", State.FAILURE)]
    record = stored(db, "a")
    reason = "the task's worker was killed by SIGKILL; that was attempt 2 of 2"
    assert (record.state, record.status_code, record.reason) == (State.FAILURE, 500, reason)
    assert json.loads(record.result or b"")["traceback"] == reason


def test_a_task_that_is_handed_back_has_lost_no_attempt(db: Database) -> None:
    submit(db, task("a", max_attempts=1))
    for _ in range(3):
        assert claim(db) == ["a"]
        assert die(db, "a", died=False) == [("a", State.PENDING)]
    assert stored(db, "a").attempts == 0


def test_a_server_that_was_taken_for_dead_hands_back_and_ends_nothing_of_another_one(db: Database) -> None:
    submit(db, task("a", max_attempts=1))
    assert claim(db, lease_owner="hung") == ["a"]
    db.write(lambda conn: housekeeping.recover(conn, 100))
    assert claim(db, lease_owner="other") == ["a"]
    late = replace(failed("a", "the deadline passed", 504), lease_owner="hung")
    for died in (True, False):
        back = partial(queue.give_back, ids=["a"], reason="is away", now=101, died=died, lease_owner="hung")
        assert db.write(back) == []
    assert complete(db, late) == set()
    assert stored(db, "a").state is State.STARTED
    assert stored(db, "a").attempts == 1
    own = partial(queue.give_back, ids=["a"], reason="stops", now=102, died=False, lease_owner="other")
    assert db.write(own) == [("a", State.PENDING)]
    assert claim(db, lease_owner="other") == ["a"]
    assert complete(db, replace(late, lease_owner="other")) == {"a"}
    assert stored(db, "a").status_code == 504


def test_only_running_tasks_go_back(db: Database) -> None:
    submit(db, task("waits"), task("done"))
    complete(db, success("done"))
    assert die(db, "waits", "done", "gone") == []


def test_many_tasks_go_back_at_once(db: Database) -> None:
    ids = [f"t{n:04}" for n in range(2000)]
    submit(db, *map(task, ids))
    assert len(claim(db, limit=2000)) == 2000
    assert sorted(task_id for task_id, _ in die(db, *ids)) == ids
    assert db.read(lambda conn: lookups.queued_counts(conn, 0)) == {"end": {"ada": 2000}}


def test_tasks_are_recovered_when_their_lease_has_run_out(db: Database) -> None:
    submit(db, task("a"))
    claim(db, now=1)
    assert db.write(lambda conn: housekeeping.recover(conn, 31)) == []
    assert db.write(lambda conn: queue.renew(conn, "me", ["a", "b"], 30, 20)) == 1
    assert db.write(lambda conn: queue.renew(conn, "me", [], 30, 30)) == 0
    assert db.write(lambda conn: queue.renew(conn, "you", ["a"], 30, 30)) == 0
    assert db.write(lambda conn: housekeeping.recover(conn, 32)) == []
    assert db.write(lambda conn: housekeeping.recover(conn, 50.5)) == ["a"]
    assert (stored(db, "a").state, stored(db, "a").attempts) == (State.PENDING, 0)
    assert claim(db) == ["a"]


def test_a_task_that_ends_each_server_that_runs_it_does_not_run_for_ever(db: Database) -> None:
    submit(db, task("a"), task("b"))
    for server in range(housekeeping.MAX_RECOVERIES + 1):
        assert claim(db, limit=1, lease_owner=str(server)) == ["a"]
        assert db.write(lambda conn: housekeeping.recover(conn, 2, ["new"])) == ["a"]
    assert (stored(db, "a").state, stored(db, "a").reason) == (State.FAILURE, housekeeping.LOST)
    assert claim(db) == ["b"]


def test_leases_of_dead_servers_end_at_once_and_those_of_living_ones_do_not(db: Database) -> None:
    submit(db, *(task(f"t{n:04}") for n in range(1200)))
    claim(db, limit=1198, lease_owner="dead")
    claim(db, limit=1, lease_owner="other")
    claim(db, lease_owner="me")
    assert db.write(lambda conn: housekeeping.recover(conn, 2)) == []
    assert len(db.write(lambda conn: housekeeping.recover(conn, 2, ["me", "other"]))) == 1198
    assert [stored(db, f"t119{n}").state for n in (7, 8, 9)] == [State.PENDING, State.STARTED, State.STARTED]


# Expiry, cancel, the end of an endpoint, purge.


def test_a_task_that_waited_too_long_fails(db: Database) -> None:
    submit(db, task("late", expires_at=5), task("runs", expires_at=5), task("waits", expires_at=6))
    claim(db, limit=2, now=1)
    die(db, "late")
    assert db.write(lambda conn: housekeeping.expire(conn, 4.9)) == []
    assert db.write(lambda conn: housekeeping.expire(conn, 5)) == ["late"]
    record = stored(db, "late")
    assert (record.state, record.status_code) == (State.FAILURE, 504)
    assert "it waited 5 s" in (record.reason or "")
    assert stored(db, "runs").state is State.STARTED


def test_one_call_expires_no_more_than_its_limit(db: Database) -> None:
    submit(db, *(task(f"t{n}", expires_at=5) for n in range(5)))
    assert len(db.write(lambda conn: housekeeping.expire(conn, 9, limit=3))) == 3
    assert len(db.write(lambda conn: housekeeping.expire(conn, 9, limit=3))) == 2


def test_cancel(db: Database) -> None:
    submit(db, task("started"), task("pending"), task("done"))
    claim(db, limit=1)
    complete(db, success("done"))
    assert cancel(db, "pending", owner="bob") is None
    assert [cancel(db, name) for name in ("started", "pending", "done", "gone")] == [
        State.STARTED,
        State.PENDING,
        State.SUCCESS,
        None,
    ]
    assert [stored(db, name).state for name in ("started", "pending", "done")] == [
        State.CANCELLED,
        State.CANCELLED,
        State.SUCCESS,
    ]
    assert complete(db, success("started")) == set()
    assert claim(db) == []


def test_an_endpoints_end_fails_its_tasks(db: Database) -> None:
    submit(db, task("a"), task("b"), task("done"), task("other", endpoint_id="other"))
    claim(db, limit=1)
    complete(db, success("done"))
    ended = db.write(lambda conn: control.fail_endpoint(conn, "end", "the endpoint was deleted", 4))
    assert ended == ["a", "b"]
    record = stored(db, "a")
    assert (record.state, record.status_code, record.finished_at) == (State.FAILURE, 404, 4)
    assert json.loads(record.result or b"")["traceback"] == "the endpoint was deleted"
    assert [stored(db, name).state for name in ("done", "other")] == [State.SUCCESS, State.PENDING]
    assert complete(db, success("a")) == set()


def test_one_call_ends_no_more_of_an_endpoints_tasks_than_its_limit(db: Database) -> None:
    submit(db, *(task(f"t{n}") for n in range(5)))
    claim(db, limit=1)
    counts = [
        len(db.write(lambda conn: control.fail_endpoint(conn, "end", "deleted", 4, limit=3)))
        for _ in range(3)
    ]
    assert counts == [3, 2, 0]


def delete_old(
    db: Database, now: float = 99, retention_seconds: float = 1, after: Place = FIRST, limit: int = 500
) -> OldTasks:
    old = db.read(lambda conn: housekeeping.find_old(conn, now, retention_seconds, after, limit))
    db.write(lambda conn: housekeeping.delete_old(conn, old))
    return old


def test_purge_deletes_old_tasks_and_names_all_their_artifacts(db: Database) -> None:
    submit(db, NewTask("old", "end", "ada", 1000, 3, payload_key="in/old"), task("new"), task("waits"))
    complete(db, Finished("old", State.SUCCESS, 200, result_key="out/old"), now=2)
    complete(db, success("new"), now=3)
    old = delete_old(db, now=12, retention_seconds=10)
    assert old.keys == ["in/old", "out/old"]
    assert get(db, "old") is None
    assert delete_old(db, now=12, retention_seconds=10).ids == []
    assert set(db.read(lambda conn: lookups.progress_of(conn, "ada", ["old", "new", "waits"]))) == {
        "new",
        "waits",
    }


def test_one_call_purges_no_more_than_its_limit(db: Database) -> None:
    submit(db, *(task(f"t{n}") for n in range(5)))
    complete(db, *(success(f"t{n}") for n in range(5)))
    old = delete_old(db, limit=3)
    assert old.more
    assert len(db.read(lambda conn: lookups.list_page(conn, "ada"))[0]) == 2
    assert not delete_old(db, after=old.place, limit=3).more
    assert db.read(lambda conn: lookups.list_page(conn, "ada"))[0] == []


def test_large_tasks_are_deleted_in_smaller_numbers(db: Database) -> None:
    size = housekeeping.MAX_DELETED_BYTES // 2
    submit(db, *(NewTask(f"t{n}", "end", "ada", 1000, 3, payload=b"x" * size) for n in range(4)))
    complete(db, *(Finished(f"t{n}", State.FAILURE, 500, result=b"{}") for n in range(4)))
    old = delete_old(db)
    assert (old.ids, old.more) == (["t0", "t1"], True)


def test_what_has_to_stay_is_passed_once(db: Database) -> None:
    spec = EndpointSpec(min_workers=0, max_workers=1, per_worker=1, cpus=1, memory=1, storage=1)
    kind = BatchJobStatus.RUNNING, None, "in", SerializationFormat.JSON
    job = BatchJobRecord("job", "ada", "bun", *kind, {}, spec, 60, 0)
    submit(db, task("mine"), *(task(f"t{n}", owner="job") for n in range(3)), task("last"))
    complete(db, *(success(name) for name in ("mine", "t0", "t1", "t2", "last")))
    db.write(lambda conn: bundles.insert(conn, make_bundle("bun")))
    db.write(lambda conn: batch_jobs.insert(conn, job))
    first = delete_old(db, limit=3)
    assert (first.ids, first.more) == (["mine"], True)
    assert delete_old(db, after=first.place, limit=3).ids == ["last"]
