"""The parts of a running server, for those who put it together and for the routes. Imports no framework."""

from dataclasses import dataclass

from openlaunch.artifacts.base import Artifacts
from openlaunch.artifacts.signing import UrlSigner
from openlaunch.controller.controller import Controller
from openlaunch.server.audit import AuditLog
from openlaunch.server.auth import Keyring
from openlaunch.server.batch_jobs import BatchJobs
from openlaunch.server.callbacks import Callbacks
from openlaunch.server.dispatch import Dispatcher
from openlaunch.server.docker_image_batch_jobs import DockerImageBatchJobs
from openlaunch.server.health import Health
from openlaunch.server.log_streams import LogStreams
from openlaunch.server.results import SignedURLs
from openlaunch.server.settings import Settings
from openlaunch.server.tasks import TaskService
from openlaunch.server.triggers import Triggers
from openlaunch.store.base import Store


@dataclass(frozen=True, slots=True)
class Context:
    """The parts of a running server."""

    settings: Settings
    store: Store
    artifacts: Artifacts
    signer: UrlSigner
    urls: SignedURLs
    keyring: Keyring
    dispatcher: Dispatcher
    controller: Controller
    tasks: TaskService
    callbacks: Callbacks
    batch_jobs: BatchJobs
    image_jobs: DockerImageBatchJobs
    triggers: Triggers
    health: Health
    log_streams: LogStreams
    audit: AuditLog
