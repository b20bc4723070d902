"""The threads in which every driver runs operations: one that writes, in groups, and a few that read."""

import asyncio
import queue
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine

from openlaunch.errors import Unavailable
from openlaunch.store.group_commit import Operation, Outcome
from openlaunch.turns import FairQueue, Turns

T = TypeVar("T")
Explain = Callable[[Exception], Exception]
"""Makes an error of the database one for callers."""

MAX_GROUP = 512
"""The most operations that one transaction takes."""
GROUP_SECONDS = 0.05
"""The time after which a transaction takes no further operation: the next one begins with other owners' turns."""
READERS = 4


class _Admission:
    """The operations that have been accepted and have not ended: a bounded number, of which owners take turns."""

    def __init__(self, most: int, what: str) -> None:
        self.closed = False
        self._places, self._what = Turns(most), what
        self.leave = self._places.give_back

    def enter(self, owner: str) -> None:
        """Take a place until `leave`; raise Unavailable where there is none."""
        if self.closed:
            raise Unavailable("the server is stopping", code="stopping")
        if not self._places.take(owner):
            raise Unavailable(
                f"too many {self._what} already, of all owners together or of this one; retry in a second",
                code="store_overloaded",
                retry_after=1,
            )


class _Write:
    """An operation on its way to disk, and the future of its result."""

    __slots__ = ("future", "op", "outcome", "owner")

    def __init__(self, op: Callable[[Connection], Any], owner: str, future: "asyncio.Future[Any]") -> None:
        self.op = op
        self.owner = owner
        self.future = future
        self.outcome = Outcome()

    def resolve(self) -> None:
        if self.future.done():
            return
        if self.outcome.error is not None:
            self.future.set_exception(self.outcome.error)
        else:
            self.future.set_result(self.outcome.result)


class Writer:
    """One thread that runs operations in groups: what arrives while a group runs goes into the next one."""

    def __init__(
        self, commit: Callable[[Iterator[Operation]], Sequence[Outcome]], explained: Explain, max_pending: int
    ) -> None:
        """Start the thread.

        `commit` asks for as many operations as its transaction takes, and returns what became of each. Where it
        raises, all that wait fail with that: they would only wait as long for the same.
        """
        self.transactions = 0
        """Transactions so far, each of a group of operations."""
        self.on_commit: Callable[[float, int], None] = lambda seconds, operations: None
        self._commit, self._explained = commit, explained
        self._admission = _Admission(max_pending, "writes wait for the disk")
        self._waiting: FairQueue[_Write] = FairQueue()
        self._lock = threading.Lock()
        self._arrived: queue.SimpleQueue[bool] = queue.SimpleQueue()
        """True for each operation that waits, then False when no more come."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="store-write", daemon=True)
        self._thread.start()

    async def write(self, op: Callable[[Connection], T], owner: str) -> T:
        self._admission.enter(owner)
        future: asyncio.Future[T] = self._loop.create_future()
        with self._lock:
            self._waiting.append(owner, _Write(op, owner, future))
        self._arrived.put(True)
        return await future

    async def close(self) -> None:
        """Run what has been accepted, then end the thread; later calls wait for the same."""
        if not self._admission.closed:
            self._admission.closed = True
            self._arrived.put(False)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        while self._arrived.get():
            self._loop.call_soon_threadsafe(self._resolve, self._next_group())

    def _next_group(self) -> Sequence[_Write]:
        group, began = [self._next()], time.monotonic()
        try:
            outcomes = self._commit(self._operations(group))
        except Exception as error:
            group += self._others(MAX_GROUP)
            outcomes = [Outcome(error=error)] * len(group)
        self.transactions += 1
        self.on_commit(time.monotonic() - began, len(group))
        for write, outcome in zip(group, outcomes, strict=True):
            write.outcome = (
                outcome if outcome.error is None else Outcome(error=self._explained(outcome.error))
            )
        return group

    def _operations(self, group: list[_Write]) -> Iterator[Operation]:
        """Yield what waits and add it to the group, until the transaction is long enough."""
        ends = time.monotonic() + GROUP_SECONDS
        yield group[0].op
        for write in self._others(min(self._waiting.size, MAX_GROUP - 1)):
            group.append(write)
            yield write.op
            if time.monotonic() > ends:
                return

    def _others(self, most: int) -> Iterator[_Write]:
        for _ in range(most):
            try:
                more = self._arrived.get_nowait()
            except queue.Empty:
                return
            if not more:
                self._arrived.put(False)
                return
            yield self._next()

    def _next(self) -> _Write:
        with self._lock:
            return self._waiting.popleft()

    def _resolve(self, group: Sequence[_Write]) -> None:
        for write in group:
            self._admission.leave(write.owner)
            write.resolve()


class Readers:
    """A few threads that read, for which owners take turns."""

    def __init__(self, engine: Engine, explained: Explain, max_pending: int) -> None:
        self._engine, self._explained = engine, explained
        self._admission = _Admission(max_pending, "reads wait for a connection")
        self._turns = Turns(READERS)
        self._threads = ThreadPoolExecutor(READERS, thread_name_prefix="store-read")

    async def read(self, op: Callable[[Connection], T], owner: str) -> T:
        self._admission.enter(owner)
        run_in_thread = asyncio.get_running_loop().run_in_executor
        try:
            return await self._turns.run(owner, lambda: run_in_thread(self._threads, self._read, op))
        finally:
            self._admission.leave(owner)

    def refuse(self) -> None:
        """Accept no further operation; those that were accepted still run."""
        self._admission.closed = True

    def close(self) -> None:
        self._threads.shutdown()

    def _read(self, op: Callable[[Connection], T]) -> T:
        try:
            with self._engine.connect() as connection:
                return op(connection)
        except Exception as error:
            explained = self._explained(error)
            if explained is error:
                raise
            raise explained from getattr(error, "orig", error)


class ThreadedStore(ABC):
    """The part of `store.base.Store` that runs operations, in both kinds of threads; a driver commits the groups."""

    def __init__(self, writer: Engine, readers: Engine, max_pending: int) -> None:
        self._engines = writer, readers
        self._writer = Writer(self._commit, self._explained, max_pending)
        self._readers = Readers(readers, self._explained, max_pending)

    @abstractmethod
    def _commit(self, operations: Iterator[Operation]) -> Sequence[Outcome]:
        """Run operations in one transaction; called in the thread that writes, as `Writer` says."""

    @abstractmethod
    def _explained(self, error: Exception) -> Exception:
        """Make the error for callers."""

    @property
    def transactions(self) -> int:
        """Write transactions so far, each of a group of operations."""
        return self._writer.transactions

    def on_commit(self, call: Callable[[float, int], None]) -> None:
        self._writer.on_commit = call

    async def write(self, op: Callable[[Connection], T], owner: str = "") -> T:
        return await self._writer.write(op, owner)

    async def read(self, op: Callable[[Connection], T], owner: str = "") -> T:
        return await self._readers.read(op, owner)

    async def ahead_of(self, clock: Callable[[], float]) -> float:
        return 0.0

    async def close(self) -> None:
        self._readers.refuse()
        await self._writer.close()
        self._readers.close()
        for engine in self._engines:
            engine.dispose()
