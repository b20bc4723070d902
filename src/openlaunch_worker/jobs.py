"""One request under way, and the stream that answers it."""

import asyncio
import threading
from collections.abc import Callable
from contextvars import ContextVar
from enum import Enum
from time import monotonic, sleep
from typing import Any, Final, Protocol

from openlaunch_worker.documents import Limits
from openlaunch_worker.files import Scratch
from openlaunch_worker.frames import STREAM_WINDOW, Flags
from openlaunch_worker.outbox import Outbox

# Plain ints: an operation on the flags' own type costs more than all the rest of reading a request's head.
_STREAM: Final = int(Flags.STREAM)
_PICKLED: Final = int(Flags.PICKLED)
_FOREIGN: Final = int(Flags.FOREIGN)
_BINARY: Final = int(Flags.ACCEPTS)


HELD_SECONDS: Final = 0.001
PAUSE_SECONDS: Final = 50e-6


class Download(Protocol):
    """Fetches the arguments of a job, from any thread."""

    def fetch(self, limits: Limits) -> Any: ...

    def abort(self) -> None: ...


class Stop(Enum):
    """Why a job is stopped from outside."""

    CANCELLED = "cancelled"
    EXPIRED = "its deadline has passed"


class Stream:
    """The chunks of one job.

    One producer pushes, in a thread or on the loop; the loop sends, and hears of credit. The producer waits
    while `STREAM_WINDOW` bytes are under way, so that one item may go over it, however large it is.
    """

    def __init__(self, request_id: int, outbox: Outbox) -> None:
        self.stopped = False
        self._request_id = request_id
        self._outbox = outbox
        self._pending: list[bytes] = []
        self._posted = False
        self._lock = threading.Lock()
        # Two counters with one writer each need no lock.
        self._produced = 0
        self._granted = 0
        self._room: threading.Event | asyncio.Event | None = None
        self._last_sent = 0.0

    def push_and_wait(self, data: bytes, alone: bool) -> bool:
        """Send, and wait for room; called from a thread. Return False once it is stopped and nothing more is wanted.

        The loop sends what has come since it was woken; but a generator that computes keeps it from that for as long
        as Python's threads hold the interpreter. So where `HELD_SECONDS` have passed since it was last done here, all
        that there is goes out from here: the first item, and any that comes after a while, is on its way when this
        returns. `alone` is as `push` has it.
        """
        self._pending.append(data)
        self._produced += len(data)
        now = monotonic()
        if now - self._last_sent > HELD_SECONDS:
            first = not self._last_sent
            self._last_sent = now
            self._pass_on(self._outbox.chunk_now)
            if first and alone:
                sleep(PAUSE_SECONDS)
        elif not self._posted:
            self._posted = True
            self._outbox.post(self.send)
        if self.is_full():
            # Made known before the next look: credit that comes in between is seen by one or the other.
            room = self._room = threading.Event()
            while self.is_full():
                room.wait()
                room.clear()
        return not self.stopped

    def push(self, data: bytes, alone: bool) -> None:
        """Send, whether there is room or not; called on the loop.

        The first item is on its way when this returns. `alone`: nothing else runs in this worker, so that there is
        time to let it be passed on. Where cores are few, the server and the client need this one for that.
        """
        self._produced += len(data)
        self._outbox.chunk(self._request_id, data)
        if not self._last_sent:
            self._last_sent = monotonic()
            self._outbox.flush()
            if alone:
                sleep(PAUSE_SECONDS)  # the loop has nothing else to do, and waits 1 ms at least

    async def wait(self) -> None:
        room = self._room = asyncio.Event()
        while self.is_full():
            await room.wait()
            room.clear()

    def send(self) -> None:
        """Send what has been pushed as one chunk; called on the loop."""
        self._posted = False  # before the items are taken: one pushed after them posts again
        self._pass_on(self._outbox.chunk)

    def _pass_on(self, write: Callable[[int, bytes], None]) -> None:
        with self._lock:  # of what both threads take, the first taken is the first sent
            count = len(self._pending)
            if count:
                data = self._pending[0] if count == 1 else b"".join(self._pending[:count])
                del self._pending[:count]
                write(self._request_id, data)

    def grant(self, size: int) -> None:
        """Count `size` bytes as passed on, which makes room; called on the loop."""
        self._granted += size
        self._wake()

    def stop(self) -> None:
        """End the stream, because its client wants nothing more; called on the loop."""
        self.stopped = True
        self._wake()

    def is_full(self) -> bool:
        return self._produced - self._granted >= STREAM_WINDOW and not self.stopped

    def _wake(self) -> None:
        if (room := self._room) is not None:
            room.set()


CURRENT: "Final[ContextVar[Job]]" = ContextVar("job")
"""The request for which user code runs."""


class Routed:
    """What predict is called with where a request names a route of its own."""

    __slots__ = ("args", "route")

    def __init__(self, route: str, args: Any) -> None:
        self.route = route
        self.args = args


class Job:
    """One request under way. `args` is what predict is called with; a transfer may have to fetch it before.

    `route` is the request's `destination_path`. `deadline` is on the loop's clock; `limit` is the same as seconds
    from the request's arrival, 0 for no bound. `size` is that of the request in bytes.
    `scratch` has the files that it was given. `typed`: its caller reads what values were. `accepts`: it reads bytes.
    `tensors`: which of those of its value it reads, and how.
    `sent` is there once the job's thread is interrupted, and held until the exception is on its way.
    """

    __slots__ = (
        *("args", "deadline", "foreign", "id", "limit", "route"),
        *(
            "accepts",
            "scratch",
            "sent",
            "size",
            "stop",
            "stream",
            "task",
            "tensors",
            "traceparent",
            "transfer",
            "typed",
            "wants_pickle",
        ),
    )

    def __init__(self, request_id: int, flags: int, limit: float, now: float, outbox: Outbox) -> None:
        self.id = request_id
        self.args: Any = None
        self.route: str | None = None
        self.traceparent: object = None
        self.size = 0
        self.transfer: Download | None = None
        self.scratch: Scratch | None = None
        self.typed = False
        self.tensors: dict[str, Any] | None = None
        self.limit = limit
        self.deadline = now + limit if limit > 0 else float("inf")
        self.wants_pickle = flags & _PICKLED > 0
        self.accepts = flags & _BINARY
        self.foreign = flags & _FOREIGN > 0
        self.stream = Stream(request_id, outbox) if flags & _STREAM else None
        self.task: asyncio.Task[Any] | None = None
        self.stop: Stop | None = None
        self.sent: threading.Lock | None = None

    def begin_task(self) -> bool:
        """Call this first in the task that runs the job. False: the job has been stopped, there is nothing to run.

        Only from now on may the task be cancelled: one that is cancelled before it has begun runs none of its
        code, and so would not answer.
        """
        self.task = asyncio.current_task()
        return self.stop is None
