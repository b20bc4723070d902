"""The server's side of an environment's nursery: the process that forks its workers off.

Code of the environment's owner runs in it, so nothing that it says is believed beyond its own workers.
"""

import asyncio
import json
import logging
import signal
import socket
from asyncio.subprocess import STDOUT, Process
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from openlaunch.engines.base import Refused
from openlaunch.trash import discard
from openlaunch_worker.documents import ForkOrder, IsolationOrder, SignalOrder, UseOrder

FORK_SECONDS = 30.0
OBEY_SECONDS = 5.0
"""How long a nursery may take to end a worker that is killed, and to end itself, before it is killed whole."""

REST_SECONDS = 1.0
"""How long to wait for its last reports after its end: a process that it has started may hold its channel."""

MAX_REPORT = 4096

ORDERS_AT_ONCE = 16
"""Forks that are asked for and have not been reported: the channel holds more orders than these, but not all."""

_CODES = range(-64, 256)
"""How a worker can end."""

log = logging.getLogger(__name__)


class ForkedWorker:
    """Implements `groups.Child` with a worker that a nursery has forked off, or a spare, until it has work."""

    def __init__(self, nursery: "Nursery", worker_id: str) -> None:
        self._nursery = nursery
        self.id = worker_id
        self.is_spare = False
        self.returncode: int | None = None
        self._ended = asyncio.Event()

    def terminate(self) -> None:
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        if self.returncode is None:
            self._signal(signal.SIGKILL)
            asyncio.get_running_loop().call_later(OBEY_SECONDS, self._insist)

    def _signal(self, number: int) -> None:
        if self.returncode is None:
            self._nursery.send(SignalOrder(self.id, number).to_json())

    def _insist(self) -> None:
        if self.returncode is None:
            log.warning("the parent of worker %s did not end it, and is ended with all its workers", self.id)
            self._nursery.end()

    async def wait(self) -> int:
        await self._ended.wait()
        assert self.returncode is not None
        return self.returncode

    @property
    def ancestor(self) -> int:
        return self._nursery.pid

    def end(self, code: int) -> None:
        self.returncode = code
        self._ended.set()


class Nursery:
    """One environment's parent process; `Nursery.start` makes it."""

    def __init__(self, process: Process, channel: socket.socket, folder: Path) -> None:
        self.folder = folder
        """Where its workers' folders are made; it goes with them."""
        self._process = process
        self._channel = channel
        self._forking: dict[str, asyncio.Future[ForkedWorker]] = {}
        self._children: dict[str, ForkedWorker] = {}
        self._asking = asyncio.Semaphore(ORDERS_AT_ONCE)
        self._ending = False
        self._refusal = ""
        """Why its sandbox was not made, where that is required."""
        self._task = asyncio.create_task(self._run())

    @classmethod
    async def start(
        cls, command: Sequence[str], env: Mapping[str, str], folder: Path, output: int
    ) -> "Nursery":
        """Start the process, whose output goes to a descriptor. Raise `OSError` if it could not be started."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        try:
            with theirs:
                process = await asyncio.create_subprocess_exec(
                    *command,
                    cwd=folder,
                    env=dict(env),
                    stdin=theirs.fileno(),
                    stdout=output,
                    stderr=STDOUT,
                    start_new_session=True,
                )
        except BaseException:
            ours.close()
            raise
        return cls(process, ours, folder)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return not self._ending

    @property
    def is_idle(self) -> bool:
        return not self._forking and all(child.is_spare for child in self._children.values())

    async def fork(
        self,
        worker_id: str,
        env: Mapping[str, str],
        folder: Path,
        output: int,
        isolation: IsolationOrder | None,
        memory: int,
    ) -> ForkedWorker:
        """Fork a worker off, isolated if asked; it runs when this returns.

        Raise `OSError` if it does not, and `Refused` if it has to be isolated and this machine can't do it.
        """
        return await self._fork(ForkOrder(worker_id, dict(env), str(folder), isolation, memory), output)

    async def spare(
        self, spare_id: str, folder: Path, isolation: IsolationOrder | None, memory: int
    ) -> ForkedWorker:
        """Fork a spare off, which waits for `use`. Raise `OSError` if it does not run."""
        worker = await self._fork(ForkOrder(spare_id, None, str(folder), isolation, memory))
        worker.is_spare = True
        return worker

    def use(self, spare: ForkedWorker, env: Mapping[str, str], output: int) -> None:
        """Have a spare become a worker; if it has ended, the worker has."""
        spare.is_spare = False
        self.send(UseOrder(spare.id, dict(env)).to_json(), output)

    async def _fork(self, order: ForkOrder, *output: int) -> ForkedWorker:
        future: asyncio.Future[ForkedWorker] = asyncio.get_running_loop().create_future()
        worker = None
        try:
            async with self._asking, asyncio.timeout(FORK_SECONDS):
                if not self.alive:
                    raise OSError("the parent process of the environment's workers has ended")
                self._forking[order.id] = future
                self.send(order.to_json(), *output)
                worker = await asyncio.shield(future)
                return worker
        except TimeoutError:
            if not self._children:
                self.end()
            raise OSError(f"the environment's Python did not start within {FORK_SECONDS:g} s") from None
        finally:
            if worker is None:
                # The caller is gone: a worker that comes all the same, or has just come, is ended.
                future.add_done_callback(_kill_late)

    def send(self, order: dict[str, Any], *descriptors: int) -> None:
        """Send an order. One that does not read what it is sent is ended."""
        try:
            socket.send_fds(self._channel, [json.dumps(order).encode()], descriptors)
        except OSError as error:
            log.warning("the parent of workers takes no orders, and is ended: %s", error)
            self.end()

    def end(self) -> None:
        """End it with the workers that it still has. It is not alive from now on."""
        if self._ending:
            return
        self._ending = True
        with suppress(ProcessLookupError):
            self._process.terminate()

    async def _run(self) -> None:
        """Hear its reports until it ends, which no process that it has started can hold up."""
        gone = asyncio.create_task(self._process.wait())
        hearing = asyncio.create_task(self._hear())
        await asyncio.wait({gone, hearing}, return_when=asyncio.FIRST_COMPLETED)
        self.end()
        await asyncio.wait({gone}, timeout=OBEY_SECONDS)
        with suppress(ProcessLookupError):
            self._process.kill()
        await gone
        await asyncio.wait({hearing}, timeout=REST_SECONDS)
        hearing.cancel()
        await asyncio.wait({hearing})
        self._channel.close()
        self._ended()
        discard(self.folder)

    async def _hear(self) -> None:
        try:
            while report := await self._report():
                self._heard(json.loads(report))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            log.warning(
                "the parent of workers sent what is not a report, and is ended: %s", type(error).__name__
            )
        except OSError as error:
            log.warning("the parent of workers can't be heard: %s", error)

    async def _report(self) -> bytes:
        """Return its next report; b"" at its end."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.sock_recv(self._channel, MAX_REPORT)
        except ConnectionResetError:
            # It has ended without reading all its orders. The kernel says so before it gives out the last reports.
            return await loop.sock_recv(self._channel, MAX_REPORT)

    def _heard(self, report: dict[str, Any]) -> None:
        if "refused" in report:
            self._refusal = str(report["refused"])
            return
        worker_id = report["id"]
        if "code" in report:
            if (code := report["code"]) not in _CODES:
                raise ValueError("it is not how a process ends")
            self._children.pop(worker_id).end(int(code))
            return
        future = self._forking.pop(worker_id)
        if "error" in report:
            future.set_exception(OSError(str(report["error"])))
            future.exception()
        else:
            self._children[worker_id] = child = ForkedWorker(self, worker_id)
            future.set_result(child)

    def _ended(self) -> None:
        for future in self._forking.values():
            future.set_exception(
                Refused(self._refusal)
                if self._refusal
                else OSError("the environment's Python ended at its start; its log says why")
            )
            future.exception()
        for child in self._children.values():
            child.end(-signal.SIGKILL)
        self._forking.clear()
        self._children.clear()

    async def close(self) -> None:
        """End it at once, with the workers that it still has."""
        self.end()
        await asyncio.wait({self._task})


def _kill_late(future: "asyncio.Future[ForkedWorker]") -> None:
    if not future.cancelled() and future.exception() is None:
        future.result().kill()
