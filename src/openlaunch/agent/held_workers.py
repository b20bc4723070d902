"""The workers of a node: which server leads each, and what becomes of those whose leader is gone."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from openlaunch.agent.server_link import ServerLink
from openlaunch.agent.worker_relay import WorkerRelay
from openlaunch.engines.base import EngineError
from openlaunch.engines.documents import KeptWorker, WorkerSpec
from openlaunch.nodes import calls


@dataclass(slots=True)
class HeldWorker:
    """A worker, the records that its endpoint is in, and the server that leads it; None: it waits for one."""

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
    """Has each worker led by one server at a time. `stop` ends a worker at once.

    `serves` says whether a server of these records is connected, leader or not: its workers serve, and stay.
    """

    def __init__(
        self, keep_seconds: float, stop: Callable[[str], None], serves: Callable[[str], bool]
    ) -> None:
        self._keep_seconds, self._stop, self._serves = keep_seconds, stop, serves
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
        """Keep the workers of a leader that is gone, for a while; return how many. Those of no use are ended."""
        kept = 0
        for worker_id, worker in self._by_id.items():
            if worker.link is not link:
                continue
            worker.link = None
            worker.relay.detach()
            if not self._keep_seconds or (worker.kept() is None and not worker.relay.ends_well):
                self._stop(worker_id)
            else:
                kept += 1
                self._keep(worker)
        return kept

    def _keep(self, worker: HeldWorker) -> None:
        worker.end = asyncio.get_running_loop().call_later(self._keep_seconds, self._look_at, worker)

    def _look_at(self, worker: HeldWorker) -> None:
        """End a worker that nobody has adopted, unless it serves without a leader."""
        if self._serves(worker.records) and worker.relay.may_be_kept:
            self._keep(worker)
        else:
            self._stop(worker.spec.worker_id)

    def relay_of(self, worker_id: str, records: str) -> WorkerRelay | None:
        worker = self._by_id.get(worker_id)
        return worker.relay if worker is not None and worker.records == records else None

    def claim(self, worker_id: str, link: ServerLink) -> HeldWorker | None:
        """Have a worker led by this server, which leads now, so that no other one does; None where it is gone.

        Raises:
            EngineError: it is of servers with other records, which this one does not lead.
        """
        worker = self._by_id.get(worker_id)
        if worker is not None and worker.records != link.records:
            raise EngineError(
                f"the worker {worker_id} is of a server with other records: only that may have it"
            )
        if worker is not None and worker.link is not link:
            worker.relay.detach()
            worker.has(link)
        return worker

    async def adopt(self, adopted: calls.Adopt, link: ServerLink) -> None:
        """Have a worker led by this server; raise `EngineError` if it is gone, or of other records."""
        worker = self.claim(adopted.worker_id, link)
        if worker is None or not worker.relay.may_be_kept:
            raise EngineError(f"the worker {adopted.worker_id} has ended")
        worker.relay.attach(link, adopted.token)
