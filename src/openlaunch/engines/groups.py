"""Process groups: a process that leads its own session is ended together with all that it started."""

import asyncio
import os
import signal
from contextlib import suppress
from typing import Protocol


class Child(Protocol):
    """A process that leads its own session: asyncio's, or a forked one."""

    @property
    def pid(self) -> int:
        """Of the process and of its group."""

    @property
    def returncode(self) -> int | None:
        """How it ended; None while it runs."""

    def terminate(self) -> None: ...

    def kill(self) -> None: ...

    async def wait(self) -> int: ...


def kill_group(leader: int) -> None:
    """Send SIGKILL to the leader's group, unless all of its processes have ended."""
    with suppress(ProcessLookupError, PermissionError):  # macOS says EPERM of a group that has only zombies
        os.killpg(leader, signal.SIGKILL)


async def end_process(process: Child, grace: float) -> None:
    """Send SIGTERM to the process, SIGKILL to its group after `grace` seconds, and wait until it is gone.

    Only the leader gets the SIGTERM, so that it can still use the processes it started while it finishes.
    """
    if process.returncode is None and grace > 0:
        with suppress(ProcessLookupError):
            process.terminate()
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await process.wait()
    kill_group(process.pid)
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.kill()  # a fork that has not come to lead its group yet
    await process.wait()
