"""What a worker needs to run a bundle that is a container image: the image fetched, and how it is to be run."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from openlaunch.engines.base import ContainerError, Resources
from openlaunch.engines.commands import Log
from openlaunch.engines.containers import ContainerEngine
from openlaunch.wire.bundles import full_image_name
from openlaunch.wire.quantities import parse_quantity
from openlaunch_worker.containers import ImageOrder, TritonOrder

WORKER_KIND = "worker"
TRITON = "triton_enhanced_runnable_image"


def is_image(flavor: Mapping[str, Any]) -> bool:
    """Whether a bundle's flavour is one of the three of container images."""
    return "repository" in flavor


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

    async def prepare(self, flavor: Mapping[str, Any], resources: Resources, log: Log) -> None:
        """Fetch the bundle's images. Raise `ContainerError` if the engine, an image or a repository is missing."""
        if not self._swept:
            # Those of a server that was killed together with all that guards its containers.
            if left := await self._engine.names(WORKER_KIND):
                await self._engine.remove(*left)
            self._swept = True
        if flavor["flavor"] == TRITON:
            self._triton(flavor, resources)
            await self._engine.ensure_image(self._triton_name(flavor), log)
        await self._engine.ensure_image(_name(flavor), log)

    def order(
        self, worker_id: str, flavor: Mapping[str, Any], resources: Resources, gpus: tuple[int, ...]
    ) -> ImageOrder:
        """Say how the worker runs the image. Raise `ContainerError` if the engine is missing."""
        order = ImageOrder(
            self._engine.command(),
            f"openlaunch-{worker_id}",
            _name(flavor),
            self._engine.labels(WORKER_KIND),
            resources.cpus,
            resources.memory,
            gpus,
        )
        if flavor["flavor"] != TRITON:
            return order
        triton = self._triton(flavor, resources)
        cpus, memory = resources.cpus - triton.cpus, resources.memory - (triton.memory or 0)
        return replace(order, cpus=cpus, memory=memory, triton=triton)

    def _triton(self, flavor: Mapping[str, Any], resources: Resources) -> TritonOrder:
        cpus, memory = float(flavor["triton_num_cpu"]), flavor.get("triton_memory")
        try:
            size = None if memory is None else int(parse_quantity(memory))
        except ValueError as error:
            raise ContainerError(f"triton_memory: {error}") from None
        if cpus >= resources.cpus or (size or 0) >= resources.memory:
            raise ContainerError(
                f"Triton's part of a worker is {cpus:g} cpus and {memory or 'any'} memory, and the worker has "
                f"{resources.cpus:g} cpus and {resources.memory} bytes for both containers: give the endpoint more"
            )
        repository = self._repository(flavor["triton_model_repository"])
        return TritonOrder(self._triton_name(flavor), cpus, size, repository)

    def _triton_name(self, flavor: Mapping[str, Any]) -> str:
        return full_image_name(self._triton_image, flavor["triton_commit_tag"])

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


def _name(flavor: Mapping[str, Any]) -> str:
    return full_image_name(flavor["repository"], flavor["tag"])
