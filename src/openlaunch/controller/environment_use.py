"""Which environments there are, which endpoints use them, and the end of those that none uses."""

import logging
from collections.abc import Mapping

from openlaunch.controller.supervisor import Supervisor
from openlaunch.engines.base import Builds
from openlaunch.engines.documents import EnvironmentInfo

log = logging.getLogger(__name__)


class EnvironmentUse:
    """Looks after the engine's environments, by what the endpoints' supervisors use."""

    def __init__(self, supervisors: Mapping[str, Supervisor], builds: Builds) -> None:
        self._supervisors = supervisors
        self._builds = builds

    async def all(self) -> list[EnvironmentInfo]:
        """Return the environments that there are."""
        return await self._builds.environments()

    def in_use(self) -> dict[str, list[tuple[str, str]]]:
        """Return the owners and names of the endpoints that use each environment, by its id."""
        used: dict[str, list[tuple[str, str]]] = {}
        for each in self._supervisors.values():
            for environment in each.generations.environments():
                used.setdefault(environment, []).append(
                    (each.endpoint.record.owner, each.endpoint.record.name)
                )
        return used

    async def prune(self, owner: str) -> list[str]:
        """Remove the owner's environments that no endpoint uses, and return their ids."""
        return await self._builds.prune(self.in_use(), owner)

    async def prune_unused(self) -> None:
        """Remove the environments of all owners that no endpoint has used for long."""
        for name in await self._builds.prune(self.in_use()):
            log.info("the environment %s was not used for long, and is removed", name)
