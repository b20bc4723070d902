"""What a worker needs to run a bundle that is a container image: the image fetched, and how it is to be run."""

from dataclasses import replace
from pathlib import Path

from openlaunch.engines.base import ContainerError
from openlaunch.engines.commands import Log
from openlaunch.engines.containers import ContainerEngine
from openlaunch.engines.documents import Resources
from openlaunch.wire.bundles import ImageFlavor, TritonEnhancedRunnableImageFlavor, full_image_name
from openlaunch.wire.quantities import parse_size
from openlaunch_worker.containers import ImageOrder, TritonOrder

WORKER_KIND = "worker"


class Images:
    """Prepares the images of bundles.

    `triton_image` is Triton's repository; the model repositories of this machine that bundles may name lie below
    `models`, None where they may name none.
    """

    def __init__(self, engine: ContainerEngine, triton_image: str, models: Path | None) -> None:
        self._engine = engine
        self._triton_image = triton_image
        self._models = models
        self._swept = False

    async def prepare(self, flavor: ImageFlavor, resources: Resources, log: Log) -> None:
        """Fetch the bundle's images. Raise `ContainerError` if the engine, an image or a repository is missing."""
        if not self._swept:
            # Those of a server that was killed together with all that guards its containers.
            if left := await self._engine.names(WORKER_KIND):
                await self._engine.remove(*left)
            self._swept = True
        if isinstance(flavor, TritonEnhancedRunnableImageFlavor):
            self._triton(flavor, resources)
            await self._engine.ensure_image(self._triton_name(flavor), log)
        await self._engine.ensure_image(flavor.image, log)

    def order(
        self, worker_id: str, flavor: ImageFlavor, resources: Resources, gpus: tuple[int, ...]
    ) -> ImageOrder:
        """Say how the worker runs the image. Raise `ContainerError` if the engine is missing."""
        order = ImageOrder(
            self._engine.command(),
            f"openlaunch-{worker_id}",
            flavor.image,
            self._engine.labels(WORKER_KIND),
            resources.cpus,
            resources.memory,
            gpus,
        )
        if not isinstance(flavor, TritonEnhancedRunnableImageFlavor):
            return order
        triton = self._triton(flavor, resources)
        cpus, memory = resources.cpus - triton.cpus, resources.memory - (triton.memory or 0)
        return replace(order, cpus=cpus, memory=memory, triton=triton)

    def _triton(self, flavor: TritonEnhancedRunnableImageFlavor, resources: Resources) -> TritonOrder:
        cpus, memory = flavor.triton_num_cpu, flavor.triton_memory
        size = None if memory is None else parse_size(memory)
        if cpus >= resources.cpus or (size or 0) >= resources.memory:
            raise ContainerError(
                f"Triton's part of a worker is {cpus:g} cpus and {memory or 'any'} memory, and the worker has "
                f"{resources.cpus:g} cpus and {resources.memory} bytes for both containers: give the endpoint more"
            )
        repository = self._repository(flavor.triton_model_repository)
        return TritonOrder(self._triton_name(flavor), cpus, size, repository)

    def _triton_name(self, flavor: TritonEnhancedRunnableImageFlavor) -> str:
        return full_image_name(self._triton_image, flavor.triton_commit_tag)

    def _repository(self, given: str) -> str:
        if "://" in given:
            return given
        if self._models is None:
            raise ContainerError(
                f"triton_model_repository is {given!r}, a folder, and this server lends none: set "
                "OPENLAUNCH_MODEL_REPOSITORIES to the folder that they lie in, or name a URL such as s3://…"
            )
        root = self._models.resolve()
        folder = (root / given).resolve()
        if not folder.is_relative_to(root) or not folder.is_dir():
            raise ContainerError(
                f"triton_model_repository is {given!r}, which is not a folder below the server's model repositories"
            )
        return str(folder)
