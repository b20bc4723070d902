"""Processes that are ended together with all that they started."""

import asyncio
import os
import signal
from asyncio.subprocess import Process
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol


class Child(Protocol):
    """A process: one that leads its own session, or a nursery's fork."""

    @property
    def returncode(self) -> int | None:
        """How it ended; None while it runs."""

    def terminate(self) -> None: ...

    def kill(self) -> None:
        """End it with all that it started, which may be left where it has ended itself."""

    async def wait(self) -> int: ...

    @property
    def ancestor(self) -> int:
        """The process itself, or one of the server's that it is below."""


@dataclass(frozen=True, slots=True)
class Leader:
    """Implements `Child` with a process that leads a session, and so a group."""

    process: Process

    @property
    def returncode(self) -> int | None:
        return self.process.returncode

    def terminate(self) -> None:
        with suppress(ProcessLookupError):
            self.process.terminate()

    def kill(self) -> None:
        with suppress(
            ProcessLookupError, PermissionError
        ):  # macOS says EPERM of a group that has only zombies
            os.killpg(self.process.pid, signal.SIGKILL)

    async def wait(self) -> int:
        return await self.process.wait()

    @property
    def ancestor(self) -> int:
        return self.process.pid


async def end_child(child: Child, grace: float) -> None:
    """Send SIGTERM to the process, SIGKILL to all that it started after `grace` seconds, and wait until it is gone.

    Only the process itself gets the SIGTERM, so that it can still use those that it started while it finishes.
    """
    if child.returncode is None and grace > 0:
        child.terminate()
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await child.wait()
    child.kill()
    await child.wait()


async def end_process(process: Process, grace: float) -> None:
    """End a process that leads a session as `end_child` does."""
    await end_child(Leader(process), grace)
