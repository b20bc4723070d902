"""A process apart that does what it is asked to, its own end included."""

import os
import sys

from openlaunch.server.prediction.apart import serve


def _deep(levels: int) -> object:
    value: object = None
    for _ in range(levels):
        value = [value]
    return value


def _without_end(value: int) -> int:
    return _without_end(value + 1)


if __name__ == "__main__":
    serve(
        {
            "end": lambda number: os.kill(os.getpid(), number),
            "leave": sys.exit,
            "deep": _deep,
            "without_end": _without_end,
            "pid": os.getpid,
        }
    )
