"""The gateway's side of the connections to workers: handshake, frames, and who is where."""

import asyncio
import json
import logging
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

from openlaunch.server.work import Work
from openlaunch_worker.frames import (
    BUNDLE_PIECE,
    CREDIT_BODY,
    REQUEST_HEAD,
    FrameError,
    FrameParser,
    Kind,
    encode,
)

log = logging.getLogger(__name__)
HANDSHAKE_SECONDS = 30.0
DRAIN_FRAME = encode(Kind.DRAIN, 0)


@dataclass(frozen=True, slots=True)
class Expected:
    """A worker that may connect, and what it gets."""

    worker_id: str
    slots: int
    start: dict[str, Any]
    bundle: Callable[[], AsyncIterator[bytes]] = field(repr=False)


class LinkOwner(Protocol):
    """Who is told what happens on a link: the dispatcher."""

    def expected(self, token: str) -> Expected | None:
        """The worker that may connect with this token, once: a token is used up by asking."""
        ...

    def link_ready(self, link: "WorkerLink") -> None:
        """The worker takes requests."""
        ...

    def link_load_failed(self, worker_id: str, reason: str, traceback: str | None) -> None:
        """The worker could not load its bundle."""
        ...

    def link_freed(self, link: "WorkerLink") -> None:
        """A slot of the worker has become free."""
        ...

    def link_closed(self, link: "WorkerLink") -> None:
        """The connection of a worker that had said HELLO is gone."""
        ...


class WorkerLink(asyncio.Protocol):
    """One worker's connection: requests go out with an id, answers come back in any order."""

    def __init__(self, owner: LinkOwner) -> None:
        self.worker_id = ""
        self.running: dict[int, Work] = {}
        self.draining = False
        self.slots = 0
        self.listed = False
        """Whether the lane's list of workers with a free slot holds this one."""
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._parser = FrameParser()
        self._last_id = 0
        self._frames: list[bytes] = []
        self._writable = asyncio.Event()
        self._writable.set()
        self._sending: asyncio.Task[None] | None = None
        self._handlers: dict[int, Callable[[int, bytes], None]] = {
            Kind.RESULT: self._on_answer,
            Kind.END: self._on_answer,
            Kind.CHUNK: self._on_chunk,
            Kind.HELLO: self._on_hello,
            Kind.READY: self._on_ready,
            Kind.LOAD_FAILED: self._on_load_failed,
        }

    # What the dispatcher calls.

    def send_work(self, work: Work) -> None:
        """Send a request to the worker. The caller has seen to it that a slot is free."""
        self._last_id = request_id = self._last_id % 0xFFFFFFFF + 1
        self.running[request_id] = work
        left = max(work.deadline - self._loop.time(), 0.001)
        head = REQUEST_HEAD.pack(work.flags, left)
        self._send(encode(Kind.REQUEST, request_id, head + work.body))
        if len(self.running) == 1:
            self.flush()  # an idle worker need not wait for what else comes in this turn of the loop
        work.started(self, request_id)

    def cancel(self, request_id: int) -> None:
        """Tell the worker that the answer is not wanted any more."""
        if request_id in self.running:
            self._send(encode(Kind.CANCEL, request_id))

    def credit(self, request_id: int, size: int) -> None:
        """Tell the worker that so many bytes of a stream have been passed on."""
        self._send(encode(Kind.CREDIT, request_id, CREDIT_BODY.pack(size)))

    def _send(self, frame: bytes) -> None:
        """All frames of one turn of the loop go out in one write."""
        self._frames.append(frame)
        if len(self._frames) == 1:
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write what was sent so far."""
        frames, self._frames = self._frames, []
        if frames and not self._transport.is_closing():
            self._transport.write(b"".join(frames))

    def drain(self) -> None:
        """Ask the worker to finish what runs and then to exit."""
        self.draining = True
        self._send(DRAIN_FRAME)

    def close(self) -> None:
        """Close the connection at once."""
        self._transport.abort()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's has another base class
        self._deadline = self._loop.call_later(HANDSHAKE_SECONDS, self._transport.abort)

    def data_received(self, data: bytes) -> None:
        try:
            for kind, request_id, payload in self._parser.feed(data):
                self._handlers[kind](request_id, payload)
        except (FrameError, KeyError, ValueError, IndexError) as error:
            log.error("worker %s broke the protocol: %s; its connection is closed", self.worker_id, error)
            self._transport.abort()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadline.cancel()
        self._writable.set()
        if self._sending is not None:
            self._sending.cancel()
        if self.worker_id:
            self._owner.link_closed(self)

    # What the worker sends.

    def _on_hello(self, _: int, payload: bytes) -> None:
        hello = json.loads(payload)
        expected = self._owner.expected(str(hello["token"]))
        if self.worker_id or expected is None:
            raise ValueError("HELLO with a token that is not expected")
        self._deadline.cancel()
        self.worker_id, self.slots = expected.worker_id, expected.slots
        self._sending = self._loop.create_task(self._send_bundle(expected))

    async def _send_bundle(self, expected: Expected) -> None:
        try:
            self._transport.write(encode(Kind.START, 0, json.dumps(expected.start).encode()))
            async for piece in expected.bundle():
                for start in range(0, len(piece), BUNDLE_PIECE):
                    await self._writable.wait()
                    self._transport.write(encode(Kind.BUNDLE, 0, piece[start : start + BUNDLE_PIECE]))
            self._transport.write(encode(Kind.BUNDLE, 0))
        except Exception as error:
            log.exception("the bundle could not be sent to worker %s", self.worker_id)
            self._owner.link_load_failed(self.worker_id, f"the bundle could not be read: {error}", None)
            self._transport.abort()

    def _on_ready(self, _: int, payload: bytes) -> None:
        self._owner.link_ready(self)

    def _on_load_failed(self, _: int, payload: bytes) -> None:
        failure = json.loads(payload)
        self._owner.link_load_failed(self.worker_id, str(failure["reason"]), failure.get("traceback"))

    def _on_answer(self, request_id: int, payload: bytes) -> None:
        work = self.running.pop(request_id)
        work.finished(payload[0], payload[1:])
        self._owner.link_freed(self)

    def _on_chunk(self, request_id: int, payload: bytes) -> None:
        self.running[request_id].chunk(payload)


class LinkServer:
    """The unix socket that workers connect to, in a private folder with a short path.

    The folder is not in the data directory: a socket's path may be at most 104 bytes long on macOS.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="openlaunch-")
        self.address = str(Path(self._folder.name) / "workers.sock")
        self._server: asyncio.Server | None = None

    async def start(self, owner: LinkOwner) -> None:
        """Listen; the folder is readable by this user alone."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: WorkerLink(owner), self.address, backlog=1024)

    async def close(self) -> None:
        """Stop listening and remove the socket."""
        if self._server is not None:
            self._server.close()
        self._folder.cleanup()
