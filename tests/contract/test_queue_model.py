"""The queue against a simple model of it, in long random runs with virtual time."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import Connection, select
from store_drivers import OPENERS, Database, database

from openlaunch.store.queue_sql import queue_sql
from openlaunch.store.tables import tasks
from openlaunch.tasks import control, housekeeping, lookups, queue
from openlaunch.tasks.queue import Finished, NewTask
from openlaunch.tasks.states import State

LEASE = 10
RETENTION = 40
MAX_ATTEMPTS = 2

ENDPOINTS = st.sampled_from(["end0", "end1"])
OWNERS = st.sampled_from(["ada", "bob"])
SERVERS = st.sampled_from(["s0", "s1"])
IDS = st.integers(0, 30).map(lambda number: f"t{number}")


@dataclass
class Expected:
    """What a task should look like."""

    number: int
    endpoint: str
    owner: str
    priority: int
    expires_at: float
    key: str | None
    state: State = State.PENDING
    attempts: int = 0
    recoveries: int = 0
    server: str | None = None
    lease_until: float = 0
    finished_at: float | None = None
    result: bytes | None = None

    def end(self, state: State, now: float, result: bytes | None = None) -> None:
        self.state, self.finished_at, self.result = state, now, result
        self.server = None

    def back(self, attempts: int) -> None:
        self.state, self.attempts, self.server = State.PENDING, attempts, None


def empty(conn: Connection) -> None:
    """Delete all tasks."""
    for number in conn.execute(select(tasks.c.id, tasks.c.seq)).fetchall():
        queue.complete(conn, [Finished(number.id, State.SUCCESS, 200)], 0)
        queue_sql(conn).delete(conn, [number.seq])


class QueueMachine(RuleBasedStateMachine):
    """Each rule does the same to the queue and to the model, and compares what they answer."""

    db: Database

    @initialize()
    def start(self) -> None:
        self.now = 0.0
        self.submitted = 0
        self.model: dict[str, Expected] = {}
        self.db.write(empty)

    def in_state(self, *states: State) -> dict[str, Expected]:
        return {name: task for name, task in self.model.items() if task.state in states}

    @rule(seconds=st.integers(1, 15))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds

    @rule(
        endpoint=ENDPOINTS,
        owner=OWNERS,
        priority=st.integers(-1, 1),
        patience=st.integers(1, 30),
        key=st.sampled_from([None, None, "k1", "k2"]),
    )
    def submit(self, endpoint: str, owner: str, priority: int, patience: int, key: str | None) -> None:
        task_id = f"t{self.submitted}"
        expected = Expected(self.submitted, endpoint, owner, priority, self.now + patience, key)
        first = next((n for n, t in self.model.items() if key and (t.owner, t.key) == (owner, key)), task_id)
        new = NewTask(
            task_id,
            endpoint,
            owner,
            expected.expires_at,
            MAX_ATTEMPTS,
            payload=b"p",
            priority=priority,
            idempotency_key=key,
        )
        assert self.db.write(lambda conn: queue.submit(conn, [new], self.now)) == [first]
        if first == task_id:
            self.model[task_id] = expected
        self.submitted += 1

    @rule(endpoint=ENDPOINTS, server=SERVERS, limit=st.integers(1, 4), after=st.just("") | OWNERS)
    def claim(self, endpoint: str, server: str, limit: int, after: str) -> None:
        waiting = self.waiting_by_owner(endpoint)
        in_turn = sorted(waiting, key=lambda owner: (owner <= after, owner))
        claimed = self.db.write(
            lambda conn: queue.claim(conn, endpoint, limit, server, LEASE, self.now, after)
        )
        assert bool(claimed) == bool(waiting)
        assert len(claimed) <= limit
        assert [one.owner for one in claimed][: len(in_turn)] == in_turn[:limit]
        for owner, names in waiting.items():
            taken = [one.id for one in claimed if one.owner == owner]
            assert taken == names[: len(taken)]
            assert len(taken) >= min(limit // len(waiting), len(names))
        for one in claimed:
            task = self.model[one.id]
            task.state, task.server, task.lease_until = State.STARTED, server, self.now + LEASE
            task.attempts += 1
            assert one.attempts == task.attempts

    def waiting_by_owner(self, endpoint: str) -> dict[str, list[str]]:
        pending = self.in_state(State.PENDING).items()
        here = [(n, t) for n, t in pending if t.endpoint == endpoint and t.expires_at > self.now]
        here.sort(key=lambda item: (-item[1].priority, item[1].number))
        return {owner: [n for n, t in here if t.owner == owner] for owner in {t.owner for _, t in here}}

    @rule(task_id=IDS, state=st.sampled_from([State.SUCCESS, State.FAILURE]), result=st.binary(max_size=3))
    def complete(self, task_id: str, state: State, result: bytes) -> None:
        task = self.in_state(State.PENDING, State.STARTED).get(task_id)
        ended = Finished(task_id, state, 200, result)
        recorded = self.db.write(lambda conn: queue.complete(conn, [ended], self.now))
        assert recorded == ({task_id} if task else set())
        if task:
            task.end(state, self.now, result)

    @rule(task_id=IDS, died=st.booleans())
    def give_back(self, task_id: str, died: bool) -> None:
        task = self.in_state(State.STARTED).get(task_id)
        outcome = self.db.write(
            lambda conn: queue.give_back(conn, [task_id], "was killed", self.now, died=died)
        )
        if task is None:
            assert outcome == []
        elif died and task.attempts >= MAX_ATTEMPTS:
            assert outcome == [(task_id, State.FAILURE)]
            task.end(State.FAILURE, self.now)
        else:
            assert outcome == [(task_id, State.PENDING)]
            task.back(task.attempts if died else task.attempts - 1)

    @rule(server=SERVERS)
    def renew(self, server: str) -> None:
        started = self.in_state(State.STARTED)
        mine = [task for task in started.values() if task.server == server]
        assert self.db.write(lambda conn: queue.renew(conn, server, list(started), LEASE, self.now)) == len(
            mine
        )
        for task in mine:
            task.lease_until = self.now + LEASE

    @rule(server=st.none() | SERVERS)
    def recover(self, server: str | None) -> None:
        started = self.in_state(State.STARTED).items()
        lost = [(n, t) for n, t in started if t.lease_until < self.now or (server and t.server != server)]
        recovered = self.db.write(
            lambda conn: housekeeping.recover(conn, self.now, [server] if server else None)
        )
        assert sorted(recovered) == sorted(name for name, _ in lost)
        for _, task in lost:
            if task.recoveries >= housekeeping.MAX_RECOVERIES:
                task.end(State.FAILURE, self.now)
            else:
                task.recoveries += 1
                task.back(task.attempts - 1)

    @rule()
    def expire(self) -> None:
        late = {n: t for n, t in self.in_state(State.PENDING).items() if t.expires_at <= self.now}
        assert self.db.write(lambda conn: housekeeping.expire(conn, self.now)) == sorted(late)
        for task in late.values():
            task.end(State.FAILURE, self.now)

    @rule(task_id=IDS, owner=OWNERS)
    def cancel(self, task_id: str, owner: str) -> None:
        task = self.model.get(task_id)
        mine = task if task and task.owner == owner else None
        before = self.db.write(lambda conn: control.cancel(conn, owner, task_id, self.now))
        assert before == (mine.state if mine else None)
        if mine and not mine.state.done:
            mine.end(State.CANCELLED, self.now)

    @rule(endpoint=ENDPOINTS)
    def fail_endpoint(self, endpoint: str) -> None:
        open_ones = self.in_state(State.PENDING, State.STARTED).items()
        ended = {name: task for name, task in open_ones if task.endpoint == endpoint}
        failed = self.db.write(lambda conn: control.fail_endpoint(conn, endpoint, "deleted", self.now))
        assert failed == sorted(ended)
        for task in ended.values():
            task.end(State.FAILURE, self.now)

    @rule()
    def purge(self) -> None:
        old = self.db.read(lambda conn: housekeeping.find_old(conn, self.now, RETENTION))
        assert (old.keys, old.more) == ([], False)
        self.db.write(lambda conn: housekeeping.delete_old(conn, old))
        for name, task in list(self.model.items()):
            if task.finished_at is not None and task.finished_at <= self.now - RETENTION:
                del self.model[name]

    @invariant()
    def both_look_the_same(self) -> None:
        for owner in ("ada", "bob"):
            page, _ = self.db.read(lambda conn, owner=owner: lookups.list_page(conn, owner, limit=1000))
            mine = {name: task for name, task in self.model.items() if task.owner == owner}
            assert [record.id for record in page] == list(reversed(mine))
            for record in page:
                task = mine[record.id]
                seen = (record.state, record.attempts, record.finished_at)
                assert seen == (task.state, task.attempts, task.finished_at)

    @invariant()
    def results_are_kept(self) -> None:
        known = {name: task for name, task in self.model.items() if task.result is not None}
        records = [
            record
            for owner in ("ada", "bob")
            for record in self.db.read(lambda conn, owner=owner: lookups.get_many(conn, owner, list(known)))
        ]
        assert {record.id: record.result for record in records} == {n: t.result for n, t in known.items()}

    @invariant()
    def counts_are_right(self) -> None:
        pending = Counter((task.endpoint, task.owner) for task in self.in_state(State.PENDING).values())
        counts = self.db.read(lambda conn: lookups.queued_counts(conn, 0))
        assert {(e, owner): n for e, owners in counts.items() for owner, n in owners.items()} == pending


@pytest.fixture
def machine(name: str) -> Iterator[type[QueueMachine]]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        db = stack.enter_context(database(OPENERS[name], folder))
        yield type("Machine", (QueueMachine,), {"db": db})


@pytest.mark.parametrize(
    ("name", "examples"),
    [("sqlite", 12), *(pytest.param(name, 50, marks=pytest.mark.slow) for name in OPENERS)],
)
def test_the_queue_does_what_the_model_does(machine: type[QueueMachine], examples: int) -> None:
    checks = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            suppress_health_check=checks,
            database=None,
        ),
    )
