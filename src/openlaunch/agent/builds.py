"""What servers have built on this node."""

import asyncio
import logging
from collections.abc import Collection

from openlaunch.agent.server_link import ServerLink
from openlaunch.background import BackgroundTasks
from openlaunch.engines.base import Builds, EngineError
from openlaunch.engines.documents import BuildOrder
from openlaunch.nodes.calls import BUILD, BuildNews

log = logging.getLogger(__name__)


class AgentBuilds:
    """Builds for servers: each hears of its own builds. What a lost one asked for, the next one finds done."""

    def __init__(
        self,
        builds: Builds,
        links: Collection[ServerLink],
        keep_seconds: float,
        background: BackgroundTasks,
    ) -> None:
        self._builds = builds
        self._links = links
        self._keep_seconds = keep_seconds
        self._background = background
        self._asked: dict[str, ServerLink] = {}
        """Which server hears of each build."""

    async def prepare(self, link: ServerLink, build: BuildOrder) -> str:
        self._asked[build.id] = link
        building = asyncio.create_task(self._builds.prepare(build))
        try:
            return await asyncio.shield(building)
        except asyncio.CancelledError:
            if link in self._links:
                building.cancel()
            else:
                self._background.spawn(self._build_on(building))
            raise
        finally:
            if self._asked.get(build.id) is link:
                del self._asked[build.id]

    async def _build_on(self, building: "asyncio.Task[str]") -> None:
        try:
            async with asyncio.timeout(self._keep_seconds):
                await building
        except (TimeoutError, EngineError, OSError) as error:
            log.warning("what was built for a server that is gone is not done: %s", error)

    def tell(self, news: BuildNews) -> None:
        """Pass on what a build says."""
        if (link := self._asked.get(news.build_id)) is not None:
            link.tell(BUILD, news)
