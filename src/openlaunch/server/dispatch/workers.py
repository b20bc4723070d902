"""The workers of all endpoints, as the controller expects, drains and forgets them."""

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from openlaunch.artifacts.base import Artifacts
from openlaunch.controller.fleet import FleetEvents
from openlaunch.engines.documents import Standing
from openlaunch.errors import Unavailable
from openlaunch.server.dispatch.arriving_answers import ArrivingAnswers
from openlaunch.server.dispatch.callers import Caller, Callers
from openlaunch.server.dispatch.lanes import Lanes
from openlaunch.server.dispatch.link_server import LinkServer
from openlaunch.server.dispatch.member import Member
from openlaunch.server.dispatch.starts import Starts
from openlaunch.server.dispatch.waits import Waits
from openlaunch.server.dispatch.work import Call, Work
from openlaunch.server.prediction.schema_cache import SchemaCache
from openlaunch.server.settings import WorkerSettings
from openlaunch.store.records import BundleRecord, EndpointRecord

if TYPE_CHECKING:
    from openlaunch.nodes.agent_link import WorkerChannel
    from openlaunch.nodes.calls import WorkerNews
    from openlaunch.server.dispatch.seats import LedLink, LedMember, Seats


class Workers:
    """Implements the controller's `Fleet`. Used in the event loop's thread only."""

    def __init__(
        self, settings: WorkerSettings, artifacts: Artifacts, lanes: Lanes, schemas: SchemaCache
    ) -> None:
        self._lanes = lanes
        self._starts = Starts(settings, artifacts, schemas)
        self.terms = self._starts.terms
        self.arriving = ArrivingAnswers(settings.max_answers_bytes // 2)
        self._links = LinkServer(self._use_token)
        self.seats: Seats | None = None
        """Over which requests go to workers on nodes; None where workers are on this machine."""
        self.waits: Waits | None = None
        """Calls at other servers that use the same workers."""
        self._members: dict[str, Member] = {}
        self._expected: dict[str, Member] = {}
        """By token: those that have not connected."""
        self.callers = Callers()

    async def start(self, events: FleetEvents) -> None:
        """Let workers connect, and report to the controller what they do."""
        self._events = events
        self._lanes.listen(events)
        self._links.start()

    async def close(self) -> None:
        for member in self._members.values():
            if member.link is not None:
                member.link.close()
        self._links.close()

    def _use_token(self, token: str, seat: int = 0) -> "Member | Caller | None":
        # A guess at a random token is good once in 2**256, and a wrong one ends the connection: timing tells nothing.
        if (member := self._expected.pop(token, None)) is not None:
            return member
        return self.callers.find(token)

    def connect(
        self, token: str, transport: "WorkerChannel", standing: Standing | None
    ) -> asyncio.Protocol | None:
        """Lead the worker with this token, over an agent's channel; return None if none is expected."""
        member = cast("LedMember | None", self._use_token(token))
        if member is None:
            return None
        if standing is None:
            member.connect(transport)
        else:
            member.adopt(transport, standing)
        return member.link

    def call(self, worker_id: str, transport: asyncio.Transport) -> asyncio.Protocol | None:
        """Let a worker on a node call endpoints over this; return None for one that is not known, or has too many."""
        assert self.seats is not None
        member = self.seats.member_of(worker_id) or self._members.get(worker_id)
        return self.callers.open(member, transport)

    def heard(self, news: "WorkerNews") -> None:
        """Note news of a worker that this server leads."""
        if (member := self._members.get(news.worker_id)) is not None:
            cast("LedMember", member).heard_news(news, self._events)

    def leave(self) -> None:
        """Lead no worker any longer; requests continue."""
        members, self._members = self._members, {}
        self._expected.clear()
        for member in members.values():
            self.callers.end(member)
            if member.link is not None:
                cast("LedLink", member.link).leave()

    def _running(self) -> list[Work]:
        if self.seats is not None:
            return self.seats.running()
        return [work for member in self._members.values() for work in member.running]

    def running(self) -> int:
        """Count the requests and tasks in workers that somebody still waits for."""
        return len(self._running())

    def break_off(self, error: Unavailable) -> None:
        """End with this error the requests and streams that still run. Tasks are left: they run again."""
        for work in self._running():
            if isinstance(work, Call):
                work.abandon(error)

    @property
    def address(self) -> str:
        return self._links.address

    def expect(
        self,
        worker_id: str,
        token: str,
        endpoint: EndpointRecord,
        bundle: BundleRecord,
        generation: int,
        secrets: Mapping[str, str],
    ) -> None:
        expected = self._starts.expected(worker_id, endpoint, bundle, generation, secrets)
        lane, seats = self._lanes.of(endpoint.id), self.seats
        if seats is None:
            member = Member(expected, token, lane, self.arriving, self._events)
            self.callers.add(member)
        else:
            member = seats.led(expected, token, lane, self._events)
        member.owner = endpoint.owner
        self._members[worker_id] = self._expected[token] = member

    def drain(self, worker_id: str) -> None:
        if (member := self._members.get(worker_id)) is not None:
            member.drain()

    def rest(self, worker_id: str) -> None:
        if (member := self._members.get(worker_id)) is not None:
            member.rest()

    def wake(self, worker_id: str) -> None:
        if (member := self._members.get(worker_id)) is not None:
            member.wake()

    def forget(self, worker_id: str, reason: str, *, with_node: bool = False) -> None:
        if (member := self._members.pop(worker_id, None)) is not None:
            self._expected.pop(member.token, None)
            self.callers.end(member)
            member.forget(reason, with_node=with_node)

    def running_in(self, worker_id: str) -> int:
        """Return how many requests and tasks of this server a worker runs."""
        if self.seats is not None:
            return self.seats.running_in(worker_id)
        member = self._members.get(worker_id)
        return 0 if member is None else len(member.running)

    def is_wanted(self, worker_id: str) -> bool:
        member = self._members.get(worker_id)
        if member is None or self.seats is None:
            return member is not None and bool(member.running)
        return not cast("LedMember", member).is_unwanted

    def is_excused(self, worker_id: str) -> bool:
        member = self._members.get(worker_id)
        if self.seats is not None and self.seats.is_excused(worker_id):
            return True
        return member is not None and member.is_excused
