"""A process that runs a container, and removes it when its worker is gone.

A process in a session of its own, because a container does not end with the process that started it. The first
line of its input is a `GuardOrder` as JSON. The input's end is the worker's: then the container is stopped. This
process ends when the container has, with its exit code, and has then removed it.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from typing import Final

from openlaunch_worker.containers import GuardOrder

CALL_SECONDS: Final = 60.0
START_SECONDS: Final = 5.0
"""How long the engine may take to release a container that was stopped, or was just being started."""


def main() -> int:
    """Run the container to its end, or to the worker's."""
    order = GuardOrder.from_json(json.loads(sys.stdin.buffer.readline()))
    process = subprocess.Popen(order.run, stdin=subprocess.DEVNULL)
    os.chdir("/")  # the worker's folder goes with it
    stop = threading.Thread(target=_stop_at_end, args=(order, process), daemon=True)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os.close(sys.stdin.fileno()))
    stop.start()
    code = process.wait()
    _call(order, "kill", order.name)
    _call(order, "rm", "--force", "--volumes", order.name)
    return code if code >= 0 else 128 - code


def _stop_at_end(order: GuardOrder, process: "subprocess.Popen[bytes]") -> None:
    with suppress(OSError):
        while os.read(sys.stdin.fileno(), 4096):
            pass
    _call(order, "stop", "--time", str(order.grace), order.name)
    try:
        process.wait(START_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()


def _call(order: GuardOrder, *arguments: str) -> None:
    """Have the engine do this. It may have nothing to do, which it says, and nobody wants to know."""
    with suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(
            [*order.program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=CALL_SECONDS,
            check=False,
        )
