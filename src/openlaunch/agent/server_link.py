"""An agent's end of the connection to a server."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol, cast

from openlaunch.engines.base import EngineError
from openlaunch.engines.documents import Capacity
from openlaunch.nodes.calls import CAPACITY, KEEP, Call, Keep, name_of
from openlaunch.nodes.identity import ClusterIdentity
from openlaunch.nodes.link import (
    MAX_CHANNELS,
    ChannelEnd,
    Kind,
    NodeLink,
    agreed,
    own_versions,
    read_document,
    read_tokens,
)
from openlaunch.server.logs import RareLog
from openlaunch_worker.frames import Body, FrameError

log = logging.getLogger(__name__)

HELLO_SECONDS = 5.0
MAX_CALLS = 1000
"""Limit on the calls of one server that run at the same time."""


@dataclass(frozen=True, slots=True)
class Method:
    """One kind of call, and what answers it."""

    call: Call[Any, Any]
    run: Callable[["ServerLink", Any], Awaitable[Any]]


class Host(Protocol):
    """What the links of an agent have in common."""

    identity: ClusterIdentity
    refusals: RareLog
    name: str
    methods: dict[str, Method]

    def capacity(self) -> Capacity:
        """Return what the node has."""

    def joined(self, link: "ServerLink") -> None:
        """Note that a server has said HELLO, and is one of the cluster."""

    def left(self, link: "ServerLink") -> None:
        """Note that the connection is lost."""

    def wanted(self, link: "ServerLink", endpoint_id: str, waiting: int) -> None:
        """Note how many requests of the server wait for a slot of the endpoint's workers."""


class WorkerEnd(ChannelEnd, Protocol):
    """The agent's end of a channel to a worker."""

    def lost(self) -> None:
        """Note that the server is gone."""

    def drain(self) -> None:
        """Have the worker end once nothing runs there. Raise `FrameError` where the server may not say so."""

    def given(self, tokens: int) -> None:
        """Take back the tokens that were recalled. Raise `FrameError` where that many were not."""

    def keep(self, keep: Keep) -> None:
        """Keep the request that comes next. Raise `FrameError` where none can come."""


class ServerLink(NodeLink):
    """Takes a server's calls, and tells it of its workers."""

    def __init__(self, host: Host, peer: str) -> None:
        super().__init__(peer)
        self._host = host
        self._running: dict[int, asyncio.Task[None]] = {}
        self._last_channel = 0
        self.records = ""
        """Which records the server keeps: servers with the same have the same endpoints."""
        self.server = ""
        """The server's own name, by which others ask for it."""
        self.name = ""
        """Names this connection among those to the agent."""
        self.first_id = 0
        """Below the ids of the server's requests, in every worker."""
        self.epoch: int | None = None
        """Under which epoch the server gives orders; None: it gives none."""
        self.greeted = asyncio.Event()
        """Set once the server has said HELLO, or is gone."""
        self.handle(Kind.HELLO, self._on_hello)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._greeting = self._loop.call_later(HELLO_SECONDS, self.lose, "has not said HELLO")

    def _on_hello(self, number: int, payload: Body) -> None:
        hello = read_document(payload)
        self._greeting.cancel()
        newest = hello.get("version")
        try:
            self.version = agreed(newest, hello.get("oldest", newest))
        except FrameError as error:
            self._refuse(f"it {error}, and this agent {own_versions()}: update one of them")
            return
        if not self._host.identity.is_proof(hello.get("proof")):
            self._refuse("its cluster's token is another one")
            return
        self.records, self.server = str(hello.get("records")), str(hello.get("server"))
        del self._handlers[Kind.HELLO]
        self.handle_channels()
        self.handle(Kind.CALL, self._on_call)
        self.handle(Kind.DRAIN, lambda number, _: self._on_worker(number, lambda end: end.drain()))
        self.handle(Kind.GIVE, self._on_give)
        self.handle(Kind.KEEP, self._on_keep)
        self.handle(Kind.WANT, self._on_want)
        welcome = {
            "version": self.version,
            "node": self._host.name,
            "capacity": CAPACITY.dump(self._host.capacity()),
        }
        self.send_document(Kind.WELCOME, 0, welcome)
        self.greeted.set()
        self._host.joined(self)

    def _on_worker(self, number: int, call: Callable[[WorkerEnd], None]) -> None:
        if (end := self.channels.get(number)) is not None:  # else it was closed here
            call(cast("WorkerEnd", end))

    def _on_give(self, number: int, payload: Body) -> None:
        tokens = read_tokens(payload)
        self._on_worker(number, lambda end: end.given(tokens))

    def _on_keep(self, number: int, payload: Body) -> None:
        try:
            keep = KEEP.argument(read_document(payload))
        except ValueError:
            raise FrameError("a KEEP of a request that can't be") from None
        self._on_worker(number, lambda end: end.keep(keep))

    def _on_want(self, number: int, payload: Body) -> None:
        self._host.wanted(self, str(payload, "utf-8", "replace"), number)

    def _refuse(self, reason: str) -> None:
        self._host.refusals.warning("refused", "the server at %s is refused: %s", self.peer, reason)
        self.send_document(Kind.REFUSED, 0, {"reason": reason})
        self.lost_because = "was refused"
        self._transport.close()

    def _on_call(self, number: int, payload: Body) -> None:
        document = read_document(payload)
        name = document.get("method")
        if name == "cancel":
            if (task := self._running.get(number)) is not None:
                task.cancel()
            return
        method = self._host.methods.get(str(name))
        if method is None or number in self._running or len(self._running) >= MAX_CALLS:
            raise FrameError(
                f"a call of {name!r} that this agent does not know, or can't run beside the others"
            )
        try:
            argument = method.call.argument(document.get("argument"))
        except ValueError:
            raise FrameError(f"a call of {name!r} with an argument that does not fit") from None
        task = asyncio.create_task(self._run(number, method, argument))
        self._running[number] = task
        task.add_done_callback(lambda _: self._running.pop(number, None))

    async def _run(self, number: int, method: Method, argument: Any) -> None:
        try:
            answer = await method.run(self, argument)
        except Exception as error:
            if not isinstance(error, (EngineError, OSError)):
                log.exception("a call of %s failed", method.call.name)
            text = str(error) or type(error).__name__
            self.send_document(Kind.FAILED, number, {"type": name_of(error), "message": text})
        else:
            self.send_document(Kind.RETURN, number, {"answer": method.call.dump_answer(answer)})

    def tell(self, event: Call[Any, None], about: Any) -> None:
        """Tell the server of something."""
        self.send_document(Kind.EVENT, 0, {"event": event.name, "about": event.dump(about)})

    def open_channel(self, end: WorkerEnd, document: dict[str, Any]) -> int:
        """Open a channel to a worker, and return its number."""
        if len(self.channels) >= MAX_CHANNELS:
            raise FrameError("too many workers")
        self._last_channel = number = self._last_channel % 0xFFFFFFFF + 1
        self.channels[number] = end
        self.send_document(Kind.OPEN, number, document)
        if self._is_full:
            end.pause()
        return number

    def connection_lost(self, exc: Exception | None) -> None:
        for end in self.take_channels().values():
            cast("WorkerEnd", end).lost()
        super().connection_lost(exc)
        self._greeting.cancel()
        self.greeted.set()
        for task in self._running.values():
            task.cancel()
        self._host.left(self)
