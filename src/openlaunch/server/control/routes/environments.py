"""Environments of endpoints (`/v1/environments`)."""

from datetime import UTC, datetime

from openlaunch.engines.documents import EnvironmentInfo
from openlaunch.errors import NotFound
from openlaunch.server.access.auth import Principal
from openlaunch.server.control.context import Context
from openlaunch.server.control.routes.callers import User
from openlaunch.server.control.routing import ControlRouter
from openlaunch.wire import routes
from openlaunch.wire.environments import (
    EnvironmentResponse,
    ListEnvironmentsResponse,
    PruneEnvironmentsResponse,
)
from openlaunch.wire.keys import ALL_OWNERS


def router(context: Context) -> ControlRouter:
    """List and prune environments: owners their own, and those that their endpoints use."""
    api = ControlRouter(prefix=routes.ENVIRONMENTS, tags=["environments"])

    @api.get("")
    async def list_environments(user: User) -> ListEnvironmentsResponse:
        """List environments with their size and who uses them, those used last first."""
        return ListEnvironmentsResponse(environments=await _environments(context, user))

    @api.get("/{environment_id}")
    async def get_environment(environment_id: str, user: User) -> EnvironmentResponse:
        """Get one environment."""
        for each in await _environments(context, user):
            if each.id == environment_id:
                return each
        raise NotFound(f"no environment has the id {environment_id!r}", code="environment_not_found")

    @api.post("/prune")
    async def prune_environments(user: User) -> PruneEnvironmentsResponse:
        """Remove the caller's environments that no endpoint uses; they are built again when one needs them."""
        return PruneEnvironmentsResponse(removed=await context.controller.environments.prune(user.owner))

    return api


async def _environments(context: Context, user: Principal) -> list[EnvironmentResponse]:
    used = context.controller.environments.in_use()
    found = await context.controller.environments.all()
    shown = [each for each in found if _may_see(each, used.get(each.id, []), user.owner)]
    newest_first = sorted(shown, key=lambda each: each.used_at, reverse=True)
    return [_response(each, used.get(each.id, []), user.owner) for each in newest_first]


def _may_see(environment: EnvironmentInfo, used_by: list[tuple[str, str]], owner: str) -> bool:
    return owner in (ALL_OWNERS, environment.owner, *(each for each, _ in used_by))


def _response(
    environment: EnvironmentInfo, used_by: list[tuple[str, str]], caller: str
) -> EnvironmentResponse:
    names = [_named(owner, name, caller) for owner, name in used_by]
    if caller != ALL_OWNERS:
        names = [name for name, (owner, _) in zip(names, used_by, strict=True) if owner == caller]
    return EnvironmentResponse(
        id=environment.id,
        owner=environment.owner,
        python=environment.python,
        requirements=list(environment.requirements),
        bytes=environment.size,
        last_used_at=datetime.fromtimestamp(environment.used_at, UTC),
        used_by=sorted(names),
    )


def _named(owner: str, name: str, caller: str) -> str:
    """Return the name of what uses an environment, with its owner's; a batch job is its own owner."""
    return name if owner == caller or name.endswith(f" {owner}") else f"{owner}/{name}"
