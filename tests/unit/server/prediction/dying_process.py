"""A process apart that does what it is asked to, its own end included."""

import os
import sys
import time

from openlaunch.server.prediction import compute_process
from openlaunch.server.prediction.compute_process import serve


def _deep(levels: int) -> object:
    value: object = None
    for _ in range(levels):
        value = [value]
    return value


def _without_end(value: int) -> int:
    return _without_end(value + 1)


if __name__ == "__main__":
    compute_process.CALL_SECONDS = 1
    serve(
        {
            "sleep": time.sleep,
            "allocate": lambda size: len(bytearray(size)),
            "end": lambda number: os.kill(os.getpid(), number),
            "leave": sys.exit,
            "deep": _deep,
            "without_end": _without_end,
            "pid": os.getpid,
            "bytes": bytes,
            "bytes_in_a_tuple": lambda size: (1, bytes(size)),
        }
    )
