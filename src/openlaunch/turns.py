"""Owners take turns at whatever they share, so that nobody waits for all that another has sent or runs."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar

T = TypeVar("T")

MAX_CHARGED = 1000
"""Number of owners whose use is remembered while nothing of theirs waits."""


class FairQueue(Generic[T]):
    """First in, first out for each owner; the owners take turns. With one owner a plain queue.

    Taking and adding are in constant time. Where `charge` says what owners were given, it is the turn of the one who
    was given least, which takes a look at all owners who wait.
    """

    def __init__(self) -> None:
        self._given: dict[str, float] = {}
        """What owners were given, those who wait and some others; empty where nobody is charged."""
        self._usual = 0.0
        """What an item takes on average, which is charged when it is taken, until it is known."""
        self._by_owner: dict[str, deque[T]] = {}
        self._order: deque[str] = deque()
        self.size = 0
        """How many items there are; read on every request, where a call would cost more."""

    def __iter__(self) -> Iterator[T]:
        for items in self._by_owner.values():
            yield from items

    def append(self, owner: str, item: T, *, first: bool = False) -> None:
        """Add an item behind its owner's others, or before; a new owner's turn is after that of all who wait."""
        items = self._by_owner.get(owner)
        if items is None:
            items = self._by_owner[owner] = deque()
            if self._given:
                # Who comes anew has no credit for the time away.
                least = min((self._given.get(other, 0.0) for other in self._order), default=0.0)
                self._given[owner] = max(self._given.get(owner, 0.0), least)
            self._order.append(owner)
        if first:
            items.appendleft(item)
        else:
            items.append(item)
        self.size += 1

    def popleft(self) -> T:
        """Take the next item, or raise IndexError."""
        owner = self._order.popleft() if not self._given else self._take_least()
        items = self._by_owner[owner]
        item = items.popleft()
        self.size -= 1
        if items:
            self._order.append(owner)
        else:
            del self._by_owner[owner]
        return item

    def _take_least(self) -> str:
        owner = min(self._order, key=lambda name: self._given.get(name, 0.0))
        self._order.remove(owner)
        self._given[owner] = self._given.get(owner, 0.0) + self._usual
        return owner

    def charge(self, owner: str, amount: float, *, waited: bool) -> None:
        """Note what an owner's item took in all; `waited`: it was in the queue, and the usual was charged then."""
        paid = self._usual if waited else 0.0
        self._usual = amount if not self._given else self._usual + (amount - self._usual) / 16
        if len(self._given) > MAX_CHARGED and owner not in self._given:
            self._given = {name: self._given.get(name, 0.0) for name in self._order}
        self._given[owner] = self._given.get(owner, 0.0) + amount - paid

    def take(self, allowed: Callable[[str], bool]) -> T | None:
        """Take the next item of an owner who is allowed one; None: there is none."""
        for _ in range(len(self._order)):
            if allowed(self._order[0]):
                return self.popleft()
            self._order.rotate(-1)
        return None

    def ahead_of(self, owner: str) -> int:
        """Return how many items would be taken before one that this owner adds now."""
        mine = len(self._by_owner.get(owner, ()))
        return mine + sum(
            min(len(items), mine + 1) for other, items in self._by_owner.items() if other != owner
        )

    def make_room_for(self, owner: str) -> T | None:
        """Take out the newest item of the owner who has most, for one with less; None: it is this owner."""
        most = max(self._by_owner, key=lambda name: len(self._by_owner[name]), default=owner)
        if len(self._by_owner.get(most, ())) <= len(self._by_owner.get(owner, ())) + 1:
            return None
        self.size -= 1
        return self._by_owner[most].pop()

    def remove(self, owner: str, item: T) -> bool:
        """Take out an item, and return whether it was there."""
        items = self._by_owner.get(owner)
        if items is None or item not in items:
            return False
        items.remove(item)
        self.size -= 1
        if not items:
            del self._by_owner[owner]
            self._order.remove(owner)
        return True

    def keep(self, wanted: Callable[[T], bool]) -> None:
        for owner, items in list(self._by_owner.items()):
            kept = deque(item for item in items if wanted(item))
            self.size -= len(items) - len(kept)
            self._by_owner[owner] = kept
            if not kept:
                del self._by_owner[owner]
                self._order.remove(owner)

    def clear(self) -> list[T]:
        items = list(self)
        self._by_owner.clear()
        self._order.clear()
        self.size = 0
        return items


class Turns:
    """A number of places, for which owners who wait take turns. Used in the event loop's thread.

    An owner may hold as many places as are free: of eight, the first owner gets four, the next two, and the third
    one. So an owner whose work never ends leaves places for others, and so do two of them.
    """

    def __init__(self, places: int) -> None:
        self._free = places
        self._held: dict[str, int] = {}
        self._waiting: FairQueue[asyncio.Future[None]] = FairQueue()

    def room(self, owner: str) -> int:
        """Return how many places the owner may take now."""
        return max(0, (self._free - self._held.get(owner, 0) + 1) // 2)

    def take(self, owner: str) -> bool:
        """Take a place for the owner until `give_back`; return False where there is none for this owner."""
        held = self._held.get(owner, 0)
        if self._free <= held:
            return False
        self._free -= 1
        self._held[owner] = held + 1
        return True

    def give_back(self, owner: str) -> None:
        """Free a place of the owner's, and give it to the next owner who waits."""
        self._free += 1
        held = self._held[owner]
        if held > 1:
            self._held[owner] = held - 1
        else:
            del self._held[owner]
        while self._waiting.size and (waiter := self._waiting.take(self.take)) is not None:
            if not waiter.cancelled():  # who was cancelled in this turn of the loop gives the place back
                waiter.set_result(None)

    @asynccontextmanager
    async def of(self, owner: str) -> AsyncIterator[None]:
        """Hold a place for the owner, after waiting for it."""
        await self._wait(owner)
        try:
            yield
        finally:
            self.give_back(owner)

    async def run(self, owner: str, start: Callable[[], Awaitable[T]]) -> T:
        """Hold a place until the work has ended, which may be after this was cancelled: a thread runs on."""
        await self._wait(owner)
        try:
            work = asyncio.ensure_future(start())
        except BaseException:
            self.give_back(owner)
            raise
        work.add_done_callback(lambda _: self.give_back(owner))
        return await asyncio.shield(work)

    async def _wait(self, owner: str) -> None:
        if self.take(owner):
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(owner, waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if not self._waiting.remove(owner, waiter):
                self.give_back(owner)  # it came in the moment of the cancellation
            raise


class LoopTurns:
    """Steps in the event loop's thread: one in each turn of the loop, for which owners who wait take turns.

    So what is answered at once, as predictions are, waits for one step and not for hundreds of them.
    """

    def __init__(self) -> None:
        self._taken = False
        """Whether a step has been taken since the loop's last turn."""
        self._waiting: FairQueue[Callable[[], None]] = FairQueue()

    def take(self, owner: str, step: Callable[[], None]) -> None:
        """Call `step`, which raises nothing, in a turn of the loop in which no other step is taken: now or later."""
        if self._taken:
            self._waiting.append(owner, step)
        else:
            self._take()
            step()

    async def run(self, owner: str, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine, of which all that is done between two of its waits is a step."""
        return await _InTurns(self, owner, work)

    def turn(self, owner: str) -> Generator[Any, None, None]:
        """Wait until a step may be taken."""
        if not self._taken:
            self._take()
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def come() -> None:
            if not turn.done():  # it was cancelled
                turn.set_result(None)

        self._waiting.append(owner, come)
        yield from turn

    def _take(self) -> None:
        self._taken = True
        asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        if self._waiting.size:
            self._take()
            self._waiting.popleft()()
        else:
            self._taken = False


class _InTurns(Awaitable[T]):
    """A coroutine that waits for a turn before each of its steps.

    An error that ends what it waits for, as a cancellation does, reaches it at once.
    """

    def __init__(self, turns: LoopTurns, owner: str, work: Coroutine[Any, Any, T]) -> None:
        self._turns, self._owner, self._work = turns, owner, work

    def __await__(self) -> Generator[Any, None, T]:
        steps: Generator[Any, Any, T] = self._work.__await__()
        error: BaseException | None = None
        while True:
            try:
                if error is None:
                    yield from self._turns.turn(self._owner)
            except BaseException as raised:
                error = raised
            try:
                waits_for = next(steps) if error is None else steps.throw(error)
            except StopIteration as end:
                value: T = end.value
                return value
            error = None
            try:
                yield waits_for
            except BaseException as raised:
                error = raised
