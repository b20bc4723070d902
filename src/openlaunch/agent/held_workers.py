"""The workers of a node: which server has each, and what becomes of those whose server is gone."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from openlaunch.agent.server_link import ServerLink
from openlaunch.agent.worker_relay import WorkerRelay
from openlaunch.engines.base import EngineError, KeptWorker, WorkerExit, WorkerSpec
from openlaunch.nodes import calls

CLAIM_SECONDS = 30.0
"""How long the server that has a worker may finish what runs there, once the one that leads now wants it."""
LOOK_SECONDS = 0.02


@dataclass(slots=True)
class HeldWorker:
    """A worker, the records that its endpoint is in, and the server that has it; None: it waits for one."""

    spec: WorkerSpec
    relay: WorkerRelay
    records: str
    link: ServerLink | None
    end: asyncio.TimerHandle | None = None
    """Ends it, where no server adopts it in time."""

    def has(self, link: ServerLink) -> None:
        """Note which server has it from now on."""
        self.link = link
        if self.end is not None:
            self.end.cancel()

    def kept(self) -> KeptWorker | None:
        """Return it as a server hears of it that may adopt it; None where none can."""
        spec = self.spec
        if spec.identity is None or not self.relay.may_be_kept:
            return None
        return KeptWorker(
            spec.worker_id, spec.endpoint_id, spec.identity, spec.resources, self.relay.is_ready
        )


class HeldWorkers:
    """Gives each worker to one server at a time. `stop` ends a worker at once."""

    def __init__(self, keep_seconds: float, node: str, stop: Callable[[str], None]) -> None:
        self._keep_seconds, self._node, self._stop = keep_seconds, node, stop
        self._by_id: dict[str, HeldWorker] = {}

    def add(self, worker: HeldWorker) -> None:
        self._by_id[worker.spec.worker_id] = worker

    def remove(self, worker_id: str) -> HeldWorker | None:
        """Forget a worker, whose process has ended or did not start."""
        worker = self._by_id.pop(worker_id, None)
        if worker is not None and worker.end is not None:
            worker.end.cancel()
        return worker

    def kept(self, records: str) -> Iterator[KeptWorker]:
        """Yield the workers that a server of these records may adopt, those of other servers among them."""
        for worker in self._by_id.values():
            if worker.records == records and (kept := worker.kept()) is not None:
                yield kept

    def left_by(self, link: ServerLink) -> int:
        """Keep the workers of a server that is gone, for a while; return how many. Those of no use are ended."""
        kept = 0
        for worker_id, worker in self._by_id.items():
            if worker.link is not link:
                continue
            worker.link = None
            worker.relay.detach()
            if worker.kept() is None or not self._keep_seconds:
                self._stop(worker_id)
            else:
                kept += 1
                loop = asyncio.get_running_loop()
                worker.end = loop.call_later(self._keep_seconds, self._stop, worker_id)
        return kept

    async def claim(self, worker_id: str, link: ServerLink) -> HeldWorker | None:
        """Take a worker from the server that has it, once nothing runs there; None where it is gone.

        The one that asks leads now, so the other one does no longer. What takes too long is cancelled.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + CLAIM_SECONDS
        while (worker := self._by_id.get(worker_id)) is not None:
            if worker.link is link:
                return worker
            if worker.link is None or worker.relay.is_idle or loop.time() > until:
                break
            await asyncio.sleep(LOOK_SECONDS)
        if worker is None:
            return None
        if worker.link is not None:
            away = WorkerExit(None, None, node=f"{self._node}, where another server uses it now")
            worker.link.tell(calls.ENDED, calls.Ended(worker_id, away, ""))
            worker.relay.give_up()
        worker.has(link)
        return worker

    async def adopt(self, adopted: calls.Adopt, link: ServerLink) -> None:
        """Give a worker to this server; raise `EngineError` if it is gone."""
        worker = await self.claim(adopted.worker_id, link)
        if worker is None or not worker.relay.may_be_kept:
            raise EngineError(f"the worker {adopted.worker_id} has ended")
        worker.relay.attach(link, adopted.token)
