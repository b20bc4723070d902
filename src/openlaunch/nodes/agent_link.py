"""A server's end of the connection to an agent."""

import asyncio
import itertools
import logging
from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar

from openlaunch.engines.base import EngineError
from openlaunch.engines.documents import Capacity, SharedWorker, Standing
from openlaunch.nodes.calls import (
    CAPACITY,
    FAILURES,
    KEEP,
    LEFT,
    REACH,
    REPORT,
    SHARED,
    STANDING,
    TAKE_UP,
    TAKEN_UP,
    Call,
    Keep,
    Reach,
    TakenUp,
    WorkerNews,
)
from openlaunch.nodes.identity import ClusterIdentity
from openlaunch.nodes.link import (
    MAX_CHANNELS,
    OLDEST,
    TOKENS,
    VERSION,
    Kind,
    NodeLink,
    agreed,
    own_versions,
    read_document,
    read_tokens,
)
from openlaunch_worker.frames import Body, FrameError

A = TypeVar("A")
R = TypeVar("R")

log = logging.getLogger(__name__)

WELCOME_SECONDS = 5.0


class Gateway(Protocol):
    """What a server does with the workers of its nodes."""

    def connect(
        self, token: str, transport: "WorkerChannel", standing: Standing | None
    ) -> asyncio.Protocol | None:
        """Use the connection of the worker with this token, which is adopted where it has a standing.

        Returns what reads it; None where no worker has that token.
        """

    def share(self, worker: SharedWorker, transport: "WorkerChannel") -> asyncio.Protocol:
        """Send requests to this worker, too, with a token for each; return what reads the connection."""

    def call(self, worker_id: str, transport: "WorkerChannel") -> asyncio.Protocol | None:
        """Let this worker call endpoints over this connection.

        Returns what reads it; None where the worker is not known, or has too many of them.
        """

    def serve(self, client: str, transport: "WorkerChannel") -> asyncio.Protocol | None:
        """Answer what this client has asked another server, which does not lead; return what reads the connection."""

    def left(self, names: list[str], agent: "AgentLink") -> None:
        """Note requests of servers that are gone, which an agent has."""

    def taken_up(self, taken_up: TakenUp, transport: "WorkerChannel") -> asyncio.Protocol | None:
        """Continue such a request here; return what reads it, or None where it is not wanted."""

    def granted(self, worker_id: str, tokens: int) -> None:
        """Note that there are more tokens for a worker."""

    def taken(self, worker_id: str) -> None:
        """Note that a token is another server's once the next answer has come."""

    def recalled(self, worker_id: str, tokens: int) -> None:
        """Give back as many tokens as are not used."""

    def ended(self, worker_id: str, reason: str, *, with_node: bool) -> None:
        """Note that a worker has ended, or is away with its node."""

    def heard(self, news: WorkerNews) -> None:
        """Note news of a worker that this server has started or adopted."""


class AgentLink(NodeLink):
    """Calls an agent, and hears of its workers and builds."""

    def __init__(
        self,
        peer: str,
        identity: ClusterIdentity,
        records: str,
        server: str,
        gateway: Gateway,
        heard: Callable[[str, Any], None],
        lost: Callable[["AgentLink"], None],
    ) -> None:
        super().__init__(peer)
        self._identity = identity
        self._records, self._server = records, server
        self._gateway = gateway
        self.shared: set[str] = set()
        """The workers that this server may send requests to."""
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
        hello = {
            "version": VERSION,
            "oldest": OLDEST,
            "proof": self._identity.proof,
            "records": self._records,
            "server": self._server,
        }
        self.send_document(Kind.HELLO, 0, hello)
        self._greeting = self._loop.call_later(WELCOME_SECONDS, self.lose, "did not answer a HELLO")

    def _on_refused(self, number: int, payload: Body) -> None:
        self.lose(f"refused this server: {read_document(payload).get('reason')}")

    def _on_welcome(self, number: int, payload: Body) -> None:
        document = read_document(payload)
        try:
            self.version = agreed(document.get("version"), document.get("version"))
        except FrameError as error:
            raise FrameError(f"it {error}, and this server {own_versions()}") from None
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
        self.handle(Kind.GRANT, self._on_grant)
        self.handle(Kind.TAKE, self._on_take)
        self.handle(Kind.RECALL, self._on_recall)
        if not self.welcome.done():
            self.welcome.set_result(capacity)

    def _on_open(self, number: int, payload: Body) -> None:
        document = read_document(payload)
        if number in self.channels or len(self.channels) >= MAX_CHANNELS:
            raise FrameError("an OPEN of a channel that there is, or of too many")
        try:
            worker = None if document.get("worker") is None else SHARED.argument(document["worker"])
            standing = None if document.get("standing") is None else STANDING.argument(document["standing"])
            taken_up = TAKEN_UP.argument(document["taken_up"]) if "taken_up" in document else None
        except ValueError:
            raise FrameError("an OPEN of a worker that can't be") from None
        channel = WorkerChannel(self, number, "" if worker is None else worker.worker_id)
        reader: asyncio.Protocol | None
        if (caller := document.get("caller")) is not None:
            reader = self._gateway.call(str(caller), channel)
        elif (client := document.get("client")) is not None:
            reader = self._gateway.serve(str(client), channel)
        elif taken_up is not None:
            reader = self._gateway.taken_up(taken_up, channel)
        elif "other" in document:
            reader = asyncio.Protocol()  # until `reach` has its number
        elif worker is None:
            reader = self._gateway.connect(str(document.get("token")), channel, standing)
        else:
            self.shared.add(worker.worker_id)
            reader = self._gateway.share(worker, channel)
        if reader is None:
            self.send(Kind.CLOSE, number)
            return
        self.channels[number] = channel
        channel.set_protocol(reader)
        if self._is_full:
            channel.pause()

    def _worker_of(self, number: int) -> str:
        """Return the worker of a channel; none where it is closed here."""
        channel = self.channels.get(number)
        return channel.worker_id if isinstance(channel, WorkerChannel) else ""

    def _on_grant(self, number: int, payload: Body) -> None:
        try:
            self._gateway.granted(self._worker_of(number), read_tokens(payload))
        except ValueError as error:
            raise FrameError(str(error)) from None

    def _on_take(self, number: int, payload: Body) -> None:
        try:
            self._gateway.taken(self._worker_of(number))
        except ValueError as error:
            raise FrameError(str(error)) from None

    def _on_recall(self, number: int, payload: Body) -> None:
        self._gateway.recalled(self._worker_of(number), read_tokens(payload))

    def want(self, endpoint_id: str, waiting: int) -> None:
        """Say how many requests wait here for a slot of the endpoint's workers."""
        self.send(Kind.WANT, waiting, endpoint_id.encode())

    def _on_event(self, number: int, payload: Body) -> None:
        document = read_document(payload)
        event, about = str(document.get("event")), document.get("about")
        try:
            if event == LEFT.name:
                self._gateway.left(LEFT.argument(about), self)
            else:
                self._heard(event, about)
        except ValueError:
            raise FrameError(f"an EVENT {event[:80]!r} about something that does not fit") from None

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
        except ValueError as error:
            raise EngineError(
                f"the node {self.node} answered {call.name} with what is not an answer to it: {error}"
            ) from None
        except TimeoutError:
            self.send_document(Kind.CALL, number, {"method": "cancel"})
            raise EngineError(f"the node {self.node} did not answer within {call.seconds} s") from None
        except asyncio.CancelledError:
            self.send_document(Kind.CALL, number, {"method": "cancel"})
            raise
        finally:
            self._calls.pop(number, None)

    async def reach(self, asked: Reach) -> "WorkerChannel":
        """Open a connection to another server; raise `EngineError` where the agent has none."""
        channel = self.channels.get(await self.call(REACH, asked))
        if not isinstance(channel, WorkerChannel):
            raise self._gone()
        return channel

    async def take_up(self, name: str) -> None:
        """Have a request of a server that is gone come over a channel of its own; raise `EngineError` without one."""
        await self.call(TAKE_UP, name)

    def report(self, news: WorkerNews) -> None:
        """Have the agent say to the leader what it should know of a worker."""
        document = {"method": REPORT.name, "argument": REPORT.dump(news)}
        self.send_document(Kind.CALL, next(self._numbers), document)

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

    def __init__(self, link: AgentLink, number: int, worker_id: str) -> None:
        super().__init__()
        self.worker_id = worker_id
        """The worker to which requests may be sent over this; empty: it is the leader's channel."""
        self.agent = link.peer
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

    def want(self, endpoint_id: str, waiting: int) -> None:
        """Say to the agent how many requests wait here for a slot of the endpoint's workers."""
        self._link.want(endpoint_id, waiting)

    def give(self, tokens: int) -> None:
        """Answer a RECALL."""
        if not self._is_closing:
            self._link.send(Kind.GIVE, self._number, TOKENS.pack(tokens))

    def keep(self, keep: Keep) -> None:
        """Have the agent keep the request that is sent next."""
        if not self._is_closing:
            self._link.send_document(Kind.KEEP, self._number, KEEP.dump(keep))

    def drain(self) -> None:
        """Have the worker end once nothing runs there."""
        if not self._is_closing:
            self._link.send(Kind.DRAIN, self._number)

    def drop(self) -> None:
        """Close it at this end alone, without a word to the protocol: another server leads the worker."""
        self._is_closing = True
        self._link.channels.pop(self._number, None)

    def report(self, news: WorkerNews) -> None:
        """Say to the leader what it should know of the worker."""
        self._link.report(news)

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
            try:
                self._protocol.data_received(data)
            except Exception:  # as a socket does: it ends this connection, and not those beside it
                log.exception("what a connection over a node has brought could not be handled; it is closed")
                self.close()

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
        if not self._pauses:
            raise FrameError("a RESUME of what was not paused")
        self._pauses -= 1
        if self._pauses == 0:
            self._protocol.resume_writing()
