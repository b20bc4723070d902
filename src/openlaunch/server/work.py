"""What a worker's slot is used for: one request of a client, or one durable task."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from openlaunch.errors import APIError, WorkerDied
from openlaunch_worker.frames import CREDIT_BODY, STREAM_WINDOW, Flags, Kind, encode

Sender = Callable[[bytes], None]


class Work(Protocol):
    """Something that waits for a slot, runs in it, and ends exactly once, in one of the three last ways."""

    flags: Flags
    body: bytes
    deadline: float
    """When the answer is not wanted any more, on the event loop's clock."""

    @property
    def cancelled(self) -> bool:
        """Whether it needs no slot any more."""
        ...

    def started(self, cancel: Callable[[], None], send: Sender, request_id: int) -> None:
        """It has been sent to a worker; `cancel` tells the worker to stop, `send` writes frames to it."""
        ...

    def chunk(self, data: bytes) -> None:
        """The worker sent a piece of a stream."""
        ...

    def finished(self, outcome: int, payload: bytes) -> None:
        """The worker answered."""
        ...

    def lost(self, reason: str) -> None:
        """The worker died while it ran this."""
        ...

    def refused(self, error: APIError) -> None:
        """It was waiting for a slot and will not get one."""
        ...


def _nothing() -> None:
    pass


class Call:
    """A sync request: the gateway awaits `answer`, a future of (outcome, payload)."""

    __slots__ = ("_cancel", "answer", "body", "deadline", "flags")

    def __init__(self, body: bytes, flags: Flags, deadline: float, loop: asyncio.AbstractEventLoop) -> None:
        self.body = body
        self.flags = flags
        self.deadline = deadline
        self.answer: asyncio.Future[tuple[int, bytes]] = loop.create_future()
        self._cancel = _nothing

    def abandon(self, error: Exception) -> None:
        """Nobody wants the answer any more: a running request is cancelled in its worker."""
        self._fail(error)
        self._cancel()

    @property
    def running(self) -> bool:
        """Whether it has been given to a worker."""
        return self._cancel is not _nothing

    @property
    def cancelled(self) -> bool:
        """Whether it needs no slot any more."""
        return self.answer.done()

    def started(self, cancel: Callable[[], None], send: Sender, request_id: int) -> None:
        self._cancel = cancel

    def chunk(self, data: bytes) -> None:
        """A sync request gets no chunks; a worker that sends one is wrong, and is ignored."""

    def finished(self, outcome: int, payload: bytes) -> None:
        if not self.answer.done():
            self.answer.set_result((outcome, payload))

    def lost(self, reason: str) -> None:
        self.refused(
            WorkerDied(f"the worker that ran this request {reason}; whether the model ran is not known")
        )

    def refused(self, error: APIError) -> None:
        self._fail(error)

    def _fail(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)
            self.answer.exception()  # asked for, so that the loop does not report it when nobody waits any more


class Stream(Call):
    """A streaming request: `answer` is the end, and `next_pieces` gives what has come so far.

    The worker may be `STREAM_WINDOW` bytes ahead; `passed_on` grants it more as the client takes them, so a
    slow client slows the generator down and nothing grows in between.
    """

    __slots__ = ("_pieces", "_request_id", "_send", "_taken", "_wake")

    def __init__(self, body: bytes, flags: Flags, deadline: float, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(body, flags | Flags.STREAM, deadline, loop)
        self._pieces: list[bytes] = []
        self._wake = asyncio.Event()
        self._send: Sender | None = None
        self._request_id = 0
        self._taken = 0
        self.answer.add_done_callback(lambda _: self._wake.set())

    def started(self, cancel: Callable[[], None], send: Sender, request_id: int) -> None:
        super().started(cancel, send, request_id)
        self._send = send
        self._request_id = request_id

    def chunk(self, data: bytes) -> None:
        self._pieces.append(data)
        self._wake.set()

    async def next_pieces(self) -> bytes:
        """All that has come since the last call, waiting for at least one piece; empty at the end."""
        while not self._pieces and not self.answer.done():
            self._wake.clear()
            await self._wake.wait()
        pieces, self._pieces = self._pieces, []
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def passed_on(self, size: int) -> None:
        """The client has taken so many bytes; tell the worker, in steps that cost few frames."""
        self._taken += size
        if self._taken >= STREAM_WINDOW // 4 and self._send is not None and not self.answer.done():
            self._send(encode(Kind.CREDIT, self._request_id, CREDIT_BODY.pack(self._taken)))
            self._taken = 0
