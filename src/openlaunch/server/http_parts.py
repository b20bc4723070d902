"""The parts that answer HTTP: the gateway's routes, what connections need, and the control plane."""

import contextlib
import os
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import uvicorn

from openlaunch.errors import ConfigurationError
from openlaunch.server.asgi import App
from openlaunch.server.bodies import BodyBudget
from openlaunch.server.control.context import Context
from openlaunch.server.control.lazy_app import LazyApp
from openlaunch.server.control.open_metrics import open_metrics
from openlaunch.server.gateway.access_log import AccessLog, LoggedHttpServices
from openlaunch.server.gateway.by_name import ByName
from openlaunch.server.gateway.completion_routes import CompletionRoutes
from openlaunch.server.gateway.cors import Cors
from openlaunch.server.gateway.http_services import HttpServices
from openlaunch.server.gateway.inference_routes import InferenceRoutes
from openlaunch.server.gateway.model_routes import ModelRoutes
from openlaunch.server.gateway.resolver import EndpointResolver
from openlaunch.server.gateway.route_table import RouteTable
from openlaunch.server.gateway.streams_elsewhere import StreamsElsewhere
from openlaunch.server.gateway.sync_routes import SyncRoutes
from openlaunch.server.gateway.task_routes import TaskRoutes
from openlaunch.server.gateway.unread_answers import UnreadAnswers
from openlaunch.server.operations.datadir import DataDir
from openlaunch.server.operations.listener import bound_socket
from openlaunch.server.prediction.file_ids import FilesById
from openlaunch.server.prediction.idempotency import Answers
from openlaunch.server.proxies import Proxies
from openlaunch.server.settings import Settings
from openlaunch.server.spans import Spans
from openlaunch.wire.routes import HEALTHCHECK, HEALTHZ

UNREAD_BYTES = 64 * 1024 * 1024
"""Memory for what has come of requests whose head is not there yet, and for what is sent behind a request."""

ALIVE = b'{"status":"ok"}'
"""The answer that the server is alive, before its control plane is there to give it."""


class HttpParts:
    """What answers HTTP on the parts of a server; to be made in the event loop."""

    def __init__(self, context: Context, data: DataDir) -> None:
        settings = self._settings = context.settings
        self.resolver = EndpointResolver(context.keyring, context.lanes)
        self.control_plane = LazyApp(
            partial(_control_plane, context), dict.fromkeys((HEALTHZ, HEALTHCHECK), ALIVE)
        )
        config = _config(self.control_plane, settings)
        self.tls = config.ssl
        server = None if context.cluster is None else context.cluster.gateway
        self._answers = Answers(settings, context.store, context.artifacts, server)
        by_name, routes = _routes(context, self.resolver, self._answers)
        self.services = _http_services(
            settings,
            context.spans,
            routes=routes,
            app=config.loaded_app,
            proxies=Proxies(settings),
            cors=Cors(settings.cors_origins) if settings.cors_origins else None,
            endpoint_origins=by_name.origins,
            admit=self.resolver.authenticate,
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

    @contextlib.asynccontextmanager
    async def further_ports(self) -> AsyncIterator[None]:
        """Serve metrics and gRPC on ports of their own, where the settings name them."""
        settings = self._settings
        async with contextlib.AsyncExitStack() as stack:
            if settings.metrics_port is not None:
                metrics = stack.enter_context(
                    bound_socket("127.0.0.1", settings.metrics_port, "another port with --metrics-port")
                )
                await stack.enter_async_context(open_metrics(metrics, self.services))
            if settings.grpc_port is not None:
                await stack.enter_async_context(_grpc(settings, settings.grpc_port, self.services))
            yield

    async def stop(self) -> None:
        """Write what the access log still has, and leave the answers under keys."""
        await self._answers.stop()
        if isinstance(self.services, LoggedHttpServices) and self.services.access_log is not None:
            await self.services.access_log.close()


def _routes(context: Context, resolver: EndpointResolver, answers: Answers) -> tuple[ByName, RouteTable]:
    """Return the routes of predictions, and those by name among them."""
    settings, schemas, urls = context.settings, context.schemas, context.urls
    files = FilesById(context.store, context.artifacts, schemas.checks)
    seats = context.workers.seats
    left_work = None if seats is None else seats.left_work
    sync = SyncRoutes(settings, resolver, schemas, answers, context.artifacts, urls, files, left_work)
    if context.reach is not None:
        sync.streams.elsewhere = StreamsElsewhere(context.name, context.reach)
    tasks = TaskRoutes(resolver, schemas, context.tasks, urls, files)
    by_name = ByName(resolver, schemas, sync, context.tasks, urls, files, context.workers.waits)
    of_models = resolver, context.model_names, schemas, sync, context.keyring.use.tokens
    models, completions = ModelRoutes(*of_models), CompletionRoutes(*of_models)
    inference = InferenceRoutes(resolver, context.lanes, schemas, sync, context.health)
    return by_name, RouteTable(
        {**sync.handlers(), **tasks.handlers()}, (by_name, models, completions, inference)
    )


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
    # What the server forks has no use for gRPC, which would write a line for each fork.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
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
