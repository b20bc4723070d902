"""What has to be there before workers of this machine can start: environments, images and what is prefetched."""

from collections.abc import Collection

from openlaunch.engines.base import EngineEvents
from openlaunch.engines.documents import BuildOrder, EnvironmentInfo
from openlaunch.engines.environments import Environments
from openlaunch.engines.images import Images
from openlaunch.engines.model_caches import ModelCaches
from openlaunch.engines.uv_progress import UvProgress
from openlaunch.wire.bundles import ImageFlavor


class LocalBuilds:
    """Implements `Builds`, and reports how a build gets on."""

    def __init__(self, environments: Environments, images: Images, caches: ModelCaches) -> None:
        self._environments = environments
        self._images = images
        self._caches = caches
        self.events: EngineEvents

    async def prepare(self, build: BuildOrder) -> str:
        def started() -> None:
            self.events.build_started(build.id)

        def does(step: str) -> None:
            self.events.build_does(build.id, step)

        progress = UvProgress()

        def said(line: str) -> None:
            self.events.build_said(build.id, line)
            if (step := progress.read(line)) is not None:
                does(step)

        flavor = build.flavor
        if isinstance(flavor, ImageFlavor):
            started()
            await self._images.prepare(flavor, build.resources, said)
            python = await self._environments.ensure([], None, said, started, build.owner)
        else:
            await self._environments.check_isolation()
            python = await self._environments.ensure(
                flavor.requirements, flavor.python_version, said, started, build.owner
            )
        await self._caches.prefetch(build.owner, build.prefetch, build.environ, said, does)
        return self._environments.id_of(python)

    async def environments(self) -> list[EnvironmentInfo]:
        return await self._environments.all()

    async def prune(self, used: Collection[str], owner: str | None = None) -> list[str]:
        return await self._environments.prune({self._environments.python(each) for each in used}, owner)
