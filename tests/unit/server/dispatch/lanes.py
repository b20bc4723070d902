"""Lanes, the calls that they get, and a world in which both go through anything."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from controller_simulation import make_record, make_spec
from server_links import FakeWorker, WaitedCall

from openlaunch.errors import DeadlineExceeded
from openlaunch.server.dispatch.lane import Lane
from openlaunch.wire.endpoints import EndpointStatus, EndpointType

ENDPOINT = replace(make_record(make_spec()), status=EndpointStatus.READY, endpoint_type=EndpointType.ASYNC)


def make_lane(
    bound: int = 10,
    endpoint: Any = ENDPOINT,
    asked: list[str] | None = None,
    failed: list[str] | None = None,
) -> Lane:
    demand, fail = ([] if heard is None else heard for heard in (asked, failed))
    return Lane(endpoint, bound, demand.append, asyncio.get_running_loop(), fail.append)


def call(name: str, seconds: float = 60.0) -> WaitedCall:
    return WaitedCall(name.encode(), seconds=seconds)


def submit(lane: Lane, *names: str) -> list[WaitedCall]:
    calls = [call(name) for name in names]
    for one in calls:
        lane.submit(one)
    return calls


class AloneCall(WaitedCall):
    """A call that nothing else may run beside."""

    alone = True


class LaneWorld:
    """A lane with workers that come and go, and with calls that do so too."""

    def __init__(self, slots: int) -> None:
        self.lane = make_lane(bound=1000)
        self.workers: list[FakeWorker] = []
        self.calls: list[WaitedCall] = []
        self.served: list[bytes] = []
        self._slots = slots

    def join(self, name: str) -> None:
        self.workers.append(FakeWorker(name, self._slots).join(self.lane))

    def do(self, name: str, step: str, pick: int) -> None:
        """Do a step with one of the calls or workers; nothing where there is none."""
        chosen = self.workers[pick % len(self.workers)] if self.workers else None
        if step in ("submit", "alone"):
            self.calls.append((AloneCall if step == "alone" else WaitedCall)(name.encode()))
            self.lane.submit(self.calls[-1])
        elif step == "give up" and self.calls:
            self.calls[pick % len(self.calls)].abandon(DeadlineExceeded("late"))
        elif step == "join":
            self.join(f"w{name}")
        elif chosen is not None:
            self._do_with(chosen, step)

    def _do_with(self, worker: FakeWorker, step: str) -> None:
        if step == "answer" and worker.waiting:
            worker.answer()
        elif step == "drain":
            worker.link.drain()
            self.lane.remove_worker(worker.link)
        elif step == "die":
            self.workers.remove(worker)
            worker.die()

    def look(self) -> None:
        """Have the workers take what they were sent; no worker runs more than it may."""
        for worker in self.workers:
            self.served += worker.take()
            running = list(worker.link.running.values())
            assert len(running) <= self._slots
            assert len(running) == 1 or not any(work.alone for work in running)

    def taking(self) -> Iterator[FakeWorker]:
        """Give the workers that get requests."""
        return (worker for worker in self.workers if not worker.link.draining)
