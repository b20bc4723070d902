"""Secrets of owners (`/v1/secrets`)."""

from typing import Annotated

from fastapi import Path

from openlaunch.server.control.context import Context
from openlaunch.server.control.routes.callers import Admin, Owner, User
from openlaunch.server.control.routing import ControlRouter
from openlaunch.wire import routes
from openlaunch.wire.secrets import (
    NAME_PATTERN,
    ListSecretsResponse,
    RotateSecretsResponse,
    SecretName,
    SecretSummary,
    SetSecretRequest,
)

SECRET = routes.SECRETS + "/{name}"


def router(context: Context) -> ControlRouter:
    """Set, list and delete secrets, and replace the key that they are encrypted with."""
    api = ControlRouter(tags=["secrets"])

    @api.put(SECRET)
    async def set_secret(name: SecretName, body: SetSecretRequest, user: User) -> SecretSummary:
        """Store a secret. Endpoints that use it and have another value get new workers, without an interruption."""
        return await context.secrets.set(user.owner, name, body.value.get_secret_value())

    @api.get(routes.SECRETS)
    async def list_secrets(user: User, owner: Owner = None) -> ListSecretsResponse:
        """List the names of secrets, when each was set, and which endpoints use it. Values are never shown."""
        return ListSecretsResponse(secrets=await context.secrets.list_of(user.owner))

    @api.delete(SECRET, status_code=204)
    async def delete_secret(name: Annotated[str, Path(pattern=NAME_PATTERN)], user: User) -> None:
        """Delete a secret that no endpoint uses."""
        await context.secrets.delete(user.owner, name)

    @api.post(routes.SECRETS_ROTATION)
    async def rotate_secrets(admin: Admin) -> RotateSecretsResponse:
        """Encrypt everybody's secrets with a new key."""
        return RotateSecretsResponse(secrets=await context.secrets.rotate())

    return api
