"""The process that speaks to Ray, as a server uses it."""

import asyncio
import itertools
import json
import logging
import sys
from contextlib import suppress
from typing import Any

from openlaunch.background import BackgroundTasks

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 10.0
LINE_BYTES = 64 * 1024 * 1024
"""Limit on one answer: it has all nodes and placement groups."""


class RayAway(Exception):
    """Ray can't be reached, or does not answer."""


class RayProcess:
    """Calls Ray in another process, which is started anew whenever it has ended. No call waits for Ray for long."""

    def __init__(self) -> None:
        self.problem = "was not reached yet"
        """Why Ray can't be used; empty where it can."""
        self._process: asyncio.subprocess.Process | None = None
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._numbers = itertools.count(1)
        self._background = BackgroundTasks("Ray could not be looked after")

    @property
    def is_there(self) -> bool:
        return not self.problem

    def start(self) -> None:
        self._background.spawn(self._keep())

    async def close(self) -> None:
        await self._background.stop()

    async def call(self, method: str, timeout: float, **arguments: object) -> Any:
        """Return the answer; raise `RayAway` where there is none in time, or an error instead."""
        if self._process is None or self._process.stdin is None or not self.is_there:
            raise RayAway(self.problem)
        number, future = next(self._numbers), asyncio.get_running_loop().create_future()
        self._calls[number] = future
        request = {"id": number, "method": method, "arguments": arguments}
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            async with asyncio.timeout(timeout):
                return await future
        except TimeoutError:
            raise RayAway(f"did not answer within {timeout:g} s") from None
        finally:
            self._calls.pop(number, None)

    async def _keep(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            was_there = await self._run()
            pause = FIRST_PAUSE_SECONDS if was_there else min(2 * pause, LONGEST_PAUSE_SECONDS)
            await asyncio.sleep(pause)

    async def _run(self) -> bool:
        """Run the process until it ends; return whether it has reached Ray."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            "openlaunch.nodes.ray_client",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=LINE_BYTES,
            start_new_session=True,  # Ctrl-C is for the server
        )
        self._process = process
        assert process.stdout is not None
        assert process.stderr is not None
        reading = asyncio.create_task(_log_lines(process.stderr))
        was_there = False
        try:
            while line := await process.stdout.readline():
                self._answered(json.loads(line))
                was_there = was_there or self.is_there
        except ValueError as error:
            log.error("what Ray's process says can't be read: %s", error)
        finally:
            reading.cancel()
            self._process = None
            self._lost("has ended the connection" if was_there else self.problem)
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        return was_there

    def _answered(self, document: dict[str, Any]) -> None:
        if document["id"] == 0:
            self._set(document.get("error", ""))
        elif (future := self._calls.get(document["id"])) is not None and not future.done():
            if "error" in document:
                future.set_exception(RayAway(document["error"]))
            else:
                future.set_result(document["answer"])

    def _set(self, problem: str) -> None:
        if problem != self.problem:
            log.log(logging.WARNING if problem else logging.INFO, "Ray %s", problem or "is connected")
        self.problem = problem

    def _lost(self, problem: str) -> None:
        self._set(problem)
        for future in self._calls.values():
            if not future.done():
                future.set_exception(RayAway(problem))


async def _log_lines(stream: asyncio.StreamReader) -> None:
    with suppress(ValueError):  # a line beyond every limit
        while line := await stream.readline():
            log.debug("Ray: %s", line.decode(errors="replace").rstrip())
