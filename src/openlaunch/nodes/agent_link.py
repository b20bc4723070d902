"""A server's end of the connection to an agent."""

import asyncio
import itertools
import logging
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from openlaunch.engines.base import Capacity, EngineError, LeftWork
from openlaunch.nodes.calls import CAPACITY, FAILURES, LEFT_WORK, Call
from openlaunch.nodes.identity import ClusterIdentity
from openlaunch.nodes.link import VERSION, Kind, NodeLink, read_document
from openlaunch_worker.frames import Body, FrameError

A = TypeVar("A")
R = TypeVar("R")

log = logging.getLogger(__name__)

WELCOME_SECONDS = 5.0

OpenChannel = Callable[[str, asyncio.Transport, LeftWork | None], asyncio.Protocol | None]
"""Takes a worker's token, its connection, and what another server left in it; returns what reads it.

None where no worker has that token.
"""


class AgentLink(NodeLink):
    """Calls an agent, and hears of its workers and builds."""

    def __init__(
        self,
        peer: str,
        identity: ClusterIdentity,
        records: str,
        open_channel: OpenChannel,
        heard: Callable[[str, Any], None],
        lost: Callable[["AgentLink"], None],
    ) -> None:
        super().__init__(peer)
        self._identity = identity
        self._records = records
        self._open_channel = open_channel
        self._heard = heard
        self._lost = lost
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._numbers = itertools.count(1)
        self.welcome: asyncio.Future[Capacity] = self._loop.create_future()
        """The node's capacity, once the agent has taken this server."""
        self.node = peer
        self.handle(Kind.WELCOME, self._on_welcome)
        self.handle(Kind.REFUSED, self._on_refused)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        hello = {"version": VERSION, "proof": self._identity.proof, "records": self._records}
        self.send_document(Kind.HELLO, 0, hello)
        self._greeting = self._loop.call_later(WELCOME_SECONDS, self.lose, "did not answer a HELLO")

    def _on_refused(self, number: int, payload: Body) -> None:
        self.lose(f"refused this server: {read_document(payload).get('reason')}")

    def _on_welcome(self, number: int, payload: Body) -> None:
        document = read_document(payload)
        if document.get("version") != VERSION:
            raise FrameError(f"it speaks version {document.get('version')}, and this server {VERSION}")
        try:
            capacity = CAPACITY.argument(document["capacity"])
        except (KeyError, ValueError):
            raise FrameError("a WELCOME without what the node has") from None
        self._greeting.cancel()
        self.node = str(document.get("node") or self.peer)
        self.handle_channels()
        self.handle(Kind.OPEN, self._on_open)
        self.handle(Kind.RETURN, self._on_return)
        self.handle(Kind.FAILED, self._on_failed)
        self.handle(Kind.EVENT, self._on_event)
        if not self.welcome.done():
            self.welcome.set_result(capacity)

    def _on_open(self, number: int, payload: Body) -> None:
        document, channel = read_document(payload), WorkerChannel(self, number)
        try:
            left = None if document.get("left") is None else LEFT_WORK.argument(document["left"])
        except ValueError:
            raise FrameError("an OPEN with what was left in a worker that can't be") from None
        reader = self._open_channel(str(document.get("token")), channel, left)
        if reader is None:
            self.send(Kind.CLOSE, number)
            return
        self.channels[number] = channel
        channel.set_protocol(reader)
        if self._is_full:
            channel.pause()

    def _on_event(self, number: int, payload: Body) -> None:
        document = read_document(payload)
        self._heard(str(document.get("event")), document.get("about"))

    async def call(self, call: Call[A, R], argument: A) -> R:
        """Ask the agent; raise what it says, or `EngineError` where the connection is lost before its answer."""
        number, future = next(self._numbers), self._loop.create_future()
        if self._transport.is_closing():
            raise self._gone()
        self._calls[number] = future
        self.send_document(Kind.CALL, number, {"method": call.name, "argument": call.dump(argument)})
        try:
            async with asyncio.timeout(call.seconds):
                return call.answer(await future)
        except TimeoutError:
            self.send_document(Kind.CALL, number, {"method": "cancel"})
            raise EngineError(f"the node {self.node} did not answer within {call.seconds} s") from None
        except asyncio.CancelledError:
            self.send_document(Kind.CALL, number, {"method": "cancel"})
            raise
        finally:
            self._calls.pop(number, None)

    def _on_return(self, number: int, payload: Body) -> None:
        future = self._calls.get(number)
        if future is not None and not future.done():
            future.set_result(read_document(payload).get("answer"))

    def _on_failed(self, number: int, payload: Body) -> None:
        document, future = read_document(payload), self._calls.get(number)
        if future is not None and not future.done():
            kind = FAILURES.get(str(document.get("type")), EngineError)
            future.set_exception(kind(str(document.get("message"))))

    def _gone(self) -> EngineError:
        return EngineError(f"the node {self.node} {self.lost_because or 'is not connected'}")

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._greeting.cancel()
        for future in [self.welcome, *self._calls.values()]:
            if not future.done():
                future.set_exception(self._gone())
                future.exception()  # nobody may wait for it any longer
        self._lost(self)


class WorkerChannel(asyncio.Transport):
    """A worker's connection as the gateway uses it: a transport, whose bytes go over an agent's link."""

    def __init__(self, link: AgentLink, number: int) -> None:
        super().__init__()
        self._link = link
        self._number = number
        self._protocol: Any = None
        self._is_closing = False
        self._pauses = 0
        """How many reasons there are to write nothing: the link is full, and the worker does not read."""

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        protocol: asyncio.BaseProtocol = self._protocol
        return protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._is_closing:
            self._link.send_data(self._number, data)

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        for data in list_of_data:
            self.write(data)

    def get_write_buffer_size(self) -> int:
        return self._link.unsent

    def is_closing(self) -> bool:
        return self._is_closing

    def pause_reading(self) -> None:
        self._link.send(Kind.PAUSE, self._number)

    def resume_reading(self) -> None:
        self._link.send(Kind.RESUME, self._number)

    def abort(self) -> None:
        self.close()

    def close(self) -> None:
        if not self._is_closing:
            self._link.close_channel(self._number)
            self._end()

    def receive(self, data: bytes) -> None:
        if not self._is_closing:
            self._protocol.data_received(data)

    def closed(self) -> None:
        if not self._is_closing:
            self._end()

    def _end(self) -> None:
        self._is_closing = True
        asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)

    def pause(self) -> None:
        self._pauses += 1
        if self._pauses == 1:
            self._protocol.pause_writing()

    def resume(self) -> None:
        self._pauses -= 1
        if self._pauses == 0:
            self._protocol.resume_writing()
