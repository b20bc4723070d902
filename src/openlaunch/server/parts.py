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
from openlaunch.store.base import Store
from openlaunch.wire.events import EventKind

if TYPE_CHECKING:
    from openlaunch.server.dispatch.lane import Lane
    from openlaunch.server.dispatch.seats import Seats


@contextlib.asynccontextmanager
async def started_parts(settings: Settings, data: DataDir, url: str) -> AsyncIterator[Context]:
    """Start the parts; at the end they are stopped."""
    async with contextlib.AsyncExitStack() as stack:
        store = await drivers.open_store(settings, data)
        stack.push_async_callback(store.close)
        counts = ServerCounts()
        store.on_commit(counts.committed)
        if store.is_service:
            follower = DatabaseClock(store)
            await follower.start()
            stack.push_async_callback(follower.stop)
        records = await drivers.open_cluster(settings, data, url)
        if records is not None:
            stack.push_async_callback(records.close)
        cluster = None if records is None else Cluster(records)
        artifacts = await drivers.open_own_artifacts(settings, data)
        secret = data.keys.url_secret()
        signer = UrlSigner(secret)
        quotas = Quotas(settings)
        await _read_quotas(store, quotas)
        keyring = Keyring(store, secret, quotas)
        await keyring.start()
        stack.push_async_callback(keyring.stop)
        schemas = SchemaCache(store)
        stack.push_async_callback(schemas.checks.stop)
        lanes = Lanes(settings)
        spans = _spans(settings)
        if spans is not None:
            stack.callback(spans.close)
            lanes.on_new = partial(trace_starts, spans)
        workers = Workers(settings, artifacts, lanes, schemas)
        vault = Vault(data.keys, settings.secrets_key, shared=cluster is not None)
        engine, nodes, gpus = drivers.machines(settings, data)
        stack.push_async_callback(engine.close)
        controller = Controller(
            store,
            workers,
            lanes,
            engine,
            ControllerSettings(
                data.logs,
                settings.limit_memory,
                scale_down_after=settings.scale_down_seconds,
                stuck_grace=settings.drain_seconds,
                interrupt_grace=settings.interrupt_grace_seconds,
                swap=SwapRule(settings.gpu_min_stay_seconds, settings.gpu_max_wait_seconds),
            ),
            clock.now,
            SecretValues(store, vault),
        )
        controller.events.on_event = lanes.note_event
        lanes.on_event = controller.events.add
        tasks = TaskService(
            settings,
            store,
            artifacts,
            lanes,
            schemas,
            quotas,
            None if cluster is None else cluster.messages,
            None if records is None else records.gateway,
        )
        tasks.runner.budgets = keyring.use.tokens
        if spans is not None:
            trace_tasks(tasks, spans)
        image_jobs = ImageJobs(settings, store, engine, data.logs, quotas)
        await workers.start(controller.reports)
        stack.push_async_callback(workers.close)
        if nodes is not None:
            demand = controller.reports.demand
            if cluster is not None:
                loads = Loads(cluster.messages, lanes, lambda: controller.leads, demand)
                lanes.load_elsewhere, demand = loads.of, loads.wanted
                loads.start()
                nodes.nodes.on_removed = cluster.messages.removed
                cluster.messages.on_removed = nodes.nodes.removed_elsewhere
                stack.push_async_callback(loads.stop)
            await nodes.start_dialling(_share_workers(settings, workers, lanes, demand))
        recordings = Recordings(
            artifacts,
            store,
            lambda endpoint_id, reason: controller.events.add(
                endpoint_id, EventKind.RECORDING_STOPPED, reason
            ),
        )
        lanes.sampler_of = recordings.sampler_of
        recordings.start()
        stack.push_async_callback(recordings.stop)
        stack.push_async_callback(controller.stop, 1.0)
        if cluster is None:
            await image_jobs.resume()
            await controller.start()
        else:
            await controller.refresh()
            await cluster.membership.join()
            stack.push_async_callback(cluster.membership.leave)
        await tasks.start(only_server=cluster is None)  # the lock on the data directory proves it
        stack.push_async_callback(tasks.stop)
        urls = SignedURLs(signer, settings.url_lifetime_seconds, Proxies(settings))
        callbacks = Callbacks(
            settings, store, tasks, CallbackSigner(secret), urls, shared=cluster is not None
        )
        callbacks.spans = spans
        callbacks.start(url)
        stack.push_async_callback(callbacks.stop)
        endpoints = Endpoints(store, controller, tasks.control, quotas)
        batch_jobs = BatchJobs(settings, store, artifacts, schemas, lanes, endpoints, tasks, quotas)
        model_names = ModelNames(lanes, schemas)
        model_batches = ModelBatches(
            settings, store, artifacts, lanes, model_names, tasks, keyring.use.tokens
        )
        triggers = Triggers(settings, store, image_jobs, lanes, tasks.submitter)
        unused = UnusedArtifacts(store, artifacts, settings, settings.kept_bundle_versions)
        old_queues = OldQueues(store, lanes, settings.queue_old_seconds, controller.events.add)
        leading = Leading(
            controller, tasks.retention, batch_jobs, model_batches, image_jobs, triggers, unused, old_queues
        )
        stack.push_async_callback(leading.stop)
        if cluster is None:
            await leading.start_beside_controller()
        else:
            await leading.wait()
            shared_use = SharedUse(cluster.messages, keyring.use)
            cluster.messages.on_used = keyring.use.used_elsewhere
            shared_use.start()
            stack.push_async_callback(shared_use.stop)
            feed = Feed(
                {
                    "api_keys": keyring.load,
                    "quotas": partial(_read_quotas, store, quotas),
                    "endpoints": controller.refresh,
                    "batch_jobs": batch_jobs.refresh,
                    "model_batches": model_batches.refresh,
                    "docker_image_jobs": image_jobs.refresh,
                    "triggers": triggers.changed_elsewhere,
                }
            )
            await cluster.start(
                cast("SharedStore", store), tasks.housekeeper, leading, feed, settings.drain_seconds
            )
            stack.push_async_callback(cluster.stop)
        leads = None if cluster is None or engine.keeps_workers else lambda: controller.leads
        history = History(store if cluster is None else None, lanes.watched)
        history.start()
        stack.push_async_callback(history.stop)
        health = Health(store, artifacts, data.root, None if nodes is None else nodes.problems, leads)
        health.on_lag = counts.loop_lag.observe
        health.start()
        stack.push_async_callback(health.stop)
        yield Context(
            settings=settings,
            store=store,
            artifacts=artifacts,
            signer=signer,
            urls=urls,
            schemas=schemas,
            keyring=keyring,
            lanes=lanes,
            workers=workers,
            endpoints=endpoints,
            controller=controller,
            tasks=tasks,
            callbacks=callbacks,
            batch_jobs=batch_jobs,
            model_names=model_names,
            model_batches=model_batches,
            image_jobs=image_jobs,
            triggers=triggers,
            health=health,
            history=history,
            storage=Storage(data, store, artifacts, settings, settings, settings.cache_bytes),
            log_streams=LogStreams(),
            recordings=recordings,
            audit=AuditLog(store, settings),
            quotas=quotas,
            secrets=Secrets(store, vault, controller),
            uploads=Uploads(quotas, store, artifacts),
            connections=Connections(
                allowed_connections(settings.max_connections), grpc=settings.grpc_port is not None
            ),
            counts=counts,
            spans=spans,
            gpus=gpus,
            cluster=records,
            reach=None if cluster is None or nodes is None else nodes.reach,
            name="" if nodes is None else nodes.connections.name,
            resign=None if cluster is None else cluster.resign,
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


async def _read_quotas(store: Store, quotas: Quotas) -> None:
    quotas.set_all(await store.read(quota_store.list_all))
