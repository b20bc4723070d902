"""What an agent does for servers: it runs the node's engine for them, and keeps workers of those that are gone."""

import asyncio
import itertools
import logging
import platform
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from openlaunch.agent.bridges import bridge
from openlaunch.agent.builds import AgentBuilds
from openlaunch.agent.epoch_file import EpochFile
from openlaunch.agent.held_workers import HeldWorker, HeldWorkers
from openlaunch.agent.jobs import AgentJobs
from openlaunch.agent.logs import AgentLogs
from openlaunch.agent.server_link import Method, ServerLink
from openlaunch.agent.shared_slots import SharedSlots
from openlaunch.agent.worker_calls import Caller, WorkerCalls
from openlaunch.agent.worker_relay import WorkerRelay
from openlaunch.background import BackgroundTasks
from openlaunch.engines.base import Engine, EngineError
from openlaunch.engines.documents import Capacity, KeptWorker, WorkerExit, WorkerSpec
from openlaunch.nodes import calls
from openlaunch.nodes.identity import ClusterIdentity
from openlaunch.server.dispatch.link_server import LinkServer
from openlaunch.server.gateway.passing_on import ANY_OTHER
from openlaunch.server.logs import RareLog
from openlaunch_worker.frames import SEAT_IDS

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.02
MAX_SERVERS = 64
MAX_SEATS = 255
"""How many servers the ids of requests tell apart: those that are connected, and those whose work is kept."""


class NodeAgent:
    """Runs an engine for servers over their links. Used in the event loop's thread only."""

    def __init__(
        self,
        engine: Engine,
        identity: ClusterIdentity,
        epochs: EpochFile,
        drain_mark: Path,
        keep_seconds: float,
    ) -> None:
        self.identity = identity
        self.refusals = RareLog(log)
        self.name = platform.node()
        self.links: set[ServerLink] = set()
        self._engine = engine
        self._epochs = epochs
        self._keep_seconds = keep_seconds
        self._drain_mark, self._draining = drain_mark, drain_mark.exists()
        self._workers = LinkServer(self._use_token)
        self._expected: dict[str, WorkerRelay] = {}
        """By token: workers that have not connected."""
        self._calls = WorkerCalls()
        self._held = HeldWorkers(keep_seconds, self._end, lambda records: bool(self._slots_of(records).links))
        self._slots: dict[str, SharedSlots] = {}
        """By the records that their endpoints are in."""
        self._names = itertools.count(1)
        self._seats = itertools.cycle(range(SEAT_IDS, 256 * SEAT_IDS, SEAT_IDS))
        self._background = BackgroundTasks("what an agent does beside its servers failed")
        self._builds = AgentBuilds(engine.builds, self.links, keep_seconds, self._background)
        self._logs = logs = AgentLogs(engine.logs)
        jobs = AgentJobs(engine.jobs)
        self.methods = {
            each.call.name: each
            for each in (
                Method(calls.LEAD, self._lead),
                Method(calls.LEAVE, self._leave),
                Method(calls.REPORT, self._report),
                Method(calls.REACH, self._reach),
                Method(calls.TAKE_UP, self._take_up),
                Method(calls.DRAIN, self._ordered(self._drain)),
                Method(calls.ADOPT, self._ordered(lambda link, asked: self._held.adopt(asked, link))),
                Method(calls.PREPARE, self._ordered(self._builds.prepare)),
                Method(calls.ENVIRONMENTS, lambda link, _: engine.builds.environments()),
                Method(
                    calls.PRUNE,
                    self._ordered(lambda link, asked: engine.builds.prune(asked.used, asked.owner)),
                ),
                Method(calls.START, self._ordered(self._start)),
                Method(calls.STOP, self._ordered(self._stop)),
                Method(calls.NOTE, logs.note),
                Method(calls.READ_LOGS, logs.read),
                Method(calls.FOLLOW, logs.follow),
                Method(calls.POLL, logs.poll),
                Method(calls.REMOVE_LOGS, self._ordered(logs.remove)),
                Method(calls.HOLD_JOB, self._ordered(jobs.hold)),
                Method(calls.KEEP_JOBS, self._ordered(jobs.keep)),
                Method(calls.START_JOB, self._ordered(jobs.start)),
                Method(calls.JOB_STATE, self._ordered(jobs.state)),
                Method(calls.WAIT_FOR_JOB, self._ordered(jobs.wait)),
                Method(calls.JOB_LINES, self._ordered(jobs.lines)),
                Method(calls.STOP_JOB, self._ordered(jobs.stop)),
                Method(calls.REMOVE_JOBS, self._ordered(jobs.remove)),
                Method(calls.RELEASE_JOB, self._ordered(jobs.release)),
            )
        }
        engine.listen(self)

    def _ordered(
        self, run: Callable[[ServerLink, Any], Awaitable[Any]]
    ) -> Callable[[ServerLink, Any], Awaitable[Any]]:
        """Return what does the same for the newest leader alone."""

        async def obey(link: ServerLink, asked: Any) -> Any:
            self._epochs.obey(link.records, link.epoch)
            return await run(link, asked)

        return obey

    def start(self) -> None:
        """Let workers connect."""
        self._workers.start()

    async def finish(self, seconds: float, at_once: asyncio.Event) -> None:
        """Take no further requests and workers, and wait until what runs has ended, for these seconds at most."""
        self._draining = True
        self._tell_capacity()
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while self.links and self._take_back():
            if at_once.is_set() or loop.time() >= until:
                log.warning("requests had not ended after %g s; they are broken off", seconds)
                return
            await asyncio.sleep(LOOK_SECONDS)

    def _take_back(self) -> bool:
        """Take back all slots; return whether one is still used."""
        used = [slots.take_back() for slots in self._slots.values()]
        return any(used)

    async def close(self) -> None:
        """Leave the servers, and end every worker."""
        for link in list(self.links):
            link.lose("the agent stops")
        await self._background.stop()
        await self._engine.close()
        self._workers.close()

    def capacity(self) -> Capacity:
        return replace(self._engine.capacity(), draining=self._draining)

    async def _drain(self, link: ServerLink, draining: bool) -> None:
        if draining:
            self._drain_mark.touch()
        else:
            self._drain_mark.unlink(missing_ok=True)
        self._draining = draining
        self._tell_capacity()

    def joined(self, link: ServerLink) -> None:
        taken = {each.first_id for each in self.links}
        for slots in self._slots.values():
            taken |= slots.kept.first_ids()
        if len(self.links) == MAX_SERVERS or len(taken) == MAX_SEATS:
            link.lose(f"is one more than the {MAX_SERVERS} servers that an agent serves")
            return
        link.first_id = next(each for each in self._seats if each not in taken)
        link.name = f"{link.peer}/{next(self._names)}"
        self.links.add(link)
        log.info("the server at %s is connected", link.peer)
        self._slots_of(link.records).join(link)

    def _slots_of(self, records: str) -> SharedSlots:
        return self._slots.setdefault(records, SharedSlots())

    def wanted(self, link: ServerLink, endpoint_id: str, waiting: int) -> None:
        if link in self.links:
            self._slots_of(link.records).wanted(link, endpoint_id, waiting)

    def left(self, link: ServerLink) -> None:
        if link not in self.links:
            return
        self.links.discard(link)
        log.warning("the server at %s %s", link.peer, link.lost_because)
        self._keep_workers_of(link)
        self._slots_of(link.records).leave(link)
        self._logs.leave(link)

    def _keep_workers_of(self, link: ServerLink) -> None:
        if kept := self._held.left_by(link):
            text = "%d workers that the server at %s has led are kept for the next leader, for up to %g s"
            log.info(text, kept, link.peer, self._keep_seconds)

    async def _leave(self, link: ServerLink, _: None) -> None:
        link.epoch = None
        self._keep_workers_of(link)

    async def _report(self, link: ServerLink, news: calls.WorkerNews) -> None:
        if (relay := self._held.relay_of(news.worker_id, link.records)) is not None:
            relay.tell(news.kind, news.reason)

    async def _take_up(self, link: ServerLink, name: str) -> None:
        self._slots_of(link.records).kept.take_up(name, link)

    async def _reach(self, link: ServerLink, asked: calls.Reach) -> int:
        slots = self._slots_of(link.records)
        others = slots.links.values()
        if asked.server == ANY_OTHER:
            rest = [each for each in others if each is not link]
            found = slots.kept.server_of(asked.work) or (random.choice(rest) if rest else None)
        elif asked.server:
            named = (each for each in others if each.server == asked.server)
            found = next(named, None) or slots.kept.server_of(asked.work)
        else:
            leaders = [each for each in others if each.epoch is not None]
            found = max(leaders, key=lambda each: each.epoch or 0, default=None)
        return bridge(link, found, asked.client)

    def _end(self, worker_id: str) -> None:
        self._background.spawn(self._engine.stop(worker_id, 0))

    async def _lead(self, link: ServerLink, epoch: int) -> list[KeptWorker]:
        try:
            self._epochs.obey(link.records, epoch)
        except EngineError as error:
            log.warning("the server at %s is refused: %s", link.peer, error)
            raise
        link.epoch = epoch
        return list(self._held.kept(link.records))

    def _use_token(self, token: str, seat: int) -> "WorkerRelay | Caller | None":
        return self._expected.pop(token, None) or self._calls.find(token, seat)

    async def _start(self, link: ServerLink, spec: WorkerSpec) -> None:
        relay = self._expected[spec.token] = WorkerRelay(spec, link, self._slots_of(link.records))
        self._held.add(HeldWorker(spec, relay, link.records, link))
        self._calls.add(relay)
        try:
            await self._engine.start(replace(spec, address=self._workers.address))
        except BaseException:
            self._forget(spec.worker_id)
            raise
        if link not in self.links:  # it was lost meanwhile
            await self._engine.stop(spec.worker_id, 0)
        self._tell_capacity()

    async def _stop(self, link: ServerLink, asked: calls.Stop) -> None:
        self._held.claim(asked.worker_id, link)
        await self._engine.stop(asked.worker_id, asked.grace)

    def _forget(self, worker_id: str) -> HeldWorker | None:
        if (worker := self._held.remove(worker_id)) is not None:
            self._expected.pop(worker.spec.token, None)
            self._calls.remove(worker.relay)
        return worker

    def worker_ended(self, worker_id: str, ended: WorkerExit) -> None:
        if (worker := self._forget(worker_id)) is not None:
            ended = replace(ended, served=worker.relay.served)
            for link in self._slots_of(worker.records).links.values():
                link.tell(calls.ENDED, calls.Ended(worker_id, ended, ended.last_lines))
        self._tell_capacity()

    def _tell_capacity(self) -> None:
        for link in self.links:
            link.tell(calls.CAPACITY, self.capacity())

    def build_started(self, build_id: str) -> None:
        self._builds.tell(calls.BuildNews(build_id, "started"))

    def build_said(self, build_id: str, line: str) -> None:
        self._builds.tell(calls.BuildNews(build_id, "said", line))

    def build_does(self, build_id: str, step: str) -> None:
        self._builds.tell(calls.BuildNews(build_id, "does", step))
