"""What the routes work with, and whose request it is."""

from typing import Annotated

from fastapi import Depends, Request

from openlaunch.server.auth import Principal
from openlaunch.server.context import Context as Context


def _principal(request: Request) -> Principal:
    context: Context = request.app.state.context
    header = request.headers.get("authorization")
    return context.keyring.authenticate(None if header is None else header.encode("latin-1"))


User = Annotated[Principal, Depends(_principal)]
"""A route's parameter of this type is the caller; without a right key the route answers 401."""


def _admin(user: User) -> Principal:
    user.require_admin()
    return user


Admin = Annotated[Principal, Depends(_admin)]
"""The same for an admin; others get 403."""
