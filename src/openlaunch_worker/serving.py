"""Serves a loaded bundle on the connection to the server, until it drains or the server is gone."""

import asyncio
import json
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from mmap import mmap
from struct import error as StructError  # noqa: N812 -- its own name says nothing
from typing import Any, Final, cast

from openlaunch_worker.batch_runner import BatchRunner
from openlaunch_worker.context import context_parameter
from openlaunch_worker.context_runner import ContextRunner
from openlaunch_worker.documents import About, Limits
from openlaunch_worker.frame_reader import FrameReader
from openlaunch_worker.frames import CREDIT_BODY, REQUEST_HEAD, FrameError, Kind, encode
from openlaunch_worker.hooks import Hooks, put_to_sleep, shut_down, watch
from openlaunch_worker.memory import MEMORY
from openlaunch_worker.outbox import Outbox
from openlaunch_worker.process import EXIT_SECONDS, log
from openlaunch_worker.runner import Runner
from openlaunch_worker.shapes import shape_of
from openlaunch_worker.threads import ThreadPool

LEAVE_SECONDS: Final = 2.0
"""How long the server has to answer a LEAVING, which keeps requests from being on their way to a worker that ends."""

SLEEP_SECONDS: Final = 660.0
"""How long the bundle's own server may take to fall asleep, and to wake up."""

DRAIN_SECONDS: Final = 30.0
"""How long requests may run after a SIGTERM. After a DRAIN the server limits the time."""


class Connection(asyncio.BufferedProtocol):
    """The worker's side of the connection: frames in, calls of the runner; and the end of it all."""

    def __init__(
        self,
        sock: socket.socket,
        predict: Callable[..., Any],
        hooks: Hooks,
        limits: Limits,
        thread: ThreadPool,
        on_end: Callable[[bool], None],
    ) -> None:
        self._socket = sock
        self._predict = predict
        self._hooks = hooks
        self._health: asyncio.Task[None] | None = None
        self._end: asyncio.Task[None] | None = None
        self._sleeping: asyncio.Task[None] | None = None
        self._is_awake = True
        self._limits = limits
        self._thread = thread
        self._on_end = on_end
        self._reader = FrameReader(self._no_room)
        self._draining = False
        self._asked: set[Kind] = set()

    def drain(self) -> None:
        self._draining = True
        if self._health is not None:
            self._health.cancel()
        self._end_if_drained()

    def ask(self, kind: Kind, reason: str) -> None:
        """Ask the server once for a DRAIN, with LEAVING or UNHEALTHY, or, with RENEW, to be replaced later."""
        if not self._draining and kind not in self._asked and not self._transport.is_closing():
            self._asked.add(kind)
            log(f"the worker is to be replaced: {reason}")
            self._outbox.control(kind, 0, reason.encode())

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's has another base class
        self._transport.pause_reading()
        self._transport.set_write_buffer_limits(0)  # it has little to write at a time: `Outbox.flush`
        loop = asyncio.get_running_loop()
        self._outbox = Outbox(loop, self._transport, self._socket)
        rule, end = self._limits.batch, self._end_if_drained
        given = self._limits, self._outbox, end, self._thread
        self._runner: Runner
        if rule is not None:
            self._runner = BatchRunner(self._predict, self._limits, rule, self._outbox, end, self._thread)
        elif (name := context_parameter(self._predict)) is not None:
            self._runner = ContextRunner(self._predict, name, *given)
        else:
            self._runner = Runner(self._predict, *given)
        self._runner.on_full = self.ask

    def say_ready(self) -> None:
        ready = {"python": "{}.{}.{}".format(*sys.version_info), "generator": shape_of(self._predict).yields}
        if not self._transport.is_closing():
            if isinstance(self._runner, ContextRunner):
                self._transport.write(encode(Kind.WANTS_CONTEXT, 0))
            self._transport.write(encode(Kind.READY, 0, json.dumps(ready).encode()))
            self._transport.resume_reading()
            limits, unhealthy = self._limits, partial(self.ask, Kind.UNHEALTHY)
            times = limits.health_interval, limits.health_timeout
            states = (lambda: self._runner.idle), (lambda: self._is_awake)
            checks = watch(self._hooks, *times, unhealthy, *states)
            self._health = asyncio.create_task(checks, name="health")

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._reader.room()

    def buffer_updated(self, nbytes: int) -> None:
        """Do what the frames say; what they lead to at once goes out in one write."""
        if self._outbox.calls:
            self._outbox.make_calls()  # a request may be for a slot whose end waits among them
        try:
            for kind, request_id, payload in self._reader.received(nbytes):
                if kind == Kind.REQUEST:
                    flags, limit = REQUEST_HEAD.unpack_from(payload)
                    # A view may be passed on here (see `Body`): it is decoded before `start` returns, and not kept.
                    self._runner.start(request_id, flags, limit, memoryview(payload)[REQUEST_HEAD.size :])
                else:
                    self._control(kind, request_id, payload)
        except (FrameError, StructError) as error:
            log(f"the server broke the protocol: {error}")
            self._transport.abort()
        self._outbox.flush()

    def _no_room(self, kind: int, request_id: int, length: int, head: bytes) -> None:
        """Refuse a request for whose frame there was no memory."""
        if kind != Kind.REQUEST:
            raise FrameError(f"there is no memory for a frame of kind {kind}")
        MEMORY.failed()
        flags, limit = REQUEST_HEAD.unpack_from(head)
        self._runner.refuse(request_id, flags, limit, length - REQUEST_HEAD.size)

    def resume_writing(self) -> None:
        self._outbox.flush()
        self._end_if_drained()

    def _control(self, kind: int, request_id: int, payload: bytes | mmap) -> None:
        if kind == Kind.CREDIT:
            self._runner.credit(request_id, *CREDIT_BODY.unpack(payload))
        elif kind == Kind.CANCEL:
            self._outbox.control(Kind.HEARD, request_id)
            self._runner.cancel(request_id)
        elif kind == Kind.DRAIN:
            self.drain()
        elif kind in (Kind.SLEEP, Kind.WAKE) and (sleep := self._hooks.sleep) is not None:
            self._sleeping = asyncio.create_task(self._sleep(sleep, asleep=kind == Kind.SLEEP), name="sleep")
        elif kind == Kind.CONTEXT and isinstance(self._runner, ContextRunner):
            self._runner.tell(request_id, About.from_json(json.loads(bytes(payload))))
        else:
            raise FrameError(f"a frame of kind {kind} does not belong here")

    async def _sleep(self, sleep: Callable[[bool], None], *, asleep: bool) -> None:
        self._is_awake = False
        problem = await put_to_sleep(sleep, asleep, SLEEP_SECONDS)
        self._is_awake = not asleep
        if problem:
            log(f"the server could not be {'put to sleep' if asleep else 'woken up'}: {problem}")
        self._outbox.control(Kind.ASLEEP if asleep else Kind.AWAKE, 0, problem.encode())

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell how it ended: because everything was done, or because the server is gone."""
        self._on_end(self._draining and self._runner.idle)

    def _end_if_drained(self) -> None:
        if self._draining and self._runner.idle and not self._transport.is_closing():
            self._outbox.flush()
            if not self._outbox.is_empty:
                return  # once the rest is written
            if self._hooks.shutdown_fn is None:
                self._transport.close()
            elif self._end is None:
                # The server waits for as long as the connection is open.
                self._end = asyncio.create_task(self._shut_down(), name="shutdown")

    async def _shut_down(self) -> None:
        await shut_down(self._hooks, self._limits.shutdown_timeout)
        self._transport.close()


def serve(
    sock: socket.socket,
    predict: Callable[..., Any],
    hooks: Hooks,
    limits: Limits,
    loop: asyncio.AbstractEventLoop,
    thread: ThreadPool,
    *,
    on_lost: Callable[[], None],
    on_overtime: Callable[[], None],
) -> None:
    """Serve until a DRAIN or a SIGTERM, and until what runs then has ended.

    `thread` is where plain functions run one at a time. `on_lost` is called when the server is gone, `on_overtime`
    when `DRAIN_SECONDS` after a SIGTERM something still runs; neither is expected to return.
    """
    asyncio.set_event_loop(loop)
    over = loop.create_future()

    def on_end(drained: bool) -> None:
        if not drained:
            on_lost()
        over.set_result(None)

    connection = Connection(sock, predict, hooks, limits, thread, on_end)

    def terminate() -> None:
        loop.call_later(DRAIN_SECONDS, on_overtime)
        loop.call_later(LEAVE_SECONDS, connection.drain)
        connection.ask(Kind.LEAVING, "it got a SIGTERM")

    async def work() -> None:
        await loop.create_connection(lambda: connection, sock=sock)
        # While the loop runs, because uvloop hears no signal that comes while it does not.
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, terminate)
        connection.say_ready()  # once a SIGTERM can be answered, because requests may come from now on
        await over

    sock.setblocking(False)
    _run(loop, loop.create_task(work()))
    _close(loop)


def _run(loop: asyncio.AbstractEventLoop, work: asyncio.Task[None]) -> None:
    """Run the loop until the work is done, and not till a task of user code's own raises SystemExit."""
    while True:
        try:
            loop.run_until_complete(work)
        except (SystemExit, KeyboardInterrupt) as error:
            log(f"{type(error).__name__} was raised in the event loop, outside of any request; it is ignored")
        else:
            return


def _close(loop: asyncio.AbstractEventLoop) -> None:
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    if left:
        loop.run_until_complete(asyncio.wait(left, timeout=EXIT_SECONDS))
    loop.run_until_complete(asyncio.wait_for(loop.shutdown_asyncgens(), EXIT_SECONDS))
    asyncio.set_event_loop(None)
    loop.close()
