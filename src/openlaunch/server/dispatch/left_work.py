"""Requests of servers that are gone: nodes run them, or have their answers, until another server takes them up."""

import asyncio
import secrets
from collections.abc import Callable
from typing import Final, Protocol

from openlaunch.engines.base import EngineError
from openlaunch.nodes.agent_link import WorkerChannel
from openlaunch.nodes.calls import TakenUp, WorkerNews
from openlaunch.server.dispatch.arriving_answers import ArrivingAnswers
from openlaunch.server.dispatch.lane import Lane
from openlaunch.server.dispatch.lane_stand_in import Beside, expected_of
from openlaunch.server.dispatch.links import WorkerLink
from openlaunch.server.dispatch.member import Member
from openlaunch.server.dispatch.work import TASK_NAME, Work
from openlaunch.server.settings import WorkerSettings
from openlaunch_worker.frames import Kind

MAX_NAMES: Final = 100_000
LOOK_SECONDS: Final = 0.02


class Agent(Protocol):
    """The agent of a node that has such requests."""

    async def take_up(self, name: str) -> None:
        """Have the request of this name come over a channel of its own.

        Raises `EngineError` where the agent has none, or is away.
        """
        ...


class TakenUpLink(WorkerLink):
    """A link over which one request comes, which another server has sent."""

    _transport: WorkerChannel

    def begin(self, transport: WorkerChannel, number: int, work: Work) -> None:
        """Get what has come of the request from now on, and what will."""
        self._transport, self._sending, self._freed = transport, None, self._leave
        self._on_ready(Kind.READY, 0, b"")
        self.running[number] = work
        work.numbers = self._numbers
        work.started(self, number)

    def _leave(self, link: WorkerLink) -> None:
        """End with the request's answer, after what has come with it."""
        self._loop.call_soon(self._transport.close)


class TakenUpMember(Member):
    """A worker, as the sender of one request that this server has taken up."""

    def take_up(self, transport: WorkerChannel, number: int, work: Work) -> None:
        link = self.link = TakenUpLink(self)
        transport.set_protocol(link)
        link.begin(transport, number, work)


class _Reports:
    """Says to the leader what it should know of the worker."""

    def __init__(self, transport: WorkerChannel, gone: Callable[[], None]) -> None:
        self._transport, self._gone = transport, gone

    def worker_ready(self, worker_id: str) -> None:
        """Tell nobody: the leader knows."""

    def worker_load_failed(self, worker_id: str, reason: str, traceback: str | None) -> None:
        """Tell nobody: the worker says that to the leader."""

    def worker_leaving(self, worker_id: str, reason: str) -> None:
        """Tell nobody: the worker says that to the leader."""

    worker_worn = worker_unhealthy = worker_rested = worker_leaving

    def worker_stuck(self, worker_id: str, reason: str) -> None:
        self._transport.report(WorkerNews(worker_id, "stuck", reason))

    def worker_lost(self, worker_id: str, reason: str = "") -> None:
        if reason:
            self._transport.report(WorkerNews(worker_id, "broke", reason))
        self._gone()


class _Taking:
    """What a request that is taken up becomes here."""

    def __init__(self, lane: Lane, make: Callable[[TakenUp], Work | None]) -> None:
        self.lane, self.make = lane, make
        self.work: Work | None = None


class LeftWork:
    """Knows the names of such requests, and takes them up. Used in the event loop's thread only."""

    def __init__(self, settings: WorkerSettings, arriving: ArrivingAnswers) -> None:
        self._settings, self._arriving = settings, arriving
        self._agents: dict[str, Agent] = {}
        """By name. Some may have been taken up by others since, which their agent knows."""
        self._taking: dict[str, _Taking] = {}
        self._members: dict[str, set[TakenUpMember]] = {}
        """By worker."""

    def heard(self, names: list[str], agent: Agent) -> None:
        """Note requests that an agent has, whose server is gone."""
        for name in names:
            self._agents[name] = agent
        while len(self._agents) > MAX_NAMES:
            del self._agents[next(iter(self._agents))]

    def __contains__(self, name: str) -> bool:
        return name in self._agents

    def task_ids(self) -> frozenset[str]:
        """Return the ids of tasks."""
        return frozenset(name.removeprefix(TASK_NAME) for name in self._agents if name.startswith(TASK_NAME))

    async def wait_for(self, name: str, seconds: float) -> bool:
        """Wait until a request of this name is known, because its server may be about to be taken for dead."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while name not in self and loop.time() < until:  # noqa: ASYNC110 -- a rare case, which is over soon
            await asyncio.sleep(LOOK_SECONDS)
        return name in self

    async def take_up(self, name: str, lane: Lane, make: Callable[[TakenUp], Work | None]) -> Work | None:
        """Continue a request of the lane's endpoint here, as what `make` returns; None where no agent has it.

        What has come of it before has been handled when this returns, unless the agent is slow.
        """
        if (agent := self._agents.pop(name, None)) is None or name in self._taking:
            return None
        taking = self._taking[name] = _Taking(lane, make)
        try:
            await agent.take_up(name)
        except EngineError:
            pass  # where the agent is slow, or away since, it may have begun to come all the same
        finally:
            del self._taking[name]
        return taking.work

    def opened(self, taken_up: TakenUp, transport: WorkerChannel) -> asyncio.Protocol | None:
        """Return what reads a request that an agent gives to this server; None where that wants it no longer."""
        if (taking := self._taking.get(taken_up.name)) is None:
            return None
        work = taking.make(taken_up)
        if work is None or work.cancelled:
            return None
        worker_id = taken_up.worker_id
        members = self._members.setdefault(worker_id, set())
        reports = _Reports(transport, lambda: self._forget(worker_id, member))
        expected = expected_of(worker_id, taken_up.generation, self._settings)
        lane = Beside(taking.lane)
        member = TakenUpMember(expected, secrets.token_hex(8), lane, self._arriving, reports)
        members.add(member)
        member.take_up(transport, taken_up.number, work)
        taking.work = work
        return member.link

    def _forget(self, worker_id: str, member: TakenUpMember) -> None:
        if (members := self._members.get(worker_id)) is not None:
            members.discard(member)
            if not members:
                del self._members[worker_id]

    def running(self) -> list[Work]:
        """Return what runs and was taken up here."""
        return [work for members in self._members.values() for each in members for work in each.running]

    def running_in(self, worker_id: str) -> int:
        """Count what a worker runs and was taken up here."""
        return sum(len(each.running) for each in self._members.get(worker_id, ()))

    def ended(self, worker_id: str, reason: str, *, with_node: bool) -> None:
        """Note that a worker has ended, or is away with its node."""
        for member in self._members.pop(worker_id, ()):
            member.forget(reason, with_node=with_node)
