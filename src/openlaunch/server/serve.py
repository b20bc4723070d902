"""`openlaunch serve`: puts the parts together, and takes them apart again in order."""

import asyncio
import contextlib
import gc
import importlib.util
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, cast

import uvicorn
import uvloop
from pydantic import SecretStr

from openlaunch.artifacts.base import Artifacts
from openlaunch.artifacts.folder import FolderArtifacts
from openlaunch.artifacts.signing import UrlSigner
from openlaunch.controller.controller import Controller
from openlaunch.controller.endpoint import ControllerSettings
from openlaunch.controller.swap import SwapRule
from openlaunch.engines.containers import ContainerEngine
from openlaunch.engines.environments import Environments
from openlaunch.engines.gpus import gpu_names, gpu_use, visible_gpus
from openlaunch.engines.images import Images
from openlaunch.engines.local import LocalEngine
from openlaunch.engines.model_caches import ModelCaches
from openlaunch.engines.package_sources import PackageSources
from openlaunch.engines.processes import Processes
from openlaunch.engines.sandbox import Sandboxes
from openlaunch.engines.worker_logs import WorkerLogs
from openlaunch.errors import ConfigurationError, Conflict, Unavailable
from openlaunch.nodes import leases
from openlaunch.server import clock
from openlaunch.server.access.audit import AuditLog
from openlaunch.server.access.auth import Keyring
from openlaunch.server.access.quotas import Quotas
from openlaunch.server.access.shared_use import SharedUse
from openlaunch.server.access.uploads import Uploads
from openlaunch.server.access.vault import Vault
from openlaunch.server.asgi import App
from openlaunch.server.cluster.feed import Feed
from openlaunch.server.cluster.service import Cluster
from openlaunch.server.control.context import Context
from openlaunch.server.control.lazy_app import LazyApp
from openlaunch.server.control.log_streams import LogStreams
from openlaunch.server.control.open_metrics import open_metrics
from openlaunch.server.dispatch.lanes import Lanes
from openlaunch.server.dispatch.loads import Loads
from openlaunch.server.dispatch.recordings import Recordings
from openlaunch.server.dispatch.traced_starts import trace_starts
from openlaunch.server.dispatch.workers import Workers
from openlaunch.server.endpoints.secrets import Secrets, SecretValues
from openlaunch.server.endpoints.service import Endpoints
from openlaunch.server.gateway.access_log import AccessLog, LoggedHttpServices
from openlaunch.server.gateway.bodies import BodyBudget
from openlaunch.server.gateway.by_name import ByName
from openlaunch.server.gateway.completion_routes import CompletionRoutes
from openlaunch.server.gateway.connections import Connections
from openlaunch.server.gateway.cors import Cors
from openlaunch.server.gateway.http_server import STOP_SECONDS, HttpServer
from openlaunch.server.gateway.http_services import HttpServices
from openlaunch.server.gateway.inference_routes import InferenceRoutes
from openlaunch.server.gateway.model_names import ModelNames
from openlaunch.server.gateway.model_routes import ModelRoutes
from openlaunch.server.gateway.resolver import EndpointResolver
from openlaunch.server.gateway.route_table import RouteTable
from openlaunch.server.gateway.streams_elsewhere import StreamsElsewhere
from openlaunch.server.gateway.sync_routes import SyncRoutes
from openlaunch.server.gateway.task_routes import TaskRoutes
from openlaunch.server.gateway.unread_answers import UnreadAnswers
from openlaunch.server.gateway.worker_calls import WorkerCalls
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
from openlaunch.server.operations.stopping import StopSignals
from openlaunch.server.operations.storage import Storage
from openlaunch.server.operations.tls import check_certificate
from openlaunch.server.operations.unused import UnusedArtifacts
from openlaunch.server.prediction.idempotency import Answers
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
from openlaunch.store.cluster import ClusterRecords
from openlaunch.store.sqlite import SqliteStore
from openlaunch.wire.events import EventKind
from openlaunch.wire.keys import Role

if TYPE_CHECKING:
    from openlaunch.nodes.engine import NodesEngine
    from openlaunch.nodes.identity import ClusterIdentity
    from openlaunch.server.dispatch.lane import Lane
    from openlaunch.server.dispatch.seats import Seats
    from openlaunch.store.postgres import PostgresStore

log = logging.getLogger(__name__)

FIRST_OWNER = "admin"
UNREAD_BYTES = 64 * 1024 * 1024
"""Memory for what has come of requests whose head is not there yet, and for what is sent behind a request."""

POLL_SECONDS = 0.05


Ready = Callable[[str, str], None]
"""Is called once requests are accepted, with the URL, and with the token of a link that signs in to the page once."""


def serve(settings: Settings, ready: Ready) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        ConfigurationError: the data directory, the port or the certificate can't be used.
    """
    check_certificate(settings.tls_cert, settings.tls_key)
    data = DataDir(settings.data_dir)
    with data.locked(), bound_socket(settings.host, settings.port) as listener:
        uvloop.run(serve_on(settings, data, listener, ready))


@contextlib.contextmanager
def bound_socket(
    host: str, port: int, instead: str = "another address with --host and --port"
) -> Iterator[socket.socket]:
    """Give a socket bound to the address, or raise ConfigurationError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            raise ConfigurationError(
                f"can't listen on {host}:{port}: {error.strerror or error}; "
                f"name {instead} (port 0 picks a free one)"
            ) from error
        yield listener


async def serve_on(settings: Settings, data: DataDir, listener: socket.socket, ready: Ready) -> None:
    """Serve on a bound socket, with a locked data directory, in this thread's event loop."""
    signals = StopSignals()
    url = _url(listener, secure=settings.tls_cert is not None)
    async with contextlib.AsyncExitStack() as stack:
        context = await stack.enter_async_context(_platform(settings, data, url))
        key = await _first_key(context, data)
        data.write_credentials(url, key)
        answers = Answers(settings, context.store, context.artifacts)
        resolver = EndpointResolver(context.keyring, context.lanes)
        sync = SyncRoutes(settings, resolver, context.schemas, answers, context.artifacts, context.urls)
        if context.reach is not None:
            sync.streams.elsewhere = StreamsElsewhere(context.name, context.reach)
        tasks = TaskRoutes(resolver, context.schemas, context.tasks, context.urls)
        by_name = ByName(resolver, context.schemas, sync, context.tasks, context.urls)
        of_models = resolver, context.model_names, context.schemas, sync, context.keyring.tokens
        models, completions = ModelRoutes(*of_models), CompletionRoutes(*of_models)
        inference = InferenceRoutes(resolver, context.lanes, context.schemas, sync, context.health)
        control_plane = LazyApp(partial(_control_plane, context))
        config = _config(control_plane, settings)
        services = _http_services(
            settings,
            context.spans,
            routes=RouteTable(
                {**sync.handlers(), **tasks.handlers()}, (by_name, models, completions, inference)
            ),
            app=config.loaded_app,
            proxies=Proxies(settings),
            cors=Cors(settings.cors_origins) if settings.cors_origins else None,
            endpoint_origins=by_name.origins,
            admit=resolver.authenticate,
            admit_scraper=context.keyring.authenticate_scraper,
            connections=context.connections,
            counts=context.counts,
            bodies=BodyBudget(max(settings.max_bodies_bytes, 2 * settings.max_body_bytes)),
            unread=BodyBudget(UNREAD_BYTES),
            unsent=BodyBudget(2 * settings.max_answers_bytes),
            answers=UnreadAnswers(
                settings.max_answers_bytes // 2,
                data.root,
                settings.write_timeout_seconds,
                context.workers.arriving,
            ),
            max_body_bytes=settings.max_body_bytes,
            read_seconds=settings.read_timeout_seconds,
            write_seconds=settings.write_timeout_seconds,
        )
        context.workers.calls = WorkerCalls(services, context.keyring)
        server = HttpServer(services, listener, config.ssl)
        server.start()
        if settings.metrics_port is not None:
            metrics = stack.enter_context(
                bound_socket("127.0.0.1", settings.metrics_port, "another port with --metrics-port")
            )
            await stack.enter_async_context(open_metrics(metrics, services))
        if settings.grpc_port is not None:
            await stack.enter_async_context(_grpc(settings, settings.grpc_port, services))
        ready(url, _page_link(context, key))
        await control_plane.made
        # What is there now stays: collections, which stop every request, need not look at it.
        gc.collect()
        gc.freeze()
        await signals.stop.wait()
        _say_stopping(context.workers.running(), settings.drain_seconds)
        resolver.stopping = context.health.stopping = True
        context.tasks.stop_claiming()
        stopping = Unavailable("the server is stopping", code="stopping", retry_after=2)
        if context.workers.seats is None or context.resign is None:
            context.lanes.refuse_all(stopping)  # nobody starts workers for what waits any longer
        if context.resign is not None:
            await context.resign()
        context.controller.events.close()
        context.log_streams.close()
        await _drained(context, settings.drain_seconds, signals.at_once)
        context.lanes.refuse_all(stopping)
        context.workers.break_off(
            Unavailable("the server stopped before this had ended", code="interrupted", retry_after=2)
        )
        await server.stop(0 if signals.at_once.is_set() else STOP_SECONDS)
        if isinstance(services, LoggedHttpServices) and services.access_log is not None:
            await services.access_log.close()


def _http_services(settings: Settings, spans: Spans | None, **given: Any) -> HttpServices:
    """Return what connections need; each request is logged only where that is asked for, and costs nothing else."""
    off = settings.access_log == "off"
    if off and spans is None:
        return HttpServices(**given)
    access_log = None if off else AccessLog.of(settings.access_log, settings.log_format)
    return LoggedHttpServices(access_log=access_log, spans=spans, **given)


def _grpc(
    settings: Settings, port: int, services: HttpServices
) -> contextlib.AbstractAsyncContextManager[None]:
    """Return what serves gRPC; raise ConfigurationError where what it needs is not installed."""
    try:
        from openlaunch.server.gateway.grpc_server import Listener, open_grpc
    except ImportError as error:
        raise ConfigurationError(
            f"gRPC needs what is not installed ({error}): pip install 'openlaunch[server,grpc]'"
        ) from None
    tls = None
    if settings.tls_cert is not None:
        cert = settings.tls_cert.read_bytes()
        tls = cert, cert if settings.tls_key is None else settings.tls_key.read_bytes()
    return open_grpc(Listener(settings.host, port, tls), services)


def _control_plane(context: Context) -> App:
    # A third of all that a start imports, which no prediction needs: tasks that wait run before it is there.
    from openlaunch.server.control.app import guarded_control_plane
    from openlaunch.server.page import routes

    return guarded_control_plane(context, routes.router(context))


def _url(listener: socket.socket, *, secure: bool) -> str:
    scheme = "https" if secure else "http"
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # noqa: S104 -- compared, not bound
        host = "127.0.0.1"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


@contextlib.asynccontextmanager
async def _platform(settings: Settings, data: DataDir, url: str) -> AsyncIterator[Context]:
    """Start all parts but the HTTP server, in the order in which they need each other."""
    async with contextlib.AsyncExitStack() as stack:
        store = await _opened_store(settings, data)
        stack.push_async_callback(store.close)
        counts = ServerCounts()
        store.on_commit(counts.committed)
        if store.is_service:
            follower = DatabaseClock(store)
            await follower.start()
            stack.push_async_callback(follower.stop)
        records = await _cluster_records(settings, data, url)
        if records is not None:
            stack.push_async_callback(records.close)
        cluster = None if records is None else Cluster(records)
        artifacts = await _artifacts(settings, data)
        secret = data.url_secret()
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
        vault = Vault(data, settings.secrets_key, shared=cluster is not None)
        engine = _engine(settings, data)
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
        tasks.runner.budgets = keyring.tokens
        if spans is not None:
            trace_tasks(tasks, spans)
        image_jobs = ImageJobs(settings, store, engine, data.logs, quotas)
        await workers.start(controller.reports)
        stack.push_async_callback(workers.close)
        if not isinstance(engine, LocalEngine):
            demand = controller.reports.demand
            if cluster is not None:
                loads = Loads(cluster.messages, lanes, lambda: controller.leads, demand)
                lanes.load_elsewhere, demand = loads.of, loads.wanted
                loads.start()
                engine.on_removed = cluster.messages.removed
                cluster.messages.on_removed = engine.removed_elsewhere
                stack.push_async_callback(loads.stop)
            await engine.start_dialling(_share_workers(settings, workers, lanes, demand))
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
        model_batches = ModelBatches(settings, store, artifacts, lanes, model_names, tasks, keyring.tokens)
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
            shared_use = SharedUse(cluster.messages, keyring)
            cluster.messages.on_used = keyring.used_elsewhere
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
                cast("PostgresStore", store), tasks.housekeeper, leading, feed, settings.drain_seconds
            )
            stack.push_async_callback(cluster.stop)
        nodes = None if isinstance(engine, LocalEngine) else engine.problems
        leads = None if cluster is None or engine.keeps_workers else lambda: controller.leads
        history = History(store if cluster is None else None, lanes.watched)
        history.start()
        stack.push_async_callback(history.stop)
        health = Health(store, artifacts, data.root, nodes, leads)
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
            gpus=gpu_use if isinstance(engine, LocalEngine) else tuple,
            cluster=records,
            reach=None if cluster is None or isinstance(engine, LocalEngine) else engine.reach,
            name="" if isinstance(engine, LocalEngine) else engine.name,
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


async def _artifacts(settings: Settings, data: DataDir) -> Artifacts:
    url = settings.artifacts.rstrip("/")
    data.check_bucket(url)
    artifacts = await open_artifacts(url, data, signs_urls=settings.artifact_urls == "bucket")
    data.bucket = url
    return artifacts


async def open_artifacts(url: str, data: DataDir, *, signs_urls: bool = True) -> Artifacts:
    """Give the artifacts in a bucket that works and is this data directory's; without a URL, those in the folder."""
    if not url:
        return FolderArtifacts(data.artifacts)
    from openlaunch.artifacts.bucket import BucketArtifacts

    bucket = BucketArtifacts(url, signs_urls=signs_urls)
    await bucket.start(data.mark())
    return bucket


async def _opened_store(settings: Settings, data: DataDir) -> Store:
    if settings.store is None:
        data.use_records(None)
        return await open_sqlite(data)
    store = await open_postgres(settings.store.get_secret_value(), shared=settings.cluster_token is not None)
    data.use_records(store.name)
    return store


async def _cluster_records(settings: Settings, data: DataDir, url: str) -> ClusterRecords | None:
    """Join the cluster of the token; None where this server is alone on its records."""
    if settings.store is None or settings.cluster_token is None:
        return None
    if not settings.artifacts and not data.artifacts.is_symlink():
        raise ConfigurationError(
            "the servers of a cluster need artifacts that all of them reach: name a bucket with --artifacts, or make "
            f"{data.artifacts} a link to a folder that they share"
        )
    from openlaunch.store.postgres_cluster import PostgresCluster

    name = cluster_identity(settings.cluster_token).name
    records = PostgresCluster(
        settings.store.get_secret_value(), name, url, leases.SECONDS, leases.ANSWER_SECONDS
    )
    try:
        data.take_url_secret(await records.url_secret(data.url_secret()))
    except BaseException:
        await records.close()
        raise
    return records


async def _read_quotas(store: Store, quotas: Quotas) -> None:
    quotas.set_all(await store.read(quota_store.list_all))


async def open_sqlite(data: DataDir) -> SqliteStore:
    """Open the data directory's own database."""
    return await SqliteStore.open(data.database)


async def open_postgres(url: str, *, shared: bool = False) -> "PostgresStore":
    """Open a database, `shared` with other servers; raise ConfigurationError where it can't be used."""
    try:
        from openlaunch.store.postgres import PostgresStore
    except ImportError as error:
        raise ConfigurationError(
            f"PostgreSQL needs what is not installed ({error}): pip install 'openlaunch[server,cluster]'"
        ) from None
    return await PostgresStore.open(url, shared=shared)


def _engine(settings: Settings, data: DataDir) -> "LocalEngine | NodesEngine":
    if settings.engine == "local":
        return local_engine(settings, data)
    from openlaunch.nodes.engine import NodesEngine
    from openlaunch.nodes.node import read_nodes

    identity = cluster_identity(settings.cluster_token)
    if settings.engine == "agents":
        return NodesEngine(read_nodes(settings.agents), identity, data.mark())
    from openlaunch.nodes.ray_placement import RayPlacement

    if importlib.util.find_spec("ray") is None:
        raise ConfigurationError(
            "the engine `ray` needs what is not installed: pip install 'openlaunch[server,cluster,ray]'"
        )
    assert settings.cluster_token is not None
    token, records = settings.cluster_token.get_secret_value(), data.mark()
    return NodesEngine([], identity, records, RayPlacement(records, token, data.known_nodes))


def cluster_identity(token: SecretStr | None) -> "ClusterIdentity":
    """Return what is derived from the cluster's token; raise ConfigurationError where there is none."""
    from openlaunch.nodes.identity import ClusterIdentity

    if token is None:
        raise ConfigurationError(
            "servers and agents of a cluster share a secret, and none is given: make one with "
            "`openssl rand -hex 32`, and set OPENLAUNCH_CLUSTER_TOKEN to it for every server and agent"
        )
    return ClusterIdentity(token.get_secret_value())


def local_engine(settings: Settings, data: DataDir) -> LocalEngine:
    """Make the engine that runs workers on this machine."""
    sandboxes = _sandboxes(settings, data)
    fast_loop = settings.worker_event_loop == "uvloop"
    containers = ContainerEngine(
        settings.container_engine,
        settings.container_run_options,
        server=data.digest,
        folder=data.workers,
        pull_seconds=settings.image_pull_seconds,
    )
    gpus = visible_gpus()
    return LocalEngine(
        Processes(data.workers, sandboxes=sandboxes, fast_loop=fast_loop, disk=settings.worker_disk_bytes),
        Environments(data.environments, data.uv_caches, sandboxes=sandboxes, sources=_sources(settings)),
        containers,
        Images(containers, settings.triton_image, settings.model_repositories),
        gpus,
        WorkerLogs(data.logs),
        data.jobs,
        ModelCaches(data.caches, settings.cache_bytes, sandboxes),
        gpu_names(gpus),
    )


def _sources(settings: Settings) -> PackageSources:
    return PackageSources.of(
        os.environ,
        settings.torch_backend,
        settings.extra_index_urls.get_secret_value(),
        settings.find_links.get_secret_value(),
    )


def _sandboxes(settings: Settings, data: DataDir) -> Sandboxes | None:
    if settings.isolation == "off":
        return None
    required = settings.isolation == "required"
    if sys.platform != "linux":
        if required:
            raise ConfigurationError(
                "OPENLAUNCH_ISOLATION is 'required': only Linux isolates workers; use 'auto'"
            )
        return None
    secret = (data.root, data.uv_caches, settings.tls_key or settings.tls_cert)
    return Sandboxes(
        hidden=tuple(str(path.absolute()) for path in secret if path is not None),
        shared=tuple(filter(None, settings.shared_folders.split(os.pathsep))),
        required=required,
        processes=settings.worker_processes,
    )


async def _first_key(context: Context, data: DataDir) -> str:
    """Return the key for the credentials file: the one that was asked for, the one in the file, or a new one."""
    keyring, asked = context.keyring, context.settings.api_key
    if asked is not None:
        key = asked.get_secret_value()
        if keyring.find(key) is None:
            try:
                await _make_first_key(context, key)
            except Conflict:  # another server, which starts at the same time, has made it, or it was revoked
                await keyring.load()
        if keyring.find(key) is None:
            raise ConfigurationError("OPENLAUNCH_API_KEY is a key that was revoked; give another one")
        return key
    key = data.read_api_key() or ""
    if keyring.find(key) is not None:
        return key
    return await _make_first_key(context)


def _page_link(context: Context, key: str) -> str:
    principal = context.keyring.find(key)
    assert principal is not None  # it was looked for, or made
    return context.keyring.make_link(principal.key_id)


async def _make_first_key(context: Context, key: str | None = None) -> str:
    """Make an admin's key, the given one or a new one; the audit log says that the server made it."""
    record, key = await context.keyring.create(FIRST_OWNER, Role.ADMIN, key)
    summary = {"owner": record.owner, "role": record.role.value}
    await context.audit.record_own("create_key", record.id, summary)
    return key


def _say_stopping(running: int, seconds: float) -> None:
    if running:
        text = "stopping: waiting up to %g s for what runs (requests and tasks: %d); a second Ctrl-C ends at once"
        log.info(text, seconds, running)
    else:
        log.info("stopping: no request or task runs")


async def _drained(context: Context, seconds: float, at_once: asyncio.Event) -> None:
    """Wait until nothing runs in workers and nothing waits for one, for at most `seconds`."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    while running := context.workers.running() + context.lanes.waiting():
        waited = loop.time() - began
        if waited >= seconds or at_once.is_set():
            log.warning("%d requests had not ended after %.3g s; they are broken off", running, waited)
            return
        await asyncio.sleep(POLL_SECONDS)


def _config(app: App, settings: Settings) -> uvicorn.Config:
    """Make uvicorn's configuration, of which the certificate is used."""
    config = uvicorn.Config(
        app,
        loop="none",
        ws="none",
        lifespan="off",
        log_config=None,
        proxy_headers=False,  # `Proxies` reads them
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
    )
    config.load()
    return config
