"""What an agent does for servers: it runs the node's engine for them, and ends the workers of those that are gone."""

import logging
import platform
from dataclasses import replace

from openlaunch.agent.server_link import Method, ServerLink
from openlaunch.agent.worker_relay import WorkerRelay
from openlaunch.background import BackgroundTasks
from openlaunch.engines.base import BuildOrder, Capacity, Engine, LogFollower, LogLine, WorkerExit, WorkerSpec
from openlaunch.nodes import calls
from openlaunch.nodes.identity import ClusterIdentity
from openlaunch.server.dispatch.link_server import LinkServer

log = logging.getLogger(__name__)

MAX_FOLLOWERS = 1000
"""Limit on the logs that are followed at the same time; past it, the one that was begun first ends."""


class NodeAgent:
    """Runs an engine for servers over their links. Used in the event loop's thread only."""

    def __init__(self, engine: Engine, identity: ClusterIdentity) -> None:
        self.identity = identity
        self.name = platform.node()
        self.links: set[ServerLink] = set()
        self._engine = engine
        self._workers = LinkServer(self._use_token)
        self._expected: dict[str, WorkerRelay] = {}
        """By token: workers that have not connected."""
        self._of: dict[str, tuple[ServerLink, str]] = {}
        """The server that started each worker, and the worker's token."""
        self._builds: dict[str, ServerLink] = {}
        self._followers: dict[tuple[ServerLink, str], LogFollower] = {}
        self._background = BackgroundTasks("a worker could not be ended")
        self.methods = {
            each.call.name: each
            for each in (
                Method(calls.PREPARE, self._prepare),
                Method(calls.ENVIRONMENTS, lambda link, _: engine.environments()),
                Method(calls.PRUNE, lambda link, asked: engine.prune(asked.used, asked.owner)),
                Method(calls.START, self._start),
                Method(calls.STOP, lambda link, asked: engine.stop(asked.worker_id, asked.grace)),
                Method(calls.NOTE, self._note),
                Method(
                    calls.READ_LOGS, lambda link, asked: engine.worker_logs(asked.endpoint_id, asked.part)
                ),
                Method(calls.FOLLOW, self._follow),
                Method(calls.POLL, self._poll),
                Method(calls.REMOVE_LOGS, lambda link, endpoint_id: engine.remove_logs(endpoint_id)),
            )
        }
        engine.listen(self)

    def start(self) -> None:
        """Let workers connect."""
        self._workers.start()

    async def close(self) -> None:
        """Leave the servers, and end every worker."""
        for link in list(self.links):
            link.lose("the agent stops")
        await self._background.stop()
        await self._engine.close()
        self._workers.close()

    def capacity(self) -> Capacity:
        return self._engine.capacity()

    def joined(self, link: ServerLink) -> None:
        self.links.add(link)
        log.info("the server at %s is connected", link.peer)

    def left(self, link: ServerLink) -> None:
        if link not in self.links:
            return
        self.links.discard(link)
        ids = [worker_id for worker_id, (owner, _) in self._of.items() if owner is link]
        log.warning("the server at %s %s; its %d workers are ended", link.peer, link.lost_because, len(ids))
        self._followers = {key: each for key, each in self._followers.items() if key[0] is not link}
        for worker_id in ids:
            self._background.spawn(self._engine.stop(worker_id, 0))

    def _use_token(self, token: str) -> WorkerRelay | None:
        return self._expected.pop(token, None)

    async def _prepare(self, link: ServerLink, build: BuildOrder) -> str:
        self._builds[build.id] = link
        try:
            return await self._engine.prepare(build)
        finally:
            self._builds.pop(build.id, None)

    async def _start(self, link: ServerLink, spec: WorkerSpec) -> None:
        self._of[spec.worker_id] = (link, spec.token)
        self._expected[spec.token] = WorkerRelay(link, spec.token)
        try:
            await self._engine.start(replace(spec, address=self._workers.address))
        except BaseException:
            self._forget(spec.worker_id)
            raise
        if link not in self.links:  # it was lost meanwhile
            await self._engine.stop(spec.worker_id, 0)
        self._tell_capacity()

    def _forget(self, worker_id: str) -> ServerLink | None:
        if (known := self._of.pop(worker_id, None)) is None:
            return None
        link, token = known
        self._expected.pop(token, None)
        return link

    async def _note(self, link: ServerLink, note: calls.Note) -> None:
        self._engine.note(note.endpoint_id, note.worker_id, note.text)

    async def _follow(self, link: ServerLink, asked: calls.Follow) -> list[LogLine]:
        if len(self._followers) >= MAX_FOLLOWERS:
            self._followers.pop(next(iter(self._followers)))
        follower = self._followers[link, asked.name] = self._engine.follow_logs(asked.endpoint_id)
        return await follower.begin(asked.part)

    async def _poll(self, link: ServerLink, name: str) -> list[LogLine]:
        follower = self._followers.get((link, name))
        return [] if follower is None else await follower.poll()

    def worker_ended(self, worker_id: str, ended: WorkerExit) -> None:
        if (link := self._forget(worker_id)) is not None:
            link.tell(calls.ENDED, calls.Ended(worker_id, ended, ended.last_lines))
        self._tell_capacity()

    def _tell_capacity(self) -> None:
        for link in self.links:
            link.tell(calls.CAPACITY, self.capacity())

    def build_started(self, build_id: str) -> None:
        self._tell_of_build(calls.BuildNews(build_id, "started"))

    def build_said(self, build_id: str, line: str) -> None:
        self._tell_of_build(calls.BuildNews(build_id, "said", line))

    def build_does(self, build_id: str, step: str) -> None:
        self._tell_of_build(calls.BuildNews(build_id, "does", step))

    def _tell_of_build(self, news: calls.BuildNews) -> None:
        if (link := self._builds.get(news.build_id)) is not None:
            link.tell(calls.BUILD, news)
