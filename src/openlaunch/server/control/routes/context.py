"""What the routes work with, and whose request it is."""

from typing import Annotated

from fastapi import Depends, Query, Request

from openlaunch.server.access.auth import PRINCIPAL, Principal
from openlaunch.server.control.context import Context as Context
from openlaunch.wire.tasks import MAX_WAIT_SECONDS

Wait = Annotated[float, Query(ge=0, le=MAX_WAIT_SECONDS)]


def find_caller(request: Request) -> Principal:
    """Return whose request it is; raise Unauthorized without a right key."""
    found: Principal | None = request.scope.get(PRINCIPAL)
    if found is not None:
        return found
    context: Context = request.app.state.context
    header = request.headers.get("authorization")
    principal = context.keyring.authenticate(None if header is None else header.encode("latin-1"))
    request.scope[PRINCIPAL] = principal
    return principal


Caller = Annotated[Principal, Depends(find_caller)]
"""A route's parameter of this type is the caller, whatever the role; without a right key the route answers 401."""


def find_user(request: Request) -> Principal:
    """Return the caller; raise Forbidden for a key that may only predict."""
    caller = find_caller(request)
    caller.require_user()
    return caller


def find_admin(request: Request) -> Principal:
    """Return the caller; raise Forbidden for all but an admin."""
    caller = find_caller(request)
    caller.require_admin()
    return caller


User = Annotated[Principal, Depends(find_user)]
"""The same for keys that may do more than predict; others get 403."""

Admin = Annotated[Principal, Depends(find_admin)]
"""The same for an admin; others get 403."""
