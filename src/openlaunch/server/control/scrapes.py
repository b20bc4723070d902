"""Answers of `/metrics`: at most one of each format is made at a time, and what takes long in it is bounded."""

import asyncio
from functools import partial
from importlib.metadata import version
from time import monotonic

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4 as TEXT_TYPE
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST as OPENMETRICS_TYPE
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics_of
from sqlalchemy import Connection

from openlaunch.errors import APIError
from openlaunch.server import clock
from openlaunch.server.accept import choose
from openlaunch.server.control.context import Context
from openlaunch.server.control.endpoint_lines import EndpointNow, lines
from openlaunch.server.control.metrics_view import troubles_of
from openlaunch.server.control.server_collector import ServerCollector, ServerNow
from openlaunch.server.dispatch.lane import Lane
from openlaunch.server.metrics.counts import PredictionCounts
from openlaunch.tasks import outbox
from openlaunch.tasks.position import oldest
from openlaunch.wire.health import Check, CheckStatus, ReadinessResponse

MAX_ENDPOINTS = 1000
"""Endpoints that have metrics of their own."""

SLICE = 20
"""Endpoints that are looked at in one turn of the loop."""

STORE_SECONDS = 0.3
"""How long a scrape asks the store. What there was no time for keeps its last answer, and comes first next time."""

MAX_PENDING = 100_000
"""Callbacks that wait are counted up to this many."""

TYPES = ("text/plain", "application/openmetrics-text")
Answer = tuple[bytes, str]
_END = b"# EOF\n"


class Scrapes:
    """Makes the answers; scrapes that come while one is made get the same. Used in the event loop's thread."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._version = version("openlaunch")
        self._making: dict[bool, asyncio.Task[Answer]] = {}
        self._oldest: dict[str, tuple[float, float | None]] = {}
        """When the store was asked for an endpoint's oldest task, and when that was submitted."""
        self._pending: int | None = None
        self._checks: asyncio.Task[ReadinessResponse] | None = None
        self._ready = False
        self._wrong: list[Check] = []

    async def answer(self, accept: str) -> Answer:
        """Return the bytes of an answer and their type: text, or OpenMetrics where the client prefers that."""
        openmetrics = choose(accept, TYPES) == TYPES[1]
        task = self._making.get(openmetrics)
        if task is None or task.done():
            task = self._making[openmetrics] = asyncio.create_task(self._make(openmetrics))
        return await asyncio.shield(task)

    async def _make(self, openmetrics: bool) -> Answer:
        lanes = [lane for lane in self._context.lanes if not _is_of_batch_job(lane)]
        shown = lanes[:MAX_ENDPOINTS]
        waiting = [lane.endpoint.id for lane in shown if lane.backlog.size]
        await asyncio.gather(self._ask_store(waiting), self._check())
        endpoints = []
        for number, lane in enumerate(shown):
            endpoints.append(self._endpoint(lane))
            if number % SLICE == SLICE - 1:
                await asyncio.sleep(0)
        return await asyncio.to_thread(_encoded, self._server(len(lanes)), endpoints, openmetrics)

    async def _ask_store(self, waiting: list[str]) -> None:
        """Ask for the oldest tasks of these endpoints, and how many callbacks wait, as far as there is time."""
        self._oldest = {each: self._oldest.get(each, (0.0, None)) for each in waiting}
        waiting.sort(key=lambda each: self._oldest[each][0])
        try:
            async with asyncio.timeout(STORE_SECONDS):
                asked = await self._context.store.read(partial(_ask, waiting, clock.now()))
        except (TimeoutError, APIError):
            return
        self._pending, found = asked
        self._oldest |= {each: (monotonic(), at) for each, at in found.items()}

    async def _check(self) -> None:
        """Run the checks of /readyz; where they take long, their outcome is shown by the next scrape."""
        if self._checks is None:
            self._checks = asyncio.create_task(self._context.health.report())
        await asyncio.wait({self._checks}, timeout=STORE_SECONDS)
        if self._checks.done():
            found = self._checks.result()
            self._ready = found.status is not CheckStatus.FAILED
            self._wrong = [check for check in found.checks if check.status is not CheckStatus.OK]
            self._checks = None

    def _endpoint(self, lane: Lane) -> EndpointNow:
        endpoint, load = lane.endpoint, lane.load()
        ready, starting = self._context.controller.view.workers(endpoint.id)
        _, since = self._oldest.get(endpoint.id, (0.0, None))
        return EndpointNow(
            name=endpoint.name,
            owner=endpoint.owner,
            status=endpoint.status.value,
            counts=lane.numbers,
            waiting=load.queued,
            running=load.in_flight,
            queued=lane.backlog.size,
            ready=ready,
            starting=starting,
            oldest=None if since is None else max(0.0, clock.now() - since),
            troubles=[(each.kind.value, each.since) for each in troubles_of(lane)],
            generations=self._generations(lane),
        )

    def _generations(self, lane: Lane) -> dict[int, PredictionCounts]:
        """Return the counts of the generations that have workers, where there are several."""
        live = {
            worker.generation for worker, _ in self._context.controller.view.workers_now(lane.endpoint.id)
        }
        counted = lane.numbers.generations
        return {each: counted[each] for each in live if each in counted} if len(live) > 1 else {}

    def _server(self, endpoints: int) -> ServerNow:
        context = self._context
        batches = [lane.load() for lane in context.lanes if _is_of_batch_job(lane)]
        return ServerNow(
            version=self._version,
            endpoints=endpoints,
            batch_waiting=sum(load.queued for load in batches),
            batch_running=sum(load.in_flight for load in batches),
            counts=context.counts,
            leads=context.controller.leads,
            ready=self._ready,
            wrong=self._wrong,
            connections=len(context.connections),
            max_connections=context.connections.limit,
            callbacks=context.callbacks.outcomes.copy(),
            callbacks_pending=self._pending,
            folder=context.settings.data_dir,
            gpus=context.gpus,
        )


def _is_of_batch_job(lane: Lane) -> bool:
    """Return whether a lane is a batch job's own: its name and owner have the job's id in them."""
    return lane.endpoint.id == lane.endpoint.owner


def _ask(waiting: list[str], now: float, conn: Connection) -> tuple[int, dict[str, float | None]]:
    ends, found = monotonic() + STORE_SECONDS / 2, {}
    pending = outbox.pending(conn, MAX_PENDING)
    for endpoint_id in waiting:
        found[endpoint_id] = oldest(conn, endpoint_id, now)
        if monotonic() > ends:
            break
    return pending, found


def _encoded(server: ServerNow, endpoints: list[EndpointNow], openmetrics: bool) -> Answer:
    collector = ServerCollector(server)
    head: bytes = openmetrics_of(collector) if openmetrics else generate_latest(collector)  # type: ignore[no-untyped-call]
    text = "\n".join(lines(endpoints, openmetrics=openmetrics)).encode() + b"\n"
    if openmetrics:
        return head.removesuffix(_END) + text + _END, OPENMETRICS_TYPE
    return head + text, TEXT_TYPE
