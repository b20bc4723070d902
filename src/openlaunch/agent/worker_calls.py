"""Connections over which workers call endpoints: HTTP, which goes to a server that uses the worker."""

import asyncio

from openlaunch.agent.pipes import Pipe
from openlaunch.agent.worker_relay import WorkerRelay
from openlaunch.server.gateway.worker_calls import MAX_CONNECTIONS
from openlaunch_worker.calling import calls_token
from openlaunch_worker.frames import SEAT_IDS, FrameError


class WorkerCalls:
    """Opens such connections while the worker lives. A call goes to the server whose request makes it."""

    def __init__(self) -> None:
        self._relays: dict[str, WorkerRelay] = {}
        """By the tokens of their calls."""
        self._pipes: dict[str, set[Pipe]] = {}
        """By the same tokens."""

    def add(self, relay: WorkerRelay) -> None:
        self._relays[calls_token(relay.spec.token)] = relay

    def remove(self, relay: WorkerRelay) -> None:
        """Close the connections of a worker that has ended, and take no more of them."""
        token = calls_token(relay.spec.token)
        self._relays.pop(token, None)
        for pipe in list(self._pipes.get(token, ())):
            pipe.close()

    def find(self, token: str, seat: int) -> "Caller | None":
        """Return what takes a connection with this token over."""
        return None if token not in self._relays else Caller(self, token, seat)

    def open(self, token: str, seat: int, transport: asyncio.Transport) -> None:
        """Pass a connection on to the server of this seat, or to any that uses the worker; else close it."""
        relay, pipes = self._relays.get(token), self._pipes.setdefault(token, set())
        link = None if relay is None else relay.server_of(seat * SEAT_IDS)
        if relay is None or link is None or len(pipes) >= MAX_CONNECTIONS:
            transport.abort()
            return
        pipe = Pipe(transport, link, lambda pipe: self._ended(token, pipe))
        try:
            pipe.open({"caller": relay.spec.worker_id})
        except FrameError:
            transport.abort()
            return
        pipes.add(pipe)

    def _ended(self, token: str, pipe: Pipe) -> None:
        pipes = self._pipes[token]
        pipes.discard(pipe)
        if not pipes:
            del self._pipes[token]


class Caller:
    """A connection that has said HELLO with the token of a worker's calls."""

    def __init__(self, calls: WorkerCalls, token: str, seat: int) -> None:
        self._calls, self._token, self._seat = calls, token, seat

    def connect(self, transport: asyncio.Transport) -> None:
        """Take the connection over."""
        self._calls.open(self._token, self._seat, transport)
