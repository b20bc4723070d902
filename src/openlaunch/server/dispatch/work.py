"""What a worker's slot is used for: one request of a client, or one durable task."""

from typing import Protocol

from openlaunch.errors import APIError, DeadlineExceeded, Unavailable, WorkerDied
from openlaunch.server.prediction.deadlines import Deadlines
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
    """A request whose client waits. It ends exactly once, and its deadline is watched until then.

    A subclass says what its end leads to: `answered` or `failed`.
    """

    __slots__ = ("_deadlines", "_link", "_request_id", "body", "cancelled", "deadline", "flags")
    alone = False

    def __init__(
        self, body: bytes, flags: Flags, deadline: float, deadlines: Deadlines | None = None
    ) -> None:
        self.body = body
        self.flags = flags
        self.deadline = deadline
        self.cancelled = False
        """Whether it has ended, and so needs no slot any more."""
        self._deadlines = deadlines
        self._link: Sender | None = None
        self._request_id = 0

    def answered(self, outcome: int, payload: bytes) -> None:
        """The worker's answer has come."""
        raise NotImplementedError

    def failed(self, error: APIError) -> None:
        """There will be no answer."""
        raise NotImplementedError

    @property
    def running(self) -> bool:
        """Whether it has been given to a worker."""
        return self._link is not None

    def abandon(self, error: APIError | None = None) -> None:
        """End because nobody wants the answer: a running request is cancelled in its worker.

        `error` is for the client; None: there is no client any more.
        """
        if self._end():
            if self._link is not None:
                self._link.cancel(self._request_id)
            if error is not None:
                self.failed(error)

    def expired(self) -> None:
        """End because the deadline has passed."""
        where = "ran in its worker" if self.running else "waited for a worker"
        self.abandon(DeadlineExceeded(f"the deadline passed while the request {where}"))

    def started(self, link: Sender, request_id: int) -> None:
        self._link = link
        self._request_id = request_id

    def chunk(self, data: bytes) -> None:
        """Ignore a piece of a stream, which only a worker that is wrong sends here."""

    def finished(self, outcome: int, payload: bytes) -> None:
        if self._end():
            self.answered(outcome, payload)

    def lost(self, reason: str) -> None:
        self.refused(
            WorkerDied(f"the worker that ran this request {reason}; whether the model ran is not known")
        )

    def refused(self, error: APIError) -> None:
        if self._end():
            self.failed(_for_caller(error, self.flags))

    def _end(self) -> bool:
        """Whether this is the first end, which is the one that counts."""
        if self.cancelled:
            return False
        self.cancelled = True
        if self._deadlines is not None:
            self._deadlines.discard(self)
        return True


class StreamCall(Call):
    """A request that is answered in pieces; a subclass says what `piece` does with one.

    The worker may be `STREAM_WINDOW` bytes ahead; `passed_on` grants it more as the client takes them, so a
    slow client slows the generator down and nothing grows in between.
    """

    __slots__ = ("_taken",)

    def __init__(
        self, body: bytes, flags: Flags, deadline: float, deadlines: Deadlines | None = None
    ) -> None:
        super().__init__(body, flags | Flags.STREAM, deadline, deadlines)
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


def _for_caller(error: APIError, flags: Flags) -> APIError:
    """Hide why an endpoint has no worker from callers who do not own it: the reason quotes the model."""
    if flags & Flags.FOREIGN and error.code == "endpoint_failed":
        return Unavailable(
            "the endpoint has no worker; only its owner is told why",
            code=error.code,
            retry_after=error.retry_after,
        )
    return error
