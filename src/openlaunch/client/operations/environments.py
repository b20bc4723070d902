"""Environments of endpoints: their size, and who uses them."""

from openlaunch.client.effects import Flow, Request, path_to
from openlaunch.client.models import answer, got
from openlaunch.wire import routes
from openlaunch.wire.environments import (
    EnvironmentResponse,
    ListEnvironmentsResponse,
    PruneEnvironmentsResponse,
)


def list_environments() -> Flow[list[EnvironmentResponse]]:
    """List your environments, and those that your endpoints use, those used last first."""
    return (yield from got(ListEnvironmentsResponse, routes.ENVIRONMENTS)).environments


def get_environment(environment_id: str) -> Flow[EnvironmentResponse]:
    """Get one environment. Raises NotFound when you have none of this id."""
    return (yield from got(EnvironmentResponse, path_to(routes.ENVIRONMENTS, environment_id)))


def prune_environments() -> Flow[list[str]]:
    """Remove your environments that no endpoint uses, and return their ids."""
    url = path_to(routes.ENVIRONMENTS, "prune")
    return (yield from answer(PruneEnvironmentsResponse, Request("POST", url, idempotent=True))).removed
