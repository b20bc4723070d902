"""Brings new tasks into the store: what waits for the disk goes together, with few statements."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection

from openlaunch.errors import Unavailable
from openlaunch.server import clock
from openlaunch.server.bodies import BodyBudget, Held
from openlaunch.server.dispatch.lane import Lane
from openlaunch.server.queue.claiming import MAX_CLAIM, Claimer
from openlaunch.server.queue.shared import MAX_TOGETHER, MAX_TOGETHER_BYTES, Shared
from openlaunch.store.base import OUTCOME_UNKNOWN
from openlaunch.tasks import queue
from openlaunch.tasks.queue import ClaimedTask, Finished, NewTask

MAX_WAITING_BYTES = 256 * 1024 * 1024
"""Tasks in memory that are not stored yet; past it, and past an owner's share of it, submissions get 503."""
_TASK_BYTES = 600
"""What a task takes beside its payload."""

WAIT_SECONDS = 5.0
"""How long submissions wait for a database that is a service: it may stand still, and answer later, or never."""
WAIT_FOR_FILE_SECONDS = 30.0
"""How long submissions wait for a database that is a file: a busy disk does not make them fail."""

Stored = tuple[list[str], list[ClaimedTask]]
"""The ids of the tasks of a submission, and tasks that were claimed with it."""


@dataclass(eq=False, slots=True)
class Submission:
    """The tasks of one request, those of them that have ended already, and for how many there are slots."""

    new: Sequence[NewTask]
    failed: Sequence[Finished]
    wanted: int
    check: Callable[[Connection], None] | None = None
    """Raises in the transaction where the tasks are not to be stored."""
    stored: "asyncio.Future[Stored]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    @property
    def size(self) -> int:
        """The bytes that its tasks take in memory."""
        return sum([len(task.payload or b"") + _TASK_BYTES for task in self.new])


class _Together:
    """Submissions that are stored together: others join until the store's thread begins with them."""

    def __init__(self, first: Submission, size: int, held: Held) -> None:
        """Begin with one of this size; raise Unavailable where there is no memory for it."""
        held.resize(size)
        self.submissions = [first]
        self._room, self._size = MAX_TOGETHER - len(first.new), size
        self._held = held
        self._begun = False
        self._lock = threading.Lock()

    def joined(self, one: Submission, size: int) -> bool:
        """Let the submission join, if there is room and time; raise Unavailable where there is no memory for it."""
        with self._lock:
            room, size = self._room - len(one.new), self._size + size
            if self._begun or room < 0 or size > MAX_TOGETHER_BYTES:
                return False
            self._held.resize(size)
            self._room, self._size = room, size
            self.submissions.append(one)
            return True

    def let_go(self) -> None:
        """Count the memory of the submissions no longer: they are stored, or never will be."""
        self._held.resize(0)

    def begin(self) -> list[Submission]:
        """Return the submissions, to which no other one joins from now on."""
        with self._lock:
            self._begun = True
            return self.submissions

    def give_up(self, refusal: Callable[[], Unavailable]) -> None:
        """Refuse the submissions, and store none of them, unless the store's thread has begun with them."""
        with self._lock:
            refused = self.submissions
            if self._begun:
                refusal = _unknown
            else:
                self._begun, self.submissions = True, []
                self.let_go()
        for one in refused:
            if not one.stored.done():
                one.stored.set_exception(refusal())


class Inbox:
    """Stores submissions: those of one owner and endpoint that wait for the disk at the same time go together.

    A database that is asked over a connection takes a hundred tasks of one statement in the time of a few statements.
    """

    def __init__(self, shared: Shared, claimer: Claimer) -> None:
        self._store, self._background = shared.store, shared.background
        self._claimer = claimer
        self._wait_seconds = WAIT_SECONDS if shared.store.is_service else WAIT_FOR_FILE_SECONDS
        self._memory = BodyBudget(MAX_WAITING_BYTES, "tasks that are being stored")
        self._last: dict[tuple[str, str], _Together] = {}
        """The submissions that others of the same endpoint and owner may join."""

    async def put(self, lane: Lane, owner: str, one: Submission) -> Stored:
        """Store the tasks of a submission, all or none, and claim tasks for the slots that there are.

        Raises:
            Unprocessable: the idempotency key was used for something else.
            Unavailable: the store can't be written, or does not answer in time, or too much waits for it. With the
                code `OUTCOME_UNKNOWN` the tasks may be stored.
        """
        key, size = (lane.endpoint.id, owner), one.size
        last = self._last.get(key)
        if last is None or not last.joined(one, size):
            self._last[key] = together = _Together(one, size, Held(self._memory, owner))
            # Not in the caller, which may go away: the others wait for it too.
            settling = self._background.spawn(self._settle(lane, owner, together))
            settling.add_done_callback(lambda _: together.give_up(_stopping))
        return await one.stored

    async def _settle(self, lane: Lane, owner: str, together: _Together) -> None:
        late = asyncio.get_running_loop().call_later(self._wait_seconds, together.give_up, _late)
        try:
            outcomes = await self._write(lane, owner, together)
        except Exception as error:
            if len(together.begin()) == 1 or isinstance(error, Unavailable):
                _fail(together.begin(), error)
                return
            for one in together.submissions:  # each succeeds or fails alone; all are counted until the last
                await self._settle(lane, owner, _Together(one, 0, Held(self._memory, owner)))
        else:
            for one, outcome in zip(together.submissions, outcomes, strict=True):
                if one.stored.done():  # nobody waits for it any longer
                    await self._claimer.run(lane, outcome[1])
                else:
                    one.stored.set_result(outcome)
        finally:
            late.cancel()
            together.let_go()
            if self._last.get((lane.endpoint.id, owner)) is together:
                del self._last[lane.endpoint.id, owner]

    async def _write(self, lane: Lane, owner: str, together: _Together) -> list[Stored]:
        claim = self._claimer.claim_of(lane)

        def store(conn: Connection) -> list[Stored]:
            some, now = together.begin(), clock.now()
            for check in filter(None, (one.check for one in some)):
                check(conn)
            ids = queue.submit(conn, [task for one in some for task in one.new], now)
            queue.complete(conn, [task for one in some for task in one.failed], now)
            wanted = min(sum(one.wanted for one in some), MAX_CLAIM)
            return _shared_out(some, ids, claim(conn, wanted) if wanted else [])

        return await self._store.write(store, owner)


def _fail(submissions: Sequence[Submission], error: Exception) -> None:
    for one in submissions:
        if not one.stored.done():
            one.stored.set_exception(error)


def _stopping() -> Unavailable:
    return Unavailable("the server is stopping", code="stopping", retry_after=2)


def _late() -> Unavailable:
    return Unavailable(
        "the database does not answer; nothing was stored", code="store_unavailable", retry_after=2
    )


def _unknown() -> Unavailable:
    return Unavailable(
        "the database has not answered yet whether the task is stored: send it again with the same Idempotency-Key, "
        "or look for it first",
        code=OUTCOME_UNKNOWN,
        retry_after=2,
    )


def _shared_out(some: Sequence[Submission], ids: list[str], claimed: list[ClaimedTask]) -> list[Stored]:
    """Give each submission the ids of its own tasks, and the first one what was claimed."""
    stored: list[Stored] = []
    for one in some:
        stored.append((ids[: len(one.new)], claimed))
        ids, claimed = ids[len(one.new) :], []
    return stored
