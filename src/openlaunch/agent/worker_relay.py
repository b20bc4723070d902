"""A worker's connection on its node: what comes goes over the link of the server that has the worker."""

import asyncio

from openlaunch.agent.frame_watch import FrameWatch, WorkerCourse
from openlaunch.agent.server_link import ServerLink
from openlaunch.engines.base import LeftWork
from openlaunch.nodes.link import Kind
from openlaunch_worker.frames import Kind as WorkerKind
from openlaunch_worker.frames import encode


class WorkerRelay(asyncio.Protocol):
    """Passes bytes between a worker and its server, which alone read them.

    It follows the frames, so that another server can begin where the one before has ended, at the head of a frame.
    """

    def __init__(self, link: ServerLink, token: str) -> None:
        self._link: ServerLink | None = link
        self._token = token
        self._transport: asyncio.Transport | None = None
        self._number = 0
        self._pauses = 0
        """How many reasons there are not to read the worker: the link is full, and the server wants it."""
        self._is_full = False
        """Whether the worker does not read as fast as it is written to."""
        self._skipped = 0
        """Bytes to drop of a frame that began to come for another server."""
        self._course = WorkerCourse()
        self._out = FrameWatch(self._course.from_server)
        self._back = FrameWatch(self._course.from_worker)

    @property
    def may_be_kept(self) -> bool:
        """Whether another server can use the worker."""
        open_ = self._transport is not None and not self._transport.is_closing()
        return open_ and self._course.may_be_kept

    @property
    def is_ready(self) -> bool:
        return self._course.is_ready

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs in the worker, and no answer is on its way."""
        return not self._course.running and not self._back.missing

    def connect(self, transport: asyncio.Transport) -> None:
        """Take over a worker's connection, which has said HELLO."""
        if self._link is None:
            transport.abort()
            return
        self._transport = transport
        transport.set_protocol(self)
        self._number = self._link.open_channel(self._token, self)

    def attach(self, link: ServerLink, token: str) -> None:
        """Have this server use the worker from now on, which knows it by the token."""
        course = self._course
        self._link, self._skipped = link, self._back.missing
        left = LeftWork(
            course.is_ready,
            course.is_worn,
            tuple(course.running),
            course.last_id,
            course.unheard,
            course.wants_context,
        )
        self._number = link.open_channel(token, self, left)
        if self._back.head:
            link.send_data(self._number, self._back.head)
        if self._is_full:
            link.send(Kind.PAUSE, self._number)

    def detach(self) -> None:
        """Cancel what runs, and pass nothing on until there is another server."""
        self._link = None
        if self._transport is None or self._transport.is_closing():
            return
        self._write(self._out.rest())
        for request_id, cancelled in list(self._course.running.items()):
            if not cancelled:
                self._write(encode(WorkerKind.CANCEL, request_id))
        if self._pauses:
            self._pauses = 0
            self._transport.resume_reading()

    def give_up(self) -> None:
        """Close the channel of the server that has the worker, and cancel what runs."""
        if self._link is not None:
            self._link.close_channel(self._number)
        self.detach()

    def data_received(self, data: bytes) -> None:
        self._back.follow(data)
        if self._skipped:
            skipped = min(self._skipped, len(data))
            self._skipped -= skipped
            data = data[skipped:]
        if self._link is not None and data:
            self._link.send_data(self._number, data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._link is not None:
            self._link.close_channel(self._number)

    def pause_writing(self) -> None:
        self._is_full = True
        if self._link is not None:
            self._link.send(Kind.PAUSE, self._number)

    def resume_writing(self) -> None:
        self._is_full = False
        if self._link is not None:
            self._link.send(Kind.RESUME, self._number)

    def receive(self, data: bytes) -> None:
        self._write(data)

    def _write(self, data: bytes) -> None:
        assert self._transport is not None
        self._out.follow(data)
        self._transport.write(data)

    def closed(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def pause(self) -> None:
        self._pauses += 1
        if self._pauses == 1 and self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        self._pauses -= 1
        if self._pauses == 0 and self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
