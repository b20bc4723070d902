"""The connection to a worker that another server had: it has its bundle, and may still run what was left in it."""

import asyncio

from openlaunch.engines.base import LeftWork
from openlaunch.errors import APIError
from openlaunch.server.dispatch.links import WorkerLink
from openlaunch.server.dispatch.work import Work
from openlaunch_worker.frames import Body, Flags, Kind


class LeftOver(Work):
    """A request of another server, which was cancelled: it has a slot until the worker has stopped it."""

    name = "a request of another server"
    owner = ""

    def __init__(self, *, is_stream: bool) -> None:
        super().__init__(b"", Flags.PICKLED, 0.0)
        self.cancelled = True
        self.answer_kind = int(Kind.END if is_stream else Kind.RESULT)

    def answered(self, outcome: int, payload: Body) -> None:
        """Drop the answer, which nobody waits for."""

    def failed(self, error: APIError) -> None:
        """Tell nobody."""

    def expired(self) -> None:
        """Do nothing: it has no deadline."""

    def check_chunk(self) -> None:
        """Drop what it sends before it has stopped."""

    def note(self, kind: int, payload: Body) -> None:
        """Drop what it says before it has stopped."""


class AdoptedLink(WorkerLink):
    """A worker's link that begins where another server's has ended."""

    def adopt(self, transport: asyncio.Transport, left: LeftWork) -> None:
        """Use this connection from now on."""
        self._transport = transport
        self._sending = None
        self._last_id, self._unheard = left.last_id, left.unheard
        self.takes_work = not left.unheard
        for request_id in left.running:
            self.running[request_id] = LeftOver(is_stream=self._owner.expected.start.streaming)
            self._await_stop(request_id)
        if left.wants_context:
            self._on_wants_context(Kind.WANTS_CONTEXT, 0, b"")
        if not left.ready:
            return
        self.answered = left.last_id > 0
        self._on_ready(Kind.READY, 0, b"")
        if left.worn or 0 < self._worn_at <= left.last_id:
            self._owner.worn("it was to be replaced when another server had it")
