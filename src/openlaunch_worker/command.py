"""Serves a bundle that is a command: starts it, waits until it answers, and ends it with the worker.

The command is an HTTP/1.1 server on `$PORT`.
"""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from openlaunch_worker.forwarder import Forwarder, NotReady, ended, free_port, wait_until_ready
from openlaunch_worker.leash import EXIT_NOT_FOUND
from openlaunch_worker.process import leave, log, on_leave

STOP_SECONDS: Final = 2.0


def start_command(
    flavor: dict[str, Any], folder: Path, streaming: bool, max_bytes: int
) -> Callable[..., Any]:
    """Start the command, wait until its health route answers, and give the function that predicts.

    `folder` lies in the worker's scratch folder, which goes when the command's end ends the worker. Raise
    `NotReady` if it is not there, has ended, or did not answer in time.
    """
    port = free_port()
    command = [str(part).replace("$PORT", str(port)) for part in flavor["command"]]
    process = subprocess.Popen(
        [sys.executable, "-I", "-m", "openlaunch_worker.leash", *command],
        cwd=folder,
        env=_environ(flavor.get("env") or {}, port),
        stdin=subprocess.DEVNULL,
    )
    stop = _Stopper(process, folder.parent)
    on_leave(stop.at_once)

    def check() -> None:
        if (code := process.poll()) is not None:
            why = ": a program was not found" if code == EXIT_NOT_FOUND else ""
            raise NotReady(f"the command {ended(code)} before it was ready{why}; the log has what it printed")

    wait_until_ready(port, str(flavor["healthcheck_route"]), flavor["readiness_initial_delay_seconds"], check)
    stop.watch()
    return Forwarder("the command", port, max_bytes).predict(flavor, streaming)


def _environ(own: dict[str, str], port: int) -> dict[str, str]:
    programs = os.path.dirname(sys.executable)  # noqa: PTH120 -- not resolved: the environment's own
    path = os.pathsep.join((programs, os.environ.get("PATH", os.defpath)))
    return {**os.environ, "PATH": path, "VIRTUAL_ENV": sys.prefix, **own, "PORT": str(port)}


class _Stopper:
    """Ends the command with the worker, and the worker with the command."""

    def __init__(self, process: "subprocess.Popen[bytes]", scratch: Path) -> None:
        self._process = process
        self._scratch = scratch
        self._stopping = False

    def watch(self) -> None:
        """End the worker when the command ends first, because it can't serve without it."""
        threading.Thread(target=self._watch, name="command-watch", daemon=True).start()

    def _watch(self) -> None:
        code = self._process.wait()
        if not self._stopping:
            log(f"the command {ended(code)}")
            leave(code if code > 0 else 128 - code if code < 0 else 1, self._scratch)

    def at_once(self) -> None:
        self._stopping = True
        with suppress(OSError):
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
