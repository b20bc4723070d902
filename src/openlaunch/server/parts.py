"""The parts of a server below HTTP, started in the order in which they need each other, and stopped in reverse."""

import contextlib
from collections.abc import AsyncIterator, Callable
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, cast

from openlaunch.artifacts.signing import UrlSigner
from openlaunch.controller.controller import Controller
from openlaunch.controller.endpoint import ControllerSettings
from openlaunch.controller.swap import SwapRule
from openlaunch.server import clock, drivers
from openlaunch.server.access.audit import AuditLog
from openlaunch.server.access.auth import Keyring
from openlaunch.server.access.quotas import Quotas
from openlaunch.server.access.shared_use import SharedUse
from openlaunch.server.access.uploads import Uploads
from openlaunch.server.access.vault import Vault
from openlaunch.server.cluster.feed import Feed
from openlaunch.server.cluster.service import Cluster, SharedStore
from openlaunch.server.control.context import Context
from openlaunch.server.control.log_streams import LogStreams
from openlaunch.server.dispatch.lanes import Lanes
from openlaunch.server.dispatch.loads import Loads
from openlaunch.server.dispatch.recordings import Recordings
from openlaunch.server.dispatch.traced_starts import trace_starts
from openlaunch.server.dispatch.waits import Waits
from openlaunch.server.dispatch.workers import Workers
from openlaunch.server.endpoints.secrets import Secrets, SecretValues
from openlaunch.server.endpoints.service import Endpoints
from openlaunch.server.gateway.connections import Connections
from openlaunch.server.gateway.model_names import ModelNames
from openlaunch.server.jobs.batch_jobs import BatchJobs
from openlaunch.server.jobs.image_jobs import ImageJobs
from openlaunch.server.jobs.model_batches import ModelBatches
from openlaunch.server.jobs.triggers import Triggers
from openlaunch.server.leading import Leading
from openlaunch.server.metrics.history import History
from openlaunch.server.metrics.server_counts import ServerCounts
from openlaunch.server.operations.database_clock import DatabaseClock
from openlaunch.server.operations.datadir import DataDir
from openlaunch.server.operations.descriptors import allowed_connections
from openlaunch.server.operations.health import Health
from openlaunch.server.operations.storage import Storage
from openlaunch.server.operations.unused import UnusedArtifacts
from openlaunch.server.prediction.results import SignedURLs
from openlaunch.server.prediction.schema_cache import SchemaCache
from openlaunch.server.proxies import Proxies
from openlaunch.server.queue.callbacks import Callbacks, CallbackSigner
from openlaunch.server.queue.old_queues import OldQueues
from openlaunch.server.queue.service import TaskService
from openlaunch.server.queue.traced import trace_tasks
from openlaunch.server.settings import Settings
from openlaunch.server.spans import Spans
from openlaunch.store import quotas as quota_store
from openlaunch.wire.events import EventKind

if TYPE_CHECKING:
    from openlaunch.server.dispatch.lane import Lane
    from openlaunch.server.dispatch.seats import Seats


@contextlib.asynccontextmanager
async def started_parts(settings: Settings, data: DataDir, url: str) -> AsyncIterator[Context]:
    """Start the parts; at the end they are stopped."""
    async with contextlib.AsyncExitStack() as stack:
        parts = _Parts(settings, data, url, stack)
        await parts.open_records()
        await parts.open_access()
        parts.make_lanes()
        parts.make_controller()
        parts.make_queue()
        await parts.let_workers_connect()
        parts.start_recordings()
        await parts.start_controller()
        await parts.start_queue()
        parts.make_jobs()
        await parts.lead()
        parts.start_reports()
        yield parts.context()


class _Parts:
    """The parts as far as they are there: each step uses those before it, and has the stack stop its own."""

    def __init__(self, settings: Settings, data: DataDir, url: str, stack: contextlib.AsyncExitStack) -> None:
        self.settings, self.data, self.url = settings, data, url
        self.stack = stack

    async def open_records(self) -> None:
        self.store = await drivers.open_store(self.settings, self.data)
        self.stack.push_async_callback(self.store.close)
        self.counts = ServerCounts()
        self.store.on_commit(self.counts.committed)
        if self.store.is_service:
            follower = DatabaseClock(self.store)
            await follower.start()
            self.stack.push_async_callback(follower.stop)
        self.records = await drivers.open_cluster(self.settings, self.data, self.url)
        if self.records is not None:
            self.stack.push_async_callback(self.records.close)
        self.cluster = None if self.records is None else Cluster(self.records)
        self.artifacts = await drivers.open_own_artifacts(self.settings, self.data)

    async def open_access(self) -> None:
        self.secret = self.data.keys.url_secret()
        self.signer = UrlSigner(self.secret)
        self.quotas = Quotas(self.settings)
        await self._read_quotas()
        self.keyring = Keyring(self.store, self.secret, self.quotas)
        await self.keyring.start()
        self.stack.push_async_callback(self.keyring.stop)
        self.vault = Vault(self.data.keys, self.settings.secrets_key, shared=self.cluster is not None)

    async def _read_quotas(self) -> None:
        self.quotas.set_all(await self.store.read(quota_store.list_all))

    def make_lanes(self) -> None:
        self.schemas = SchemaCache(self.store)
        self.stack.push_async_callback(self.schemas.checks.stop)
        self.lanes = Lanes(self.settings)
        self.spans = _spans(self.settings)
        if self.spans is not None:
            self.stack.callback(self.spans.close)
            self.lanes.on_new = partial(trace_starts, self.spans)
        self.workers = Workers(self.settings, self.artifacts, self.lanes, self.schemas)

    def make_controller(self) -> None:
        lanes = self.lanes
        self.engine, self.nodes, self.gpus = drivers.machines(self.settings, self.data)
        self.stack.push_async_callback(self.engine.close)
        self.controller = Controller(
            self.store,
            self.workers,
            self.lanes,
            self.engine,
            _controller_settings(self.settings, self.data),
            clock.now,
            SecretValues(self.store, self.vault),
        )
        self.controller.events.on_event = lanes.happened
        lanes.on_event = self.controller.events.add

    def make_queue(self) -> None:
        self.tasks = TaskService(
            self.settings,
            self.store,
            self.artifacts,
            self.lanes,
            self.schemas,
            self.quotas,
            None if self.cluster is None else self.cluster.messages,
            None if self.records is None else self.records.gateway,
        )
        self.tasks.runner.budgets = self.keyring.use.tokens
        self.tasks.runner.arriving = self.workers.arriving
        if self.spans is not None:
            trace_tasks(self.tasks, self.spans)

    async def let_workers_connect(self) -> None:
        await self.workers.start(self.controller.reports)
        self.stack.push_async_callback(self.workers.close)
        if self.nodes is None:
            return
        demand = self.controller.reports.demand
        if self.cluster is not None:
            messages = self.cluster.messages
            loads = Loads(messages, self.lanes, lambda: self.controller.leads, demand)
            self.lanes.load_elsewhere, demand = loads.of, loads.wanted
            loads.start()
            self.workers.waits = Waits(messages, self.lanes)
            self.nodes.nodes.on_removed = messages.removed
            messages.on_removed = self.nodes.nodes.removed_elsewhere
            self.stack.push_async_callback(loads.stop)
        seats = _share_workers(self.settings, self.workers, self.lanes, demand)
        self.tasks.runner.left_work = seats.left_work
        await self.nodes.start_dialling(seats)

    def start_recordings(self) -> None:
        add_event = self.controller.events.add
        self.recordings = Recordings(
            self.artifacts,
            self.store,
            lambda endpoint_id, reason: add_event(endpoint_id, EventKind.RECORDING_STOPPED, reason),
        )
        self.lanes.sampler_of = self.recordings.sampler_of
        self.recordings.start()
        self.stack.push_async_callback(self.recordings.stop)

    async def start_controller(self) -> None:
        self.image_jobs = ImageJobs(self.settings, self.store, self.engine, self.artifacts, self.quotas)
        self.stack.push_async_callback(self.controller.stop, 1.0)
        if self.cluster is None:
            await self.image_jobs.resume()
            await self.controller.start()
        else:
            await self.controller.refresh()
            await self.cluster.membership.join()
            self.stack.push_async_callback(self.cluster.membership.leave)

    async def start_queue(self) -> None:
        shared = self.cluster is not None
        await self.tasks.start(only_server=not shared)  # the lock on the data directory proves it
        self.stack.push_async_callback(self.tasks.stop)
        self.urls = SignedURLs(self.signer, self.settings.url_lifetime_seconds, Proxies(self.settings))
        signer = CallbackSigner(self.secret)
        tell = self.controller.events.add
        self.callbacks = Callbacks(
            self.settings, self.store, self.tasks, signer, self.urls, shared=shared, tell=tell
        )
        self.callbacks.spans = self.spans
        self.callbacks.start(self.url)
        self.stack.push_async_callback(self.callbacks.stop)

    def make_jobs(self) -> None:
        settings, store, artifacts, tasks = self.settings, self.store, self.artifacts, self.tasks
        self.endpoints = Endpoints(store, self.controller, tasks.control, self.quotas)
        self.batch_jobs = BatchJobs(
            settings, store, artifacts, self.schemas, self.lanes, self.endpoints, tasks, self.quotas
        )
        self.model_names = ModelNames(self.lanes, self.schemas)
        self.model_batches = ModelBatches(
            settings, store, artifacts, self.lanes, self.model_names, tasks, self.keyring.use.tokens
        )
        self.triggers = Triggers(settings, store, self.image_jobs, self.lanes, tasks.submitter)

    async def lead(self) -> None:
        """Do what one server does for all; in a cluster, once this one is the leader."""
        leading = Leading(
            self.controller,
            self.tasks.retention,
            self.batch_jobs,
            self.model_batches,
            self.image_jobs,
            self.triggers,
            UnusedArtifacts(self.store, self.artifacts, self.settings, self.settings.kept_bundle_versions),
            OldQueues(self.store, self.lanes, self.settings.queue_old_seconds, self.controller.events.add),
        )
        self.stack.push_async_callback(leading.stop)
        if self.cluster is None:
            await leading.start_beside_controller()
            return
        await leading.wait()
        shared_use = SharedUse(self.cluster.messages, self.keyring.use)
        self.cluster.messages.on_used = self.keyring.use.used_elsewhere
        shared_use.start()
        self.stack.push_async_callback(shared_use.stop)
        feed = Feed(
            {
                "api_keys": self.keyring.load,
                "quotas": self._read_quotas,
                "endpoints": self.controller.refresh,
                "batch_jobs": self.batch_jobs.refresh,
                "model_batches": self.model_batches.refresh,
                "docker_image_jobs": self.image_jobs.refresh,
                "triggers": self.triggers.changed_elsewhere,
            }
        )
        await self.cluster.start(
            cast("SharedStore", self.store),
            self.tasks.housekeeper,
            leading,
            feed,
            self.settings.drain_seconds,
        )
        self.stack.push_async_callback(self.cluster.stop)

    def start_reports(self) -> None:
        self.history = History(self.store if self.cluster is None else None, self.lanes.watched)
        self.history.start()
        self.stack.push_async_callback(self.history.stop)
        away = None if self.nodes is None else self.nodes.problems
        serves_alone = self.cluster is None or self.engine.keeps_workers
        leads = None if serves_alone else lambda: self.controller.leads
        self.health = Health(self.store, self.artifacts, self.data.root, away, leads)
        self.health.on_lag = self.counts.loop_lag.observe
        recorder = self.tasks.recorder
        self.health.unrecorded = lambda: (recorder.waiting, recorder.waiting_bytes)
        self.health.start()
        self.stack.push_async_callback(self.health.stop)

    def context(self) -> Context:
        """Return what answers requests by HTTP."""
        settings, store, artifacts = self.settings, self.store, self.artifacts
        cluster, nodes = self.cluster, self.nodes
        return Context(
            settings=settings,
            store=store,
            artifacts=artifacts,
            signer=self.signer,
            urls=self.urls,
            schemas=self.schemas,
            keyring=self.keyring,
            lanes=self.lanes,
            workers=self.workers,
            endpoints=self.endpoints,
            controller=self.controller,
            tasks=self.tasks,
            callbacks=self.callbacks,
            batch_jobs=self.batch_jobs,
            model_names=self.model_names,
            model_batches=self.model_batches,
            image_jobs=self.image_jobs,
            triggers=self.triggers,
            health=self.health,
            history=self.history,
            storage=Storage(self.data, store, artifacts, settings, settings, settings.cache_bytes),
            log_streams=LogStreams(),
            recordings=self.recordings,
            audit=AuditLog(store, settings),
            quotas=self.quotas,
            secrets=Secrets(store, self.vault, self.controller),
            uploads=Uploads(self.quotas, store, artifacts),
            connections=Connections(
                allowed_connections(settings.max_connections), grpc=settings.grpc_port is not None
            ),
            counts=self.counts,
            spans=self.spans,
            gpus=self.gpus,
            cluster=self.records,
            reach=None if cluster is None or nodes is None else nodes.reach,
            name="" if nodes is None else nodes.connections.name,
            resign=None if cluster is None else cluster.resign,
        )


def _controller_settings(settings: Settings, data: DataDir) -> ControllerSettings:
    return ControllerSettings(
        data.logs,
        settings.limit_memory,
        scale_down_after=settings.scale_down_seconds,
        stuck_grace=settings.drain_seconds,
        interrupt_grace=settings.interrupt_grace_seconds,
        sleep_bytes=settings.gpu_sleep_bytes,
        swap=SwapRule(settings.gpu_min_stay_seconds, settings.gpu_max_wait_seconds),
    )


def _share_workers(
    settings: Settings, workers: Workers, lanes: Lanes, demand: Callable[[str], None]
) -> "Seats":
    """Have requests go to workers on nodes, which other servers use, too."""
    from openlaunch.server.dispatch.seats import Seats
    from openlaunch.server.dispatch.shared_lane import SharedLane

    seats = workers.seats = Seats(settings, lanes, workers)
    lanes.make = partial(SharedLane, demand=demand, changed=seats.waiting)
    on_new = lanes.on_new

    def place(lane: "Lane") -> None:
        on_new(lane)
        seats.place(lane)

    lanes.on_new = place
    return seats


def _spans(settings: Settings) -> Spans | None:
    if settings.otlp_endpoint is None:
        return None
    return Spans(settings.otlp_endpoint, settings.trace_ratio, version("openlaunch"))
