"""The server's side of an environment's nursery: the process that forks its workers off."""

import asyncio
import json
import os
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from openlaunch.engines.groups import kill_group
from openlaunch_worker.documents import ForkOrder, IsolationOrder

FORK_SECONDS = 30.0


class ForkedWorker:
    """A worker that a nursery has forked off; as `asyncio.subprocess.Process`, as far as it goes."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._ended = asyncio.Event()

    def terminate(self) -> None:
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def wait(self) -> int:
        await self._ended.wait()
        assert self.returncode is not None
        return self.returncode

    def end(self, code: int) -> None:
        self.returncode = code
        self._ended.set()


class Nursery:
    """One environment's parent process; `Nursery.start` makes it."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._forking: dict[str, asyncio.Future[ForkedWorker]] = {}
        self._children: dict[str, ForkedWorker] = {}
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def start(
        cls, command: Sequence[str], env: Mapping[str, str], folder: Path, log: Path
    ) -> "Nursery":
        """Start the process in `folder`; `log` gets its errors. Raise `OSError` if it could not be started."""
        with log.open("ab") as errors:
            process = await asyncio.create_subprocess_exec(
                *command,
                cwd=folder,
                env=dict(env),
                stdin=PIPE,
                stdout=PIPE,
                stderr=errors,
                start_new_session=True,
            )
        return cls(process)

    @property
    def alive(self) -> bool:
        return not self._reader.done()

    @property
    def is_idle(self) -> bool:
        return not self._children and not self._forking

    async def fork(
        self,
        worker_id: str,
        env: Mapping[str, str],
        folder: Path,
        log: Path,
        isolation: IsolationOrder | None,
    ) -> ForkedWorker:
        """Fork a worker off, isolated if asked; it runs when this returns. Raise `OSError` if it does not."""
        assert self._process.stdin is not None
        future: asyncio.Future[ForkedWorker] = asyncio.get_running_loop().create_future()
        self._forking[worker_id] = future
        order = ForkOrder(worker_id, dict(env), str(folder), str(log), isolation)
        try:
            if not self.alive:
                raise OSError("the parent process of the environment's workers has ended")
            self._process.stdin.write(json.dumps(order.to_json()).encode() + b"\n")
            async with asyncio.timeout(FORK_SECONDS):
                return await asyncio.shield(future)
        except TimeoutError:
            raise OSError(f"the environment's Python did not start within {FORK_SECONDS:g} s") from None
        finally:
            if not future.done():
                # The caller is gone: a worker that comes all the same is ended.
                future.add_done_callback(_kill_late)

    async def _read(self) -> None:
        assert self._process.stdout is not None
        try:
            while line := await self._process.stdout.readline():
                self._heard(json.loads(line))
        finally:
            self._ended()

    def _heard(self, report: Mapping[str, object]) -> None:
        worker_id = str(report["id"])
        if "code" in report:
            self._children.pop(worker_id).end(int(str(report["code"])))
            return
        future = self._forking.pop(worker_id)
        if "error" in report:
            future.set_exception(OSError(str(report["error"])))
            future.exception()
        else:
            self._children[worker_id] = child = ForkedWorker(int(str(report["pid"])))
            future.set_result(child)

    def _ended(self) -> None:
        for future in self._forking.values():
            future.set_exception(OSError("the environment's Python ended at its start; its log says why"))
            future.exception()
        for child in self._children.values():
            # The kernel ends them with their parent on Linux; elsewhere the end of the connection does.
            kill_group(child.pid)
            child.end(-signal.SIGKILL)
        self._forking.clear()
        self._children.clear()

    async def close(self) -> None:
        """End it at once, with the workers that it still has."""
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        await asyncio.wait({self._reader})


def _kill_late(future: "asyncio.Future[ForkedWorker]") -> None:
    if not future.cancelled() and future.exception() is None:
        future.result().kill()
