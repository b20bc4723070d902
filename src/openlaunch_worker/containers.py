"""The command line that runs a container, in podman's and docker's words."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from openlaunch_worker.documents import Document

_ENGINES_OWN: Final = ("PATH", "HOME", "USER", "LANG", "TMPDIR", "PWD", "SHELL", "TERM")
_ENGINES_OWN_PREFIXES: Final = (
    *("LD_", "LC_", "XDG_", "DOCKER_", "CONTAINER", "PODMAN_", "BUILDAH_", "REGISTRY_", "STORAGE_"),
    *("GO", "SSL_", "DBUS_", "HTTP", "NO_PROXY", "ALL_PROXY", "OPENLAUNCH_", "PYTHON", "NETAVARK_", "_"),
)


@dataclass(frozen=True, slots=True)
class Container:
    """A container to run. `memory` is in bytes, `gpus` are indices; `publish` are ports here and those inside.

    An empty `command` means the image's own; else it replaces the image's entry point, as in Kubernetes.
    `mounts` are folders and files here and where they are, read-only, inside. `network` is the name of a container
    whose network it shares.
    """

    name: str
    image: str
    command: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    cpus: float | None = None
    memory: int | None = None
    gpus: tuple[int, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    publish: tuple[tuple[int, int], ...] = ()
    mounts: tuple[tuple[str, str], ...] = ()
    network: str | None = None


@dataclass(frozen=True, slots=True)
class EngineCommand(Document):
    """How the container engine is called: the program with its global options, and options of each `run`."""

    program: tuple[str, ...]
    run_options: tuple[str, ...] = ()

    @property
    def is_docker(self) -> bool:
        """Whether it is docker, whose options differ from podman's."""
        return os.path.basename(self.program[0]) == "docker"  # noqa: PTH119 -- perhaps without a folder

    def run(self, container: Container, *flags: str) -> list[str]:
        """Return the command line that runs a container whose image is here; `environ_for` gives its environment."""
        arguments = [*self.program, "run", "--pull", "never", "--name", container.name, *flags]
        arguments += self.run_options
        for name, value in container.labels.items():
            arguments += ["--label", f"{name}={value}"]
        for name, value in container.env.items():
            # By name alone the engine takes the value from its own environment: others can't read that.
            arguments += ["--env", name if is_by_name(name) else f"{name}={value}"]
        if container.cpus is not None:
            arguments += ["--cpus", f"{min(container.cpus, os.cpu_count() or 1):g}"]
        if container.memory is not None:
            arguments += ["--memory", str(container.memory)]
            if container.network is None:
                # Processes of a model server share tensors there; it counts as memory.
                arguments += ["--shm-size", str(container.memory)]
        arguments += self._gpu_options(container.gpus)
        for here, inside in container.publish:
            arguments += ["--publish", f"127.0.0.1:{here}:{inside}"]
        for source, target in container.mounts:
            arguments += ["--volume", f"{source}:{target}:ro"]
        if container.network is not None:
            arguments += ["--network", f"container:{container.network}"]
        if container.command:
            arguments += ["--entrypoint", container.command[0]]
        return [*arguments, container.image, *container.command[1:]]

    def _gpu_options(self, gpus: tuple[int, ...]) -> list[str]:
        if not gpus:
            return []
        if self.is_docker:
            return ["--gpus", '"device={}"'.format(",".join(map(str, gpus)))]
        return [option for gpu in gpus for option in ("--device", f"nvidia.com/gpu={gpu}")]


@dataclass(frozen=True, slots=True)
class TritonOrder(Document):
    """Triton's container: `memory` in bytes, None for no bound; `repository` is a folder here, or a URL."""

    image: str
    cpus: float
    memory: int | None
    repository: str


@dataclass(frozen=True, slots=True)
class ImageOrder(Document):
    """How a worker runs a bundle that is a container image. `memory` is in bytes, `gpus` are indices.

    `cache` is the owner's cache, where the container is to see that; empty: it does not.
    """

    engine: EngineCommand
    name: str
    image: str
    labels: dict[str, str]
    cpus: float
    memory: int
    gpus: tuple[int, ...] = ()
    triton: TritonOrder | None = None
    cache: str = ""


@dataclass(frozen=True, slots=True)
class GuardOrder(Document):
    """What a `container_guard` does: run the container `name` by the whole command line `run`.

    `program` is the engine with its global options. `grace` is the number of seconds between SIGTERM and SIGKILL.
    """

    program: tuple[str, ...]
    run: tuple[str, ...] = field(repr=False)
    name: str
    grace: int


def environ_for(container: Container, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment for `EngineCommand.run`'s command line: `environ`, and what the container is given."""
    given = {name: value for name, value in container.env.items() if is_by_name(name)}
    return {**environ, **given}


def is_by_name(name: str) -> bool:
    """Return whether a variable may be given to the engine by its name alone.

    Podman takes a name that ends with a star for all that its own environment has, and no name has an equals sign.
    """
    return not is_the_engines(name) and not name.endswith("*") and "=" not in name


def is_the_engines(name: str) -> bool:
    """Return whether a variable of this name would change the engine itself."""
    upper = name.upper()
    return upper in _ENGINES_OWN or upper.startswith(_ENGINES_OWN_PREFIXES)
