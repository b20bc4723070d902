"""What other servers have running and waiting, by which the leader scales: each says so twice a second."""

import asyncio
import time
from collections.abc import Callable

from openlaunch.background import Background
from openlaunch.controller.fleet import Load
from openlaunch.server.cluster.messages import Messages
from openlaunch.server.dispatch.lane import Lane
from openlaunch.server.dispatch.lanes import Lanes

REPORT_SECONDS = 0.5
SOON_SECONDS = 0.02
"""How long the report of an endpoint that lacks workers waits for others that go with it."""
KEPT_SECONDS = 2.0
"""How long a report counts: a server that says nothing any longer has nothing, or is gone."""


class Loads(Background):
    """Says what this server has running and waiting, and hears of it from the others.

    Tasks in the queue are left out. `demand` is called with each endpoint for which something waits elsewhere.
    """

    def __init__(
        self,
        messages: Messages,
        lanes: Lanes,
        leads: Callable[[], bool],
        demand: Callable[[str], None],
    ) -> None:
        self._messages, self._lanes, self._leads, self._demand = messages, lanes, leads, demand
        self._heard: dict[str, dict[str, tuple[float, Load]]] = {}
        """By endpoint and server: when it was heard of, and what it has."""
        self._wanted: set[str] = set()
        super().__init__("what runs and waits here is not said to other servers")

    def start(self) -> None:
        self._messages.on_load = self._hear
        super().start()

    def of(self, endpoint_id: str) -> Load:
        """Return what all other servers have running and waiting for an endpoint."""
        now, running, waiting = time.monotonic(), 0, 0
        for heard_at, load in self._heard.get(endpoint_id, {}).values():
            if now - heard_at < KEPT_SECONDS:
                running, waiting = running + load.in_flight, waiting + load.queued
        return Load(running, waiting)

    def wanted(self, endpoint_id: str) -> None:
        """Say soon what an endpoint's lane has, because it lacks workers."""
        if self._leads():
            self._demand(endpoint_id)
            return
        if not self._wanted:
            asyncio.get_running_loop().call_later(SOON_SECONDS, self._say_wanted)
        self._wanted.add(endpoint_id)

    def _say_wanted(self) -> None:
        wanted, self._wanted = self._wanted, set()
        for endpoint_id in wanted:
            if (lane := self._lanes.get(endpoint_id)) is not None:
                self._say(lane)

    def _say(self, lane: Lane) -> None:
        load = lane.load()
        running, waiting = load.in_flight, load.queued - lane.backlog.size
        if (running or waiting) and not self._leads():
            self._messages.load(lane.endpoint.id, running, waiting)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            self._forget_old()
            for lane in self._lanes:
                self._say(lane)

    def _forget_old(self) -> None:
        now = time.monotonic()
        for endpoint_id, by_server in list(self._heard.items()):
            for server in [each for each, (at, _) in by_server.items() if now - at >= KEPT_SECONDS]:
                del by_server[server]
            if not by_server:
                del self._heard[endpoint_id]

    def _hear(self, server: str, endpoint_id: str, running: int, waiting: int) -> None:
        self._heard.setdefault(endpoint_id, {})[server] = time.monotonic(), Load(running, waiting)
        if waiting:
            self._demand(endpoint_id)
