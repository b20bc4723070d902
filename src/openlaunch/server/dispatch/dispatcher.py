"""The dispatcher: routes predictions to lanes, and is the controller's `Fleet`."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass

from openlaunch.artifacts.base import Artifacts
from openlaunch.artifacts.locations import key_of
from openlaunch.controller.fleet import FleetEvents, Load
from openlaunch.controller.trial import Trial
from openlaunch.errors import NotFound, Unavailable, WorkerDied
from openlaunch.server.dispatch.lane import Lane
from openlaunch.server.dispatch.links import Expected, LinkServer, WorkerLink
from openlaunch.server.dispatch.work import Call, Work
from openlaunch.server.settings import WorkerSettings
from openlaunch.store.records import BundleRecord, EndpointRecord
from openlaunch.wire.bundles import ImageFlavor
from openlaunch.wire.endpoints import EndpointStatus, EndpointType
from openlaunch_worker.batching import BatchRule
from openlaunch_worker.documents import Limits, Start

log = logging.getLogger(__name__)

LOST_GRACE_SECONDS = 0.5
"""How long work of a broken connection waits for the exit status of its worker, which is the better reason."""


@dataclass(slots=True)
class _Member:
    """A worker that has connected, or may."""

    endpoint_id: str
    token: str
    link: WorkerLink | None = None


class Dispatcher:
    """All lanes and all workers. Used in the event loop's thread only.

    `on_free_slots` is called with a lane when one of its slots has become free and nothing waits for it: the
    durable queue then claims tasks.
    """

    def __init__(self, settings: WorkerSettings, artifacts: Artifacts) -> None:
        self.on_free_slots: Callable[[Lane], None] = lambda lane: None
        self._settings = settings
        self._artifacts = artifacts
        self._links = LinkServer()
        self._lanes: dict[str, Lane] = {}
        self._tokens: dict[str, Expected] = {}
        self._members: dict[str, _Member] = {}

    async def start(self, events: FleetEvents) -> None:
        """Let workers connect, and report to the controller what they do."""
        self._events = events
        self._loop = asyncio.get_running_loop()
        await self._links.start(self)

    async def close(self) -> None:
        for member in self._members.values():
            if member.link is not None:
                member.link.close()
        await self._links.close()

    def lane(self, endpoint_id: str) -> Lane | None:
        return self._lanes.get(endpoint_id)

    def lanes(self) -> list[Lane]:
        return list(self._lanes.values())

    def running(self) -> int:
        """Count the requests and tasks in workers that somebody still waits for."""
        links = [member.link for member in self._members.values() if member.link is not None]
        return sum(not work.cancelled for link in links for work in link.running.values())

    def refuse_all(self, error: Unavailable) -> None:
        """End with this error everything that waits for a worker."""
        for lane in self._lanes.values():
            lane.refuse_waiting(error)

    def break_off(self, error: Unavailable) -> None:
        """End with this error the requests and streams that still run. Tasks are left: they run again."""
        links = [member.link for member in self._members.values() if member.link is not None]
        for work in [work for link in links for work in link.running.values()]:
            if isinstance(work, Call):
                work.abandon(error)

    # Fleet: what the controller calls.

    @property
    def address(self) -> str:
        return self._links.address

    def expect(
        self, worker_id: str, token: str, endpoint: EndpointRecord, bundle: BundleRecord, generation: int
    ) -> None:
        spec = endpoint.spec_of(generation)
        limits = Limits(
            spec.slots,
            self._settings.max_result_bytes,
            self._settings.max_body_bytes,
            self._settings.url_timeout_seconds,
            self._settings.private_addresses,
            None if (batching := spec.batching) is None else BatchRule(batching.max_size, batching.max_wait),
        )
        start = Start(
            bundle.flavor.model_dump(mode="json"), limits, endpoint.endpoint_type is EndpointType.STREAMING
        )
        self._members[worker_id] = _Member(endpoint.id, token)
        self._tokens[token] = Expected(
            worker_id,
            spec.slots,
            start,
            lambda: self._bundle_bytes(bundle),
            self._settings.interrupt_grace_seconds,
            generation,
        )

    def _bundle_bytes(self, bundle: BundleRecord) -> AsyncIterator[bytes]:
        location = "" if isinstance(bundle.flavor, ImageFlavor) else bundle.flavor.location
        return self._artifacts.stream(key_of(location)) if location else _nothing()

    def drain(self, worker_id: str) -> None:
        member = self._members.get(worker_id)
        if member is None or member.link is None:
            return
        member.link.drain()
        if (lane := self._lanes.get(member.endpoint_id)) is not None:
            lane.remove_worker(member.link)

    def forget(self, worker_id: str, reason: str) -> None:
        member = self._members.pop(worker_id, None)
        if member is None:
            return
        self._tokens.pop(member.token, None)
        if member.link is not None:
            self._leave_lane(member.link, member.endpoint_id)
            member.link.close()
            _lose(member.link, reason)

    def is_wanted(self, worker_id: str) -> bool:
        member = self._members.get(worker_id)
        link = None if member is None else member.link
        return link is not None and any(not work.cancelled for work in link.running.values())

    def is_excused(self, worker_id: str) -> bool:
        member = self._members.get(worker_id)
        if member is None or member.link is None:
            return False
        lane = self._lanes.get(member.endpoint_id)
        return member.link.excused or member.link.answered or (lane is not None and lane.serves(member.link))

    def load(self, endpoint_id: str) -> Load:
        lane = self._lanes.get(endpoint_id)
        return lane.load() if lane is not None else Load(0, 0)

    def trials(self, endpoint_id: str) -> dict[int, Trial]:
        lane = self._lanes.get(endpoint_id)
        return (
            {} if lane is None else {number: counts.trial() for number, counts in lane.trials.counts.items()}
        )

    def update_endpoint(self, endpoint: EndpointRecord) -> None:
        lane = self._lanes.get(endpoint.id)
        if lane is None:
            lane = Lane(
                endpoint,
                self._settings.max_queued_requests,
                self._events.demand,
                self._loop,
                self._events.prediction_failed,
            )
            self._lanes[endpoint.id] = lane
        lane.update(endpoint)
        if endpoint.status is not EndpointStatus.UPDATE_FAILED:
            lane.refusal = None

    def remove_endpoint(self, endpoint_id: str) -> None:
        lane = self._lanes.pop(endpoint_id, None)
        if lane is not None:
            lane.refuse_waiting(
                NotFound(f"the endpoint {lane.endpoint.name!r} was deleted", code="endpoint_not_found")
            )

    def fail_waiting(self, endpoint_id: str, reason: str) -> None:
        lane = self._lanes.get(endpoint_id)
        if lane is not None:
            lane.refusal = reason
            lane.refuse_waiting(
                Unavailable(
                    f"the endpoint {lane.endpoint.name!r} has no worker: {reason}",
                    code="endpoint_failed",
                    retry_after=5,
                )
            )

    # LinkOwner: what the links call.

    def expected(self, token: str) -> Expected | None:
        # A guess at a random token is good once in 2**256, and a wrong one ends the connection: timing tells nothing.
        return self._tokens.pop(token, None)

    def link_ready(self, link: WorkerLink) -> None:
        member = self._members.get(link.worker_id)
        if member is None:
            link.close()
            return
        member.link = link
        lane = self._lanes.get(member.endpoint_id)
        if lane is not None:
            lane.add_worker(link)
            self.on_free_slots(lane)
        self._events.worker_ready(link.worker_id)

    def link_load_failed(self, worker_id: str, reason: str, traceback: str | None) -> None:
        self._events.worker_load_failed(worker_id, reason, traceback)

    def link_leaving(self, worker_id: str) -> None:
        self._events.worker_leaving(worker_id)

    def link_freed(self, link: WorkerLink) -> None:
        member = self._members.get(link.worker_id)
        lane = self._lanes.get(member.endpoint_id) if member is not None else None
        if lane is not None:
            lane.freed(link)
            if lane.backlog.size:
                self.on_free_slots(lane)

    def link_heard(self, link: WorkerLink) -> None:
        member = self._members.get(link.worker_id)
        if member is not None and (lane := self._lanes.get(member.endpoint_id)) is not None:
            lane.heard(link)
            self.on_free_slots(lane)

    def link_stuck(self, link: WorkerLink) -> None:
        seconds = self._settings.interrupt_grace_seconds
        self._events.worker_stuck(
            link.worker_id, f"a request did not stop within {seconds:g} s of its cancellation or deadline"
        )

    def link_closed(self, link: WorkerLink) -> None:
        member = self._members.get(link.worker_id)
        if member is None:
            _lose(link, "is gone")
            return
        self._leave_lane(link, member.endpoint_id)
        if not link.draining or link.running:
            self._events.worker_lost(link.worker_id, link.broke)
        if link.running:
            self._loop.call_later(LOST_GRACE_SECONDS, _lose, link, link.broke or "closed its connection")

    def _leave_lane(self, link: WorkerLink, endpoint_id: str) -> None:
        lane = self._lanes.get(endpoint_id)
        if lane is not None:
            lane.remove_worker(link)


async def _nothing() -> AsyncIterator[bytes]:
    """Yield the bytes of a command without files."""
    yield b""


def _lose(link: WorkerLink, reason: str) -> None:
    running, link.running = link.running, {}
    if link.counts is not None:
        _count_death(link, running.values(), reason)
    for work in running.values():
        if link.stuck:
            # What did not stop has ended for its client already: this ran beside it, and is not to blame.
            work.refused(WorkerDied(f"the worker that ran this {reason}; whether the model ran is not known"))
        else:
            work.lost(reason)


def _count_death(link: WorkerLink, running: Iterable[Work], reason: str) -> None:
    """Count a worker's death as a failure of each prediction that it ran, or as one where it ran none."""
    counts, link.counts = link.counts, None
    lost = sum(not work.cancelled for work in running)
    if counts is not None and not link.draining:
        for _ in range(max(1, lost)):
            counts.failed(lambda: f"the worker {reason}")
