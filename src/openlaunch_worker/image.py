"""Serves a bundle that is a container image: runs it, waits until it answers, and removes it with the worker."""

import json
import os
import re
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from openlaunch_worker.containers import Container, EngineCommand, GuardOrder, ImageOrder, environ_for
from openlaunch_worker.documents import GPU_SHARE, Limits
from openlaunch_worker.forwarder import Forwarder
from openlaunch_worker.hooks import Hooks
from openlaunch_worker.module_command import own_command
from openlaunch_worker.server_process import ASKED, NotReady, ServerProcess, free_port, health_of

PORT: Final = 5005
"""Where the image's server listens, unless its `env` has another PORT."""
STOP_SECONDS: Final = 2
LEAVE_SECONDS: Final = 4.0
"""How long the worker waits at its end for the container's; the guard removes it in any case."""
TRITON_PORT: Final = 8000
_TRITON_READY: Final = "/v2/health/ready"
_MODELS: Final = "/models"
CACHE: Final = "/openlaunch/cache"
"""Where a container sees its owner's cache, read-only."""


def start_image(
    flavor: dict[str, Any], order: ImageOrder, folder: Path, streaming: bool, limits: Limits
) -> tuple[Callable[..., Any], Hooks]:
    """Run the image, wait until its health route answers, and give what predicts, and what asks that route.

    `folder` is empty, and lies in the worker's scratch folder. Raise `NotReady` if a container could not be
    started, has ended, or did not answer in time.
    """
    env = dict(flavor.get("env") or {})
    if share := os.environ.get(GPU_SHARE):
        env.setdefault(GPU_SHARE, share)
    if order.cache:
        env |= _in_cache(order.cache)
    port = (free_port(), int(env.setdefault("PORT", str(PORT))))
    shared: dict[str, Any] = {"env": env, "labels": order.labels, "gpus": order.gpus}
    network: str | None = None
    publish: tuple[tuple[int, int], ...] = (port,)
    servers = []
    if (triton := order.triton) is not None:
        # Triton's comes first, so that the other one finds it ready on its own localhost.
        network, publish = f"{order.name}.triton", ()
        triton_port = (free_port(), TRITON_PORT)
        spec = Container(
            network,
            triton.image,
            ("tritonserver", f"--model-repository={_place(triton.repository)}"),
            cpus=triton.cpus,
            memory=triton.memory,
            publish=(port, triton_port),
            mounts=_mounts(triton.repository, flavor.get("triton_model_replicas") or {}, folder),
            **shared,
        )
        server = _run("the tritonserver container", order.engine, spec, folder.parent)
        server.wait(triton_port[0], _TRITON_READY, flavor["triton_readiness_initial_delay_seconds"])
        servers.append(server)
    spec = Container(
        order.name,
        order.image,
        tuple(flavor["streaming_command"] if streaming else flavor["command"]),
        cpus=order.cpus,
        memory=order.memory,
        publish=publish,
        network=network,
        mounts=((order.cache, CACHE),) if order.cache else (),
        **shared,
    )
    server = _run("the container", order.engine, spec, folder.parent)
    route = str(flavor["healthcheck_route"])
    server.wait(port[0], route, flavor["readiness_initial_delay_seconds"])
    for each in (*servers, server):
        each.watch()
    predict = Forwarder("the container", port[0], limits.max_result_bytes).predict(flavor, streaming)
    return predict, Hooks(health_of(port[0], route, limits.health_timeout * ASKED))


def _in_cache(cache: str) -> dict[str, str]:
    """Return the variables that name folders of the owner's cache, as they are inside a container."""
    return {
        name: CACHE + value.removeprefix(cache)
        for name, value in os.environ.items()
        if value == cache or value.startswith(f"{cache}/")
    }


def _run(name: str, engine: EngineCommand, container: Container, scratch: Path) -> ServerProcess:
    """Run a container, with a guard that removes it when the worker is gone."""
    guard = subprocess.Popen(
        own_command("openlaunch_worker.container_guard"),
        env=environ_for(container),
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    orders = guard.stdin
    assert orders is not None

    def end() -> None:
        with suppress(OSError):
            orders.close()
        guard.wait(LEAVE_SECONDS)

    server = ServerProcess(name, guard, scratch, end)
    run = engine.run(container, "--rm", "--log-driver", "none")
    order = GuardOrder(engine.program, tuple(run), container.name, STOP_SECONDS)
    orders.write(json.dumps(order.to_json()).encode() + b"\n")
    orders.flush()
    return server


def _place(repository: str) -> str:
    """Return where Triton finds the repository: a folder of this machine is mounted."""
    return repository if "://" in repository else _MODELS


def _mounts(repository: str, replicas: dict[str, str], folder: Path) -> tuple[tuple[str, str], ...]:
    """Return the model repository's mount, and over it the configurations of models with a number of replicas."""
    mounts = [] if "://" in repository else [(repository, _MODELS)]
    for model, count in replicas.items():
        own = Path(repository) / model / "config.pbtxt"
        if not re.fullmatch(r"[\w-][\w.-]*", model) or not re.fullmatch(r"[1-9]\d{0,3}", str(count)):
            raise NotReady(
                f"triton_model_replicas has {model!r}: {count!r}, a model's name and a number of 1 or more are needed"
            )
        if not own.is_file():
            raise NotReady(
                f"triton_model_replicas names {model!r}, which has no config.pbtxt in a model repository that is a "
                "folder of the server's: set its instance_group in the repository instead"
            )
        config = own.read_text()
        if "instance_group" in config:
            raise NotReady(
                f"triton_model_replicas names {model!r}, whose config.pbtxt has an instance_group already: "
                "leave one of them out"
            )
        changed = folder / f"{model}.pbtxt"
        changed.write_text(f"{config}\ninstance_group [ {{ count: {count} }} ]\n")
        mounts.append((str(changed), f"{_MODELS}/{model}/config.pbtxt"))
    return tuple(mounts)
