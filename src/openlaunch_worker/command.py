"""Serves a bundle that is a command: starts it, waits until it answers, and ends it with the worker.

The command is an HTTP/1.1 server on `$PORT`.
"""

import os
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from openlaunch_worker.documents import Limits
from openlaunch_worker.forwarder import Forwarder
from openlaunch_worker.hooks import Hooks
from openlaunch_worker.leash import EXIT_NOT_FOUND
from openlaunch_worker.module_command import own_command
from openlaunch_worker.server_process import ASKED, ServerProcess, free_port, health_of
from openlaunch_worker.sleeping import Sleeping

STOP_SECONDS: Final = 2.0


def start_command(
    flavor: dict[str, Any], folder: Path, streaming: bool, limits: Limits
) -> tuple[Callable[..., Any], Hooks]:
    """Start the command, wait until its health route answers, and give what predicts, and what asks that route.

    `folder` lies in the worker's scratch folder, which goes when the command's end ends the worker. Raise
    `NotReady` if it is not there, has ended, or did not answer in time.
    """
    port = free_port()
    cache = os.environ.get("OPENLAUNCH_CACHE", "")
    command = [
        str(part).replace("$PORT", str(port)).replace("$OPENLAUNCH_CACHE", cache)
        for part in flavor["command"]
    ]
    process = subprocess.Popen(
        [*own_command("openlaunch_worker.leash"), *command],
        cwd=folder,
        env=_environ(flavor.get("env") or {}, port),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    server = ServerProcess("the command", process, folder.parent, partial(_end, process), EXIT_NOT_FOUND)
    route = str(flavor["healthcheck_route"])
    server.wait(port, route, flavor["readiness_initial_delay_seconds"])
    server.watch()
    predict = Forwarder("the command", port, limits.max_result_bytes).predict(flavor, streaming)
    health = health_of(port, route, limits.health_timeout * ASKED)
    return predict, Hooks(health, sleep=Sleeping.of(port, flavor))


def _environ(own: dict[str, str], port: int) -> dict[str, str]:
    return {**os.environ, **own, "PORT": str(port)}


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
