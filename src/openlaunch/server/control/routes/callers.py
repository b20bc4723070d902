"""Whose request it is, and for whom: the types of parameters that routes take."""

from datetime import UTC, datetime
from functools import partial
from typing import Annotated

from fastapi import Depends, Query, Request

from openlaunch.errors import BadRequest
from openlaunch.server.access.auth import ACTING, PRINCIPAL, Principal
from openlaunch.server.control.context import Context
from openlaunch.store.owners import owner_of
from openlaunch.wire.keys import ALL_OWNERS, Role
from openlaunch.wire.tasks import MAX_WAIT_SECONDS
from openlaunch.wire.times import moment

Wait = Annotated[float, Query(ge=0, le=MAX_WAIT_SECONDS)]
Owner = Annotated[
    str | None,
    Query(
        description="For admins: whose things the request is about; in a list, * is everybody's. By default those of "
        "the key's owner, or of the owner of what the path names.",
    ),
]


# These are coroutines, because FastAPI calls plain functions in a thread, which takes longer than all that they do.


async def find_caller(request: Request, owner: Owner = None) -> Principal:
    """Return whose request it is; raise Unauthorized without a right key."""
    found: Principal | None = request.scope.get(ACTING, request.scope.get(PRINCIPAL))
    if found is not None:
        return found
    context: Context = request.app.state.context
    header = request.headers.get("authorization")
    given = None if header is None else header.encode("latin-1")
    principal = context.keyring.authenticate(given, request.scope["headers"])
    request.scope[PRINCIPAL] = principal
    return principal


Caller = Annotated[Principal, Depends(find_caller)]
"""A route's parameter of this type is the caller, whatever the role; without a right key the route answers 401."""


async def find_user(request: Request, owner: Owner = None) -> Principal:
    """Return the caller; raise Forbidden for a key that may only predict."""
    caller = await find_caller(request)
    caller.require_user()
    return caller


async def find_admin(request: Request, owner: Owner = None) -> Principal:
    """Return the caller; raise Forbidden for all but an admin."""
    caller = await find_caller(request)
    caller.require_admin()
    return caller


async def find_scraper(request: Request) -> Principal:
    """Return the caller; raise Forbidden for all roles but `admin` and `metrics`."""
    found: Principal | None = request.scope.get(PRINCIPAL)
    if found is None:
        context: Context = request.app.state.context
        header = request.headers.get("authorization")
        given = None if header is None else header.encode("latin-1")
        found = context.keyring.authenticate_scraper(given, request.scope["headers"])
        request.scope[PRINCIPAL] = found
    found.require_metrics()  # the gateway may have known before whose request it is, but not what it asks for
    return found


Scraper = Annotated[Principal, Depends(find_scraper)]
"""A route's parameter of this type is a caller with the role `metrics` or `admin`; others get 403."""

User = Annotated[Principal, Depends(find_user)]
"""A route's parameter of this type is a caller whose key may do more than predict; others get 403."""

Admin = Annotated[Principal, Depends(find_admin)]
"""A route's parameter of this type is an admin; others get 403."""


async def acting(request: Request, caller: Principal) -> Principal:
    """Return the caller as the owner that the request is made for.

    That is the `owner` of the query; without it, an admin who names a thing by its id acts for its owner.

    Raises:
        Forbidden: it is somebody else, and the caller is not an admin.
        NotFound: nobody has this name.
        BadRequest: a change is asked for in the name of everybody.
    """
    context: Context = request.app.state.context
    owner = request.query_params.get("owner")
    if caller.role is Role.ADMIN and owner in (None, ALL_OWNERS):
        ids = {**request.path_params, **({} if owner else request.query_params)}
        named = await context.store.read(partial(owner_of, ids=ids), caller.owner) if ids else None
        if named is not None:
            return caller.acting_for(named)
    if owner is None:
        return caller
    actor = caller.acting_for(owner)
    if owner != ALL_OWNERS:
        context.keyring.check_owner(owner)
    elif request.method != "GET":
        raise BadRequest("owner is *, which lists what everybody has: a change needs the name of one owner")
    return actor


def named(
    context: Context, caller: Principal, name: str | None, *, public: bool = False
) -> tuple[str, str | None]:
    """Return the owner and the name of a thing; `owner/name` is another owner's, which is for admins, or `public`.

    Raises Forbidden where the caller may not name it, and NotFound where nobody has the owner's name.
    """
    owner, slash, own_name = (name or "").partition("/")
    if not slash:
        return caller.owner, name
    if caller.role is Role.ADMIN or not public:
        caller.acting_for(owner)
        context.keyring.check_owner(owner)
    return owner, own_name


def moment_of(name: str, given: str) -> datetime | None:
    """Return the point in time that a query's parameter of this name says; None where it is empty."""
    if not given:
        return None
    try:
        return moment(given, datetime.now(UTC))
    except ValueError as error:
        raise BadRequest(f"{name}: {error}") from None
