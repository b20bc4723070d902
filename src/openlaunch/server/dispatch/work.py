"""What a worker's slot is used for: one request of a client, or one durable task."""

from typing import Protocol

from openlaunch.errors import APIError, DeadlineExceeded, WorkerDied
from openlaunch_worker.frames import STREAM_WINDOW, Flags


class Sender(Protocol):
    """The link that work runs on."""

    def cancel(self, request_id: int) -> None:
        """Tell the worker that the answer is not wanted any more."""
        ...

    def credit(self, request_id: int, size: int) -> None:
        """Tell the worker that so many bytes of a stream have been passed on."""
        ...


class Work(Protocol):
    """Something that waits for a slot, runs in it, and ends exactly once, in one of the three last ways."""

    flags: Flags
    body: bytes
    deadline: float
    """When the answer is not wanted any more, on the event loop's clock."""
    alone: bool
    """Whether nothing else may run in the worker meanwhile."""

    @property
    def cancelled(self) -> bool:
        """Whether it needs no slot any more."""
        ...

    def started(self, link: Sender, request_id: int) -> None:
        """It has been sent to a worker."""
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


class Call:
    """A request whose client waits. A subclass says what its end leads to: `answered` or `failed`, once."""

    __slots__ = ("_link", "_request_id", "body", "cancelled", "deadline", "flags")
    alone = False

    def __init__(self, body: bytes, flags: Flags, deadline: float) -> None:
        self.body = body
        self.flags = flags
        self.deadline = deadline
        self.cancelled = False
        """Whether it has ended, and so needs no slot any more."""
        self._link: Sender | None = None
        self._request_id = 0

    def answered(self, outcome: int, payload: bytes) -> None:
        """The worker's answer has come."""
        raise NotImplementedError

    def failed(self, error: APIError) -> None:
        """There will be none."""
        raise NotImplementedError

    @property
    def running(self) -> bool:
        """Whether it has been given to a worker."""
        return self._link is not None

    def abandon(self, error: APIError | None) -> None:
        """Nobody wants the answer any more: a running request is cancelled in its worker.

        `error` is for the client; None: there is no client any more.
        """
        if self.cancelled:
            return
        self.cancelled = True
        if self._link is not None:
            self._link.cancel(self._request_id)
        if error is not None:
            self.failed(error)

    def expired(self) -> None:
        """Its deadline has passed."""
        where = "ran in its worker" if self.running else "waited for a worker"
        self.abandon(DeadlineExceeded(f"the deadline passed while the request {where}"))

    def started(self, link: Sender, request_id: int) -> None:
        self._link = link
        self._request_id = request_id

    def chunk(self, data: bytes) -> None:
        """A sync request gets no chunks; a worker that sends one is wrong, and is ignored."""

    def finished(self, outcome: int, payload: bytes) -> None:
        if not self.cancelled:
            self.cancelled = True
            self.answered(outcome, payload)

    def lost(self, reason: str) -> None:
        self.refused(
            WorkerDied(f"the worker that ran this request {reason}; whether the model ran is not known")
        )

    def refused(self, error: APIError) -> None:
        if not self.cancelled:
            self.cancelled = True
            self.failed(error)


class StreamCall(Call):
    """A request that is answered in pieces; a subclass says what `piece` does with one.

    The worker may be `STREAM_WINDOW` bytes ahead; `passed_on` grants it more as the client takes them, so a
    slow client slows the generator down and nothing grows in between.
    """

    __slots__ = ("_taken",)

    def __init__(self, body: bytes, flags: Flags, deadline: float) -> None:
        super().__init__(body, flags | Flags.STREAM, deadline)
        self._taken = 0

    def piece(self, data: bytes) -> None:
        """A piece has come."""
        raise NotImplementedError

    def chunk(self, data: bytes) -> None:
        if not self.cancelled:
            self.piece(data)

    def passed_on(self, size: int) -> None:
        """The client has taken so many bytes; tell the worker, in steps that cost few frames."""
        self._taken += size
        if self._taken >= STREAM_WINDOW // 4 and self._link is not None and not self.cancelled:
            self._link.credit(self._request_id, self._taken)
            self._taken = 0
