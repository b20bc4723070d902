"""What a worker's slot is used for: one request of a client, or one durable task."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from time import monotonic
from typing import Final, NamedTuple, Protocol

from openlaunch.errors import APIError, DeadlineExceeded, ServerError, Unavailable, WorkerDied
from openlaunch.server.asgi import server_fault
from openlaunch.server.metrics.counts import PredictionCounts
from openlaunch.server.prediction.deadlines import Deadlines
from openlaunch.server.prediction.idempotency import Claim
from openlaunch_worker.documents import About
from openlaunch_worker.frames import MIN_CHUNK_BYTES, STREAM_WINDOW, Body, Flags, FrameError, Kind

log = logging.getLogger(__name__)

QUICK_BYTES = 16 * 1024
MAX_EVENTS = STREAM_WINDOW // MIN_CHUNK_BYTES
"""Limit on the events of a stream that come at once, in a part of over `QUICK_BYTES`."""

_UNCOUNTED = PredictionCounts()
_DIED = WorkerDied("")


class Sender(Protocol):
    """The link that work runs on."""

    read_at: float
    """When the worker was last heard, by `monotonic`: all that is passed on meanwhile has come together."""

    def cancel(self, request_id: int) -> None:
        """Tell the worker that the answer is no longer wanted."""
        ...

    def credit(self, request_id: int, size: int) -> None:
        """Tell the worker that `size` bytes of a stream have been passed on."""
        ...

    def failed(self, name: str, reason: Callable[[], str]) -> None:
        """Count the failure of a prediction that ran there, and write it to the endpoint's log."""
        ...


TASK_NAME: Final = "task-"
"""What the names of tasks begin with that are kept; their ids follow."""


class Kept(NamedTuple):
    """The name under which another server may take a request up whose server is gone, and what is kept of it.

    The fields are those of `nodes.calls.Keep`.
    """

    name: str
    max_bytes: int
    ended_seconds: float
    left_seconds: float


class Work(ABC):
    """Something that waits for a slot and runs in it. It ends exactly once, and its deadline is watched until then.

    A subclass says what its end leads to: `answered`, `failed` or `broken`. What ends it works for others too, such
    as the link of a worker, so an error that a subclass raises is logged here, and is the end of this work alone.
    """

    __slots__ = (
        *("_deadlines", "_link", "_request_id"),
        *("began", "body", "cancelled", "deadline", "flags", "numbers", "started_at"),
    )
    alone: bool = False
    """Whether nothing else may run in the worker meanwhile."""
    answer_kind = int(Kind.RESULT)
    """The kind of the frame that answers it."""
    first_item_after: float = 0.0
    """How many seconds a stream ran before its first item came."""
    claim: Claim | None = None
    """The claim of its Idempotency-Key, which each end but a worker's answer releases."""

    def __init__(self, body: Body, flags: Flags, deadline: float, deadlines: Deadlines | None = None) -> None:
        self.body = body
        self.flags = flags
        self.deadline = deadline
        """When the answer is no longer wanted, on the event loop's clock."""
        self.cancelled = False
        """Whether it has ended, and so no longer needs a slot."""
        self.numbers = _UNCOUNTED
        """Where its end and its times are counted: of its endpoint, and once it runs of its worker's generation."""
        self.began = 0.0
        """When it began to wait for a slot; 0: it had one at once."""
        self.started_at = 0.0
        """When it was given to a worker; 0: it was not."""
        self._deadlines = deadlines
        self._link: Sender | None = None
        self._request_id = 0

    @property
    @abstractmethod
    def name(self) -> str:
        """What logs call it: what it is, and its id."""

    @property
    @abstractmethod
    def owner(self) -> str:
        """The owner that has sent it, in whose turn it runs."""

    @abstractmethod
    def answered(self, outcome: int, payload: Body) -> None:
        """Take the worker's answer, which has come."""

    @abstractmethod
    def failed(self, error: APIError) -> None:
        """Note that there will be no answer."""

    def broken(self, error: ServerError) -> None:
        """Note that the server failed on this, so that it is not tried again."""
        self.failed(error)

    def died(self, reason: str) -> None:
        """Note that the worker died while it ran this."""
        self.failed(
            WorkerDied(f"the worker that ran this request {reason}; whether the model ran is not known")
        )

    def displaced(self, reason: str) -> None:
        """Note that the node of the worker is away that ran this, which tells nothing against the work."""
        self.died(reason)

    @abstractmethod
    def expired(self) -> None:
        """Note that the deadline has passed."""

    @property
    def running(self) -> bool:
        """Whether it has been given to a worker."""
        return self._link is not None

    @property
    def has_begun(self) -> bool:
        """Whether a part of its answer has come."""
        return False

    def unserved(self, waits: Callable[["Work"], None]) -> None:
        """Note that the worker has not run this, because its server is gone; `waits` has it wait for another one."""
        self._link, self.began, self.started_at = None, self.began or self.started_at, 0.0
        waits(self)

    def started(self, link: Sender, request_id: int) -> None:
        """Run on this link from now on."""
        self._link = link
        self._request_id = request_id
        self.started_at = monotonic()

    def count_end(self, error: APIError | None) -> None:
        """Count an end that is not a worker's answer; without an error, its client has gone."""
        self.numbers.ended_otherwise(error, self.began, self.started_at)
        if self.claim is not None:
            self.claim.release()

    def head(self, payload: Body) -> None:
        """Take the head of an answer. Raise `FrameError` if the worker may not send it."""
        raise FrameError("a HEAD for a request that does not pass through to an HTTP server")

    @property
    def idempotency(self) -> str | None:
        """A name that is the same when this runs again; None: it does not, or nothing shows that it is the same."""
        return None if self.claim is None else self.claim.name

    @property
    def kept(self) -> Kept | None:
        """Under which name this may outlive the server, where it runs on a node; None: it ends with the server."""
        return None

    @property
    def priority(self) -> int:
        """The priority of a task, which those that it submits have too."""
        return 0

    def about(self) -> About:
        """Return what a function that takes a context may know of this."""
        return About(caller=self.owner)

    def note(self, kind: int, payload: Body) -> None:
        """Take a progress or a partial value. Raise `FrameError` if the worker may not send it."""
        raise FrameError(f"a {Kind(kind).name} for a request that nobody hears before its answer")

    def check_events(self, data: Body) -> None:
        """Raise `FrameError` if there are too many events in a part of a stream: each of them costs time."""
        if Flags.RAW not in self.flags and data.count(b"\n") > 2 * MAX_EVENTS:
            raise FrameError(f"over {MAX_EVENTS} events of a stream at once")

    def check_chunk(self) -> None:
        """Raise `FrameError` if the worker may not send a piece of a stream now."""
        raise FrameError("a CHUNK for a request that is not a stream")

    def chunk(self, data: Body) -> None:
        """Take a piece of a stream. Raise `FrameError` if the worker may not send it."""
        self.check_chunk()

    def finished(self, outcome: int, payload: Body) -> None:
        """End with the worker's answer."""
        if self.end():
            self.numbers.answered(outcome, self.began, self.started_at)
            try:
                self.answered(outcome, payload)
            except Exception as fault:
                self._fail_by(fault)

    def lost(self, reason: str, *, with_node: bool = False) -> None:
        """End because the worker died while it ran this, or its whole node is away."""
        if self.end():
            self.count_end(_DIED)
            self._guarded(self.displaced if with_node else self.died, reason)

    def refused(self, error: APIError) -> None:
        """End without an answer."""
        if self.end():
            self.count_end(error)
            self._guarded(self.failed, error)

    def fail_on(self, error: ServerError) -> None:
        """End because the server failed on this; what runs in the worker is cancelled."""
        if self.end():
            self.count_end(error)
            if self._link is not None:
                self._link.cancel(self._request_id)
            self._guarded(self.broken, error)

    def _guarded(self, call: Callable[..., None], *args: object) -> None:
        try:
            call(*args)
        except Exception as fault:
            self._fail_by(fault)

    def _fail_by(self, fault: Exception) -> None:
        error = server_fault(log, fault)
        if self.claim is not None:
            self.claim.release()
        try:
            self.broken(error)
        except Exception:
            log.exception("the end of the request %s could not be passed on", error.request_id)

    def abandon(self, error: APIError | None = None) -> None:
        """End because nobody wants the answer: a running request is cancelled in its worker.

        `error` is for the client; None: the client has gone.
        """
        if self.end():
            self.count_end(error)
            if self._link is not None:
                self._link.cancel(self._request_id)
            if error is not None:
                self._guarded(self.failed, error)

    def note_failure(self, reason: str) -> None:
        """Count and log a failure that the worker has not answered with; nothing where it was in none."""
        if self._link is not None:
            self._link.failed(self.name, lambda: reason)

    def end(self) -> bool:
        """End, unless it has ended: only the first end counts, and is answered with True."""
        if self.cancelled:
            return False
        self.cancelled = True
        if self._deadlines is not None:
            self._deadlines.discard(self)
        return True


class Call(Work):
    """A request whose client waits."""

    __slots__ = ()

    def expired(self) -> None:
        where = "ran in its worker" if self.running else "waited for a worker"
        text = f"the deadline passed while the request {where}"
        self.note_failure(text)
        self.abandon(DeadlineExceeded(text))

    def gone(self) -> None:
        """Stop the work: the client went away."""
        self.abandon()

    def refused(self, error: APIError) -> None:
        super().refused(_for_caller(error, self.flags))


class StreamCall(Call):
    """A request that is answered in pieces; a subclass says what `piece` does with one.

    The worker may be `STREAM_WINDOW` bytes ahead; `passed_on` grants it more as the client takes them, so a
    slow client slows the generator down and nothing grows in between.
    """

    __slots__ = ("_ahead", "_last_at", "_taken", "first_item_after")
    answer_kind = int(Kind.END)

    def __init__(self, body: Body, flags: Flags, deadline: float, deadlines: Deadlines | None = None) -> None:
        # Most have no other flag, and `|` finds a member of the enum, which takes as long as the rest here.
        streams = Flags.STREAM if flags is Flags.NONE else flags | Flags.STREAM
        super().__init__(body, streams, deadline, deadlines)
        self._taken = 0
        self._last_at = self.first_item_after = 0.0
        self._ahead = 0
        """Bytes that have come and for which the worker was not granted others."""

    @abstractmethod
    def piece(self, data: Body) -> None:
        """Take a piece that has come."""

    @property
    def has_begun(self) -> bool:
        return self._last_at > 0

    def check_chunk(self) -> None:
        if self._ahead >= STREAM_WINDOW:
            raise FrameError("a CHUNK beyond the credit of its stream")

    def chunk(self, data: Body) -> None:
        if self._ahead >= STREAM_WINDOW:
            self.check_chunk()
        size = len(data)
        if size > QUICK_BYTES:
            self.check_events(data)
        self._ahead += max(MIN_CHUNK_BYTES, size)
        self.numbers.response_bytes += size
        assert self._link is not None
        if (now := self._link.read_at) != self._last_at:
            self._note_items(now)
        if not self.cancelled:
            try:
                self.piece(data)
            except Exception as fault:
                self.fail_on(server_fault(log, fault))

    def _note_items(self, now: float) -> None:
        """Count when something came after what came before, or how long it took to come as the first."""
        numbers = self.numbers
        if self._last_at:
            numbers.gaps.observe(now - self._last_at)
        else:
            numbers.first_item.observe(max(0.0, now - (self.began or self.started_at)))
            self.first_item_after = now - self.started_at
        self._last_at = now

    def finished(self, outcome: int, payload: Body) -> None:
        if payload and not self._last_at and not self.cancelled:
            self._note_items(monotonic())  # it is short: all of it has come at once
        super().finished(outcome, payload)

    def passed_on(self, size: int) -> None:
        """Tell the worker that the client has taken `size` bytes, in steps that cost few frames."""
        self._taken += size
        if self._taken >= STREAM_WINDOW // 4 and self._link is not None and not self.cancelled:
            self._link.credit(self._request_id, self._taken)
            self._ahead -= self._taken
            self._taken = 0


def _for_caller(error: APIError, flags: Flags) -> APIError:
    """Hide why an endpoint has no worker from callers who do not own it: the reason quotes the model."""
    if flags & Flags.FOREIGN and error.code == "endpoint_failed":
        return Unavailable(
            "the endpoint has no worker; only its owner can see why",
            code=error.code,
            retry_after=error.retry_after,
        )
    return error
