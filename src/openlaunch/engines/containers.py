"""The container engine of this machine: podman or docker. Images are fetched, containers looked at and removed."""

import asyncio
import json
import os
import shlex
import shutil
from collections import deque
from collections.abc import Mapping
from pathlib import Path

from openlaunch.engines.base import ContainerError
from openlaunch.engines.commands import Finished, Log, quiet, run_command, run_starter
from openlaunch.engines.documents import ContainerState
from openlaunch.engines.environ import scrub
from openlaunch_worker.containers import Container, EngineCommand, environ_for

ENGINES = ("podman", "docker")
COMMAND_SECONDS = 60.0
MAX_REASON = 1000
MAX_LOG = "10m"
SERVER_LABEL = "openlaunch.server"
KIND_LABEL = "openlaunch.kind"

_VARIABLES = ("XDG_", "DOCKER_", "CONTAINER", "REGISTRY_AUTH_FILE", "DBUS_SESSION_BUS_ADDRESS")


class ContainerEngine:
    """Calls the engine's command.

    `command` is a program with its global options, such as `podman --runtime runc`; empty: podman, else docker,
    whichever is there. `run_options` are added to each `run`. `server` names this server on its containers.
    `folder` is where it is called: conmon, which podman uses, leaves files there.
    """

    def __init__(
        self,
        command: str = "",
        run_options: str = "",
        *,
        server: str,
        folder: Path,
        pull_seconds: float = 1800.0,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._command = shlex.split(command)
        self._run_options = tuple(shlex.split(run_options))
        self._server = server
        self._folder = folder
        self._pull_seconds = pull_seconds
        self.environ = scrub(os.environ if environ is None else environ, _VARIABLES)
        self._fetching: dict[str, asyncio.Lock] = {}

    def command(self) -> EngineCommand:
        """Return how the engine is called. Raise `ContainerError` if there is none on this machine."""
        path = self.environ.get("PATH")
        wanted = self._command or [name for name in ENGINES if shutil.which(name, path=path)][:1]
        if not wanted:
            raise ContainerError(
                "container images need podman or docker on this machine, and neither was found in PATH: install "
                "one (Debian: apt install podman), or name its command in OPENLAUNCH_CONTAINER_ENGINE"
            )
        if shutil.which(wanted[0], path=path) is None:
            raise ContainerError(
                f"the container engine {wanted[0]!r} was not found; OPENLAUNCH_CONTAINER_ENGINE has to name a "
                "program, such as podman or docker, with its global options"
            )
        return EngineCommand(tuple(wanted), self._run_options)

    def labels(self, kind: str) -> dict[str, str]:
        return {SERVER_LABEL: self._server, KIND_LABEL: kind}

    async def ensure_image(self, image: str, log: Log = quiet) -> None:
        lock = self._fetching.setdefault(image, asyncio.Lock())
        try:
            async with lock:
                if (await self._run("image", "inspect", "--format", "{{.Id}}", image)).code == 0:
                    return
                log(f"fetching the image {image}")
                pulled = await self._run("pull", image, log=log, seconds=self._pull_seconds)
                if pulled.code != 0:
                    raise ContainerError(f"the image {image!r} can't be fetched: {last_line(pulled)}")
        finally:
            if not lock.locked():
                self._fetching.pop(image, None)

    async def start(self, container: Container) -> None:
        """Run a container in the background. Nothing of one that could not be started is left."""
        engine = self.command()
        driver = "json-file" if engine.is_docker else "k8s-file"
        log = ("--log-driver", driver, "--log-opt", f"max-size={MAX_LOG}")
        command = engine.run(container, "--detach", *log)
        environ = environ_for(container, self.environ)
        try:
            started = await run_starter(command, env=environ, timeout=COMMAND_SECONDS, cwd=self._folder)
        except (OSError, TimeoutError) as error:
            await self.remove(container.name)
            raise ContainerError(
                f"the container could not be started: {error or 'it took too long'}"
            ) from error
        if started.code != 0:
            await self.remove(container.name)
            raise ContainerError(f"the container could not be started: {last_line(started)}")

    async def state(self, name: str) -> ContainerState | None:
        ended = await self._run("container", "inspect", "--format", "{{json .State}}", name)
        if ended.code != 0:
            if "no such" in " ".join(ended.lines).lower():
                return None
            raise ContainerError(f"the container {name} can't be looked at: {last_line(ended)}")
        state = json.loads(ended.lines[-1])
        started = state["Status"] not in ("created", "configured", "initialized")
        running = started and state["Status"] not in ("exited", "dead", "stopped")
        return ContainerState(started, running, int(state["ExitCode"]), bool(state["OOMKilled"]))

    async def wait(self, name: str) -> None:
        await self._run("wait", name, seconds=None)

    async def logs(self, name: str, lines: int) -> list[str]:
        kept: deque[str] = deque(maxlen=lines)
        ended = await self._run("logs", "--tail", str(lines), name, log=kept.append)
        return list(kept) if ended.code == 0 else []

    async def stop(self, name: str, grace: int) -> None:
        await self._run("stop", "--time", str(grace), name, seconds=COMMAND_SECONDS + grace)

    async def remove(self, *names: str) -> None:
        await self._run("kill", *names)  # podman's rm would wait for 10 s after a SIGTERM
        await self._run("rm", "--force", "--volumes", *names)

    async def names(self, kind: str) -> list[str]:
        filters = [f"--filter=label={key}={value}" for key, value in self.labels(kind).items()]
        listed = await self._run("ps", "--all", "--format", "{{.Names}}", *filters)
        return [line.strip() for line in listed.lines if line.strip()] if listed.code == 0 else []

    async def _run(
        self, *arguments: str, log: Log = quiet, seconds: float | None = COMMAND_SECONDS
    ) -> Finished:
        command = [*self.command().program, *arguments]
        try:
            return await run_command(command, env=self.environ, timeout=seconds, log=log, cwd=self._folder)
        except TimeoutError:
            raise ContainerError(f"{command[0]} did not answer within {seconds:g} s") from None
        except OSError as error:
            raise ContainerError(f"{command[0]} could not be started: {error}") from error


def last_line(ended: Finished) -> str:
    """Return the last thing that an engine said, which is its error."""
    said = [line.strip() for line in ended.lines if line.strip()]
    return said[-1][:MAX_REASON] if said else f"it ended with code {ended.code} and said nothing"
