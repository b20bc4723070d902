"""The life of a worker: connect, load the bundle, serve, end."""

import atexit
import gc
import json
import os
import shutil
import socket
import sys
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Final

from openlaunch_worker import process
from openlaunch_worker.documents import ADDRESS, IMAGE, TOKEN, Start
from openlaunch_worker.event_loop import LoadingLoop, NewLoop, loop_maker
from openlaunch_worker.failures import clean
from openlaunch_worker.frames import FrameError, Kind, encode
from openlaunch_worker.handshake import connect, receive_bundle, shake_hands
from openlaunch_worker.loader import Loaded, LoadError, load
from openlaunch_worker.memory import MEMORY
from openlaunch_worker.process import ServerWatch
from openlaunch_worker.serving import serve

SCRATCH: Final = "openlaunch-worker"
"""A worker's own files, in the folder that it was started in, which no two workers share."""


def main() -> int:
    """Run a worker as the environment says, and return the process's exit code."""
    address, token, image = (os.environ.pop(name, None) for name in (ADDRESS, TOKEN, IMAGE))
    new_loop = loop_maker()
    if not address or not token:
        process.log(f"{ADDRESS} and {TOKEN} have to be set: a worker is started by an engine, not by hand")
        return process.EXIT_USAGE
    del sys.argv[1:]  # a bundle that reads arguments would take the engine's for its own
    process.set_up_output()
    process.set_up_logging()
    return run(address, token, image, new_loop)


def run(address: str, token: str, image: str | None, new_loop: NewLoop) -> int:
    """Run a worker in this process or fork, and return its exit code. Raise `FileExistsError` if one runs here."""
    process.die_with_parent()
    scratch = Path.cwd() / SCRATCH
    scratch.mkdir(mode=0o700)
    atexit.register(shutil.rmtree, scratch, ignore_errors=True)
    try:
        sock = connect(address)
        start = shake_hands(sock, token)
    except (OSError, ValueError) as error:
        process.log(f"no connection to the server at {address}: {error}")
        return process.EXIT_SERVER_LOST
    process.calls = address, token
    process.let_go_in_forks(sock)
    process.set_up_path()
    watch = ServerWatch(sock, scratch)
    with closing(new_loop()) as loop:
        code = _load_and_serve(sock, start, image, scratch, watch, LoadingLoop(loop))
    watch.end()
    process.leave_within(process.EXIT_SECONDS, code, scratch)
    sock.close()
    return code


def _load_and_serve(
    sock: socket.socket, start: Start, image: str | None, scratch: Path, watch: ServerWatch, loop: LoadingLoop
) -> int:
    try:
        loaded = _load(sock, start, image, scratch, watch, loop)
    except LoadError as error:
        process.log(f"{error.reason}\n{error.traceback or ''}".rstrip())
        failure = {"reason": clean(error.reason), "traceback": error.traceback}
        with suppress(OSError):  # the log has it, too
            sock.sendall(encode(Kind.LOAD_FAILED, 0, json.dumps(failure).encode()))
        return process.EXIT_LOAD_FAILED
    except (OSError, FrameError) as error:
        process.log(f"the bundle did not arrive: {error}")
        return process.EXIT_SERVER_LOST
    lost = partial(process.leave, process.EXIT_SERVER_LOST, scratch)
    overtime = partial(process.leave, process.EXIT_UNFINISHED, scratch)
    predict, hooks = loaded
    ends = {"on_lost": lost, "on_overtime": overtime}
    loop.context.run(partial(serve, sock, predict, hooks, start.limits, loop.loop, loop.thread, **ends))
    return 0


def _load(
    sock: socket.socket, start: Start, image: str | None, scratch: Path, watch: ServerWatch, loop: LoadingLoop
) -> Loaded:
    path = scratch / "artifact"
    with path.open("x+b") as file:
        path.unlink()  # it takes no room once it has been loaded
        receive_bundle(sock, file)
        watch.start()
        folder = scratch / "bundle"
        folder.mkdir()
        loaded = load(start, file, folder, image, loop)
    # The model is never freed: collections need not look at it again, which with large ones costs milliseconds.
    gc.collect()
    gc.freeze()
    MEMORY.set_up()
    return loaded
