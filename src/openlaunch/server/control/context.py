"""The parts of a running server, for those who put it together and for the routes. Imports no framework."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from openlaunch.artifacts.base import Artifacts
from openlaunch.artifacts.signing import UrlSigner
from openlaunch.controller.controller import Controller
from openlaunch.engines.documents import GpuUse
from openlaunch.server.access.audit import AuditLog
from openlaunch.server.access.auth import Keyring
from openlaunch.server.access.quotas import Quotas
from openlaunch.server.access.uploads import Uploads
from openlaunch.server.control.log_streams import LogStreams
from openlaunch.server.dispatch.lanes import Lanes
from openlaunch.server.dispatch.recordings import Recordings
from openlaunch.server.dispatch.workers import Workers
from openlaunch.server.endpoints.secrets import Secrets
from openlaunch.server.endpoints.service import Endpoints
from openlaunch.server.gateway.connections import Connections
from openlaunch.server.gateway.model_names import ModelNames
from openlaunch.server.jobs.batch_jobs import BatchJobs
from openlaunch.server.jobs.image_jobs import ImageJobs
from openlaunch.server.jobs.model_batches import ModelBatches
from openlaunch.server.jobs.triggers import Triggers
from openlaunch.server.metrics.history import History
from openlaunch.server.metrics.server_counts import ServerCounts
from openlaunch.server.operations.health import Health
from openlaunch.server.operations.storage import Storage
from openlaunch.server.prediction.results import SignedURLs
from openlaunch.server.prediction.schema_cache import SchemaCache
from openlaunch.server.queue.callbacks import Callbacks
from openlaunch.server.queue.service import TaskService
from openlaunch.server.settings import Settings
from openlaunch.server.spans import Spans
from openlaunch.store.base import Store
from openlaunch.store.cluster import ClusterRecords


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The parts of a running server."""

    settings: Settings
    store: Store
    artifacts: Artifacts
    signer: UrlSigner
    urls: SignedURLs
    schemas: SchemaCache
    keyring: Keyring
    lanes: Lanes
    workers: Workers
    endpoints: Endpoints
    controller: Controller
    tasks: TaskService
    callbacks: Callbacks
    batch_jobs: BatchJobs
    model_names: ModelNames
    model_batches: ModelBatches
    image_jobs: ImageJobs
    triggers: Triggers
    health: Health
    history: History
    storage: Storage
    log_streams: LogStreams
    recordings: Recordings
    audit: AuditLog
    quotas: Quotas
    secrets: Secrets
    uploads: Uploads
    connections: Connections
    counts: ServerCounts
    spans: Spans | None = None
    """Where the server traces, what sends its spans."""
    gpus: Callable[[], Sequence[GpuUse]]
    """Asks the driver how busy the server's GPUs are."""
    cluster: ClusterRecords | None = None
    """Where several servers share the records, who they are."""
    reach: Callable[[str, str, str], Awaitable[asyncio.Transport | None]] | None = None
    """Opens a connection to another server, where those can be reached over nodes."""
    name: str = ""
    """The name by which other servers reach this one."""
    resign: Callable[[], Awaitable[None]] | None = None
    """Has another server of the cluster lead; None: this one is alone."""
