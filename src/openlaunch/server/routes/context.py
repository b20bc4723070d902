"""What the routes work with, and whose request it is."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from openlaunch.artifacts.base import Artifacts
from openlaunch.artifacts.signing import UrlSigner
from openlaunch.controller.controller import Controller
from openlaunch.server.audit import AuditLog
from openlaunch.server.auth import PRINCIPAL, Keyring, Principal
from openlaunch.server.batch_jobs import BatchJobs
from openlaunch.server.callbacks import Callbacks
from openlaunch.server.dispatch import Dispatcher
from openlaunch.server.docker_image_batch_jobs import DockerImageBatchJobs
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
    audit: AuditLog


def _principal(request: Request) -> Principal:
    context: Context = request.app.state.context
    header = request.headers.get("authorization")
    principal = context.keyring.authenticate(None if header is None else header.encode("latin-1"))
    request.scope[PRINCIPAL] = principal
    return principal


Caller = Annotated[Principal, Depends(_principal)]
"""A route's parameter of this type is the caller, whatever the role; without a right key the route answers 401."""


def _user(caller: Caller) -> Principal:
    caller.require_user()
    return caller


def _admin(caller: Caller) -> Principal:
    caller.require_admin()
    return caller


User = Annotated[Principal, Depends(_user)]
"""The same for keys that may do more than predict; others get 403."""

Admin = Annotated[Principal, Depends(_admin)]
"""The same for an admin; others get 403."""
