"""The lanes of all endpoints, as the controller adds, changes and removes them."""

import asyncio
from collections.abc import Callable, Iterator
from functools import partial

from openlaunch.controller.fleet import FleetEvents, Load
from openlaunch.controller.trial import Trial
from openlaunch.errors import NotFound, Unavailable
from openlaunch.server import clock
from openlaunch.server.dispatch.lane import Lane
from openlaunch.server.dispatch.lanes_by_name import LanesByName
from openlaunch.server.dispatch.recent_outcomes import SAMPLE_SECONDS
from openlaunch.server.dispatch.recordings import Sampler
from openlaunch.server.metrics.counts import EndpointCounts
from openlaunch.server.metrics.history import Watched
from openlaunch.server.settings import WorkerSettings
from openlaunch.store.records import EndpointRecord
from openlaunch.wire.endpoints import EndpointStatus
from openlaunch.wire.events import EventKind


class Lanes:
    """Implements the controller's `Traffic`. Used in the event loop's thread only.

    `on_free_slots` is called with a lane when one of its slots has become free and nothing waits for it: the
    durable queue then claims tasks.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        self.on_free_slots: Callable[[Lane], None] = lambda lane: None
        self.sampler_of: Callable[[EndpointRecord], Sampler | None] = lambda endpoint: None
        """Called with each endpoint that is new or has changed: what records its predictions."""
        self.on_event: Callable[[str, EventKind, str], None] = lambda endpoint_id, kind, detail: None
        """Called with each burst of failures or of long waits that begins or ends."""
        self.on_new: Callable[[Lane], None] = lambda lane: None
        """Called with each lane that is new."""
        self.make: Callable[..., Lane]
        self.load_elsewhere: Callable[[str], Load] | None = None
        """Returns what other servers have running and waiting for an endpoint; None where there are none."""
        self._max_waiting = settings.max_queued_requests
        self._lanes: dict[str, Lane] = {}
        self._elsewhere = False
        self.by_name = LanesByName()

    def listen(self, events: FleetEvents) -> None:
        """Report to the controller what happens, and count over time."""
        self._events = events
        self.make = partial(Lane, demand=events.demand)
        self._sample()

    def _sample(self) -> None:
        asyncio.get_running_loop().call_later(SAMPLE_SECONDS, self._sample)
        for lane in self:
            lane.tally.sample()
            for kind, detail in lane.bursts.look(lane.numbers, lane.tally.last_error):
                self.on_event(lane.endpoint.id, kind, detail)

    def happened(self, endpoint_id: str, kind: EventKind, detail: str) -> None:
        """Count an event of an endpoint, and note what it says is wrong from now on, or no longer."""
        if (lane := self._lanes.get(endpoint_id)) is not None:
            lane.numbers.happened(kind)
            lane.troubles.happened(kind, detail, clock.now())

    def get(self, endpoint_id: str) -> Lane | None:
        return self._lanes.get(endpoint_id)

    def queued_of(self, owner: str) -> int:
        """Return how many of the owner's tasks wait, or are on their way to the store."""
        backlogs = [lane.backlog for lane in self._lanes.values()]
        return sum(backlog.of(owner) + backlog.arriving.of(owner) for backlog in backlogs)

    def of(self, endpoint_id: str) -> Lane:
        """Return the lane of an endpoint that is there."""
        return self._lanes[endpoint_id]

    def __iter__(self) -> Iterator[Lane]:
        return iter(list(self._lanes.values()))

    def refuse_all(self, error: Unavailable) -> None:
        """End with this error everything that waits for a worker."""
        for lane in self:
            lane.refuse_waiting(error)

    def waiting(self) -> int:
        """Count what waits for a slot, in all lanes."""
        return sum(lane.load().queued - lane.backlog.size for lane in self)

    def load(self, endpoint_id: str) -> Load:
        lane = self._lanes.get(endpoint_id)
        load = lane.load() if lane is not None else Load(0, 0)
        if self.load_elsewhere is None:
            return load
        other = self.load_elsewhere(endpoint_id)
        return Load(load.in_flight + other.in_flight, load.queued + other.queued)

    def workers(self, endpoint_id: str) -> int:
        lane = self._lanes.get(endpoint_id)
        return 0 if lane is None else lane.workers

    def trials(self, endpoint_id: str) -> dict[int, Trial]:
        lane = self._lanes.get(endpoint_id)
        counts = {} if lane is None else lane.trials.counts
        return {number: each.trial() for number, each in counts.items()}

    def numbers(self, endpoint_id: str) -> EndpointCounts:
        """Return what was counted of an endpoint; nothing of one that was deleted."""
        lane = self._lanes.get(endpoint_id)
        return EndpointCounts() if lane is None else lane.numbers

    def watched(self) -> list[Watched]:
        """Return all endpoints with what was counted of them, and how much waits and runs, in how many workers."""
        found = []
        for lane in self:
            load = lane.load()
            gauges = load.queued, load.in_flight, lane.workers
            found.append(Watched(lane.endpoint.id, lane.numbers, gauges))
        return found

    def update_endpoint(self, endpoint: EndpointRecord) -> None:
        lane = self._lanes.get(endpoint.id)
        if lane is None:
            lane = self._lanes[endpoint.id] = self.make(
                endpoint,
                self._max_waiting,
                loop=asyncio.get_running_loop(),
                failed=self._events.prediction_failed,
                free_slots=self._free_slots,
                note=self._events.worker_note,
            )
            lane.set_elsewhere(elsewhere=self._elsewhere)
            self.on_new(lane)
        self.by_name.remove(lane)
        self.by_name.add(endpoint.owner, endpoint.name, lane)
        if lane.endpoint.spec.record != endpoint.spec.record or lane.tally.sampler is None:
            lane.tally.sampler = self.sampler_of(endpoint)
        lane.update(endpoint)
        if endpoint.status is not EndpointStatus.UPDATE_FAILED:
            lane.refusal = None

    def _free_slots(self, lane: Lane) -> None:
        if lane.endpoint.id in self._lanes:
            self.on_free_slots(lane)

    def remove_endpoint(self, endpoint_id: str) -> None:
        lane = self._lanes.pop(endpoint_id, None)
        if lane is not None:
            self.by_name.remove(lane)
            lane.refuse_waiting(
                NotFound(f"the endpoint {lane.endpoint.name!r} was deleted", code="endpoint_not_found")
            )

    def set_elsewhere(self, *, elsewhere: bool) -> None:
        if elsewhere != self._elsewhere:
            self._elsewhere = elsewhere
            for lane in self:
                lane.set_elsewhere(elsewhere=elsewhere)

    def fail_waiting(self, endpoint_id: str, reason: str) -> None:
        lane = self._lanes.get(endpoint_id)
        if lane is not None:
            lane.refusal = reason
            lane.refuse_waiting(lane.failure(reason))
