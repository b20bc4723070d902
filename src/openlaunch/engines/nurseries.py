"""The nurseries of environments: each is started for its environment's first worker, in a sandbox."""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Collection, Hashable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from stat import S_ISSOCK

from openlaunch.engines.groups import Child
from openlaunch.engines.log_writer import LogWriter
from openlaunch.engines.nursery import Nursery
from openlaunch.engines.process_spec import ProcessSpec
from openlaunch.engines.sandbox import Sandboxes, make_folder, user
from openlaunch.engines.spares import Spare, Spares
from openlaunch.engines.usage import NURSERY_MEMORY, UsageWatch, WatchedNursery
from openlaunch.trash import discard
from openlaunch_worker.documents import IsolationOrder
from openlaunch_worker.event_loop import UVLOOP
from openlaunch_worker.module_command import module_command
from openlaunch_worker.sandbox import CHANNEL

MAX_NURSERIES = 8
"""Nurseries that are kept; a further one replaces an idle one, the one that was not used for the longest time."""


class Nurseries:
    """Nurseries, and their folders below `root`: one for each nursery, in which its workers have theirs.

    They are not in a sandbox, and their workers not isolated, where `sandboxes` is None.
    """

    def __init__(
        self,
        root: Path,
        environ: Mapping[str, str],
        sandboxes: Sandboxes | None,
        logs: LogWriter,
        usage: UsageWatch,
    ) -> None:
        self._root = root
        self._logs = logs
        self._usage = usage
        self._environ = environ
        self._sandboxes = sandboxes
        self._started: dict[Path, asyncio.Task[Nursery]] = {}
        self._spares = Spares()

    async def fork(self, spec: ProcessSpec, environ: Mapping[str, str], output: int) -> tuple[Child, Path]:
        """Fork a worker off its environment's nursery, and return it with its folder. Raise `OSError` if it fails.

        It prints to the descriptor `output`.
        """
        nursery = await self._nursery(spec)
        kind = (spec.memory_bound, tuple(self._readable(spec)), spec.cache)
        if (spare := self._spares.take(nursery, kind)) is not None:
            nursery.use(spare.worker, environ, output)
            worker, folder = spare.worker, spare.folder
        else:
            async with self._folder(nursery, "worker-") as folder:
                isolation = self._isolation(spec, folder)
                worker = await nursery.fork(
                    spec.worker_id, environ, folder / "work", output, isolation, spec.memory_bound
                )
        self._spares.renew(nursery, kind, partial(self._spare, nursery, kind, spec))
        return worker, folder

    async def _spare(self, nursery: Nursery, kind: Hashable, spec: ProcessSpec) -> Spare:
        async with self._folder(nursery, "spare-") as folder:
            isolation = self._isolation(spec, folder)
            spare = await nursery.spare(folder.name, folder / "work", isolation, spec.memory_bound)
            return Spare(kind, spare, folder)

    @asynccontextmanager
    async def _folder(self, nursery: Nursery, prefix: str) -> AsyncIterator[Path]:
        """Make a folder for a fork, which goes again if there is none."""
        folder = make_folder(Path(tempfile.mkdtemp(prefix=prefix, dir=nursery.folder)), "work")
        try:
            yield folder
        except BaseException:
            discard(folder)
            raise

    def _isolation(self, spec: ProcessSpec, folder: Path) -> IsolationOrder | None:
        if (sandboxes := self._sandboxes) is None:
            return None
        return IsolationOrder(
            sandboxes.view(folder, self._readable(spec), [spec.cache] if spec.cache else []),
            memory=spec.memory_bound,
            processes=sandboxes.processes,
            required=sandboxes.required,
        )

    def _readable(self, spec: ProcessSpec) -> Collection[Path]:
        loop = [Path(self._environ[UVLOOP])] if UVLOOP in self._environ else []
        socket = [Path(spec.address).parent] if spec.address.startswith("/") else []
        return [*spec.readable, *loop, *socket]

    async def _nursery(self, spec: ProcessSpec) -> Nursery:
        """Return the nursery of the worker's environment, which is started if there is none."""
        task = self._started.pop(spec.python, None)
        if task is None or (task.done() and not (task.exception() is None and task.result().alive)):
            task = asyncio.create_task(self._start(spec))
        self._started[spec.python] = task  # the last in the order is the one that was asked for last
        return await asyncio.shield(task)

    async def _start(self, spec: ProcessSpec) -> Nursery:
        await self._make_room()  # here, so that a call that comes meanwhile finds this one
        folder = Path(tempfile.mkdtemp(prefix="nursery-", dir=self._root))
        os.chmod(folder, 0o711)  # noqa: PTH101, S103 -- the way to what is the workers', who may be another user
        _give_socket(spec.address)
        command = module_command(spec.python, "openlaunch_worker.nursery", spec.runtime)
        if self._sandboxes is None:
            command = [*command, "0"]
        else:
            own = make_folder(folder / "own")
            command = self._sandboxes.command(
                [*command, str(CHANNEL)],
                own,
                readable=self._readable(spec),
                writable=[folder, spec.caches] if spec.caches else [folder],
                channel=True,
                final=False,
            )
        log = self._logs.open(spec.log_path)
        try:
            nursery = await Nursery.start(command, self._environ, folder, log.sending)
            if spec.is_owners:  # else no owner's code runs in it
                memory = NURSERY_MEMORY if spec.memory else 0
                self._usage.add_nursery(WatchedNursery(nursery, log, memory))
            return nursery
        except BaseException:
            discard(folder)
            raise
        finally:
            log.close_sending()

    async def _make_room(self) -> None:
        for python, task in list(self._started.items()):
            if len(self._started) <= MAX_NURSERIES:
                return
            if task.done() and (task.exception() is not None or task.result().is_idle):
                del self._started[python]
                if task.exception() is None:
                    await task.result().close()

    async def close(self) -> None:
        await self._spares.close()
        started = await asyncio.gather(*self._started.values(), return_exceptions=True)
        await asyncio.gather(*(nursery.close() for nursery in started if isinstance(nursery, Nursery)))


def _give_socket(address: str) -> None:
    """Let workers connect to the server's socket, if that is one in a folder that the server made for it alone.

    Both stay the server's: a worker can't put anything else in their place.
    """
    file = Path(address)
    with suppress(OSError):
        if S_ISSOCK(file.stat().st_mode) and not file.parent.stat().st_mode & 0o077 and (group := user()):
            for path, mode in ((file, 0o660), (file.parent, 0o710)):
                os.chown(path, -1, group)
                path.chmod(mode)
