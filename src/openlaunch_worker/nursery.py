"""The parent of an environment's workers, which has imported what they need.

A fork of it is a worker within a millisecond, and shares its memory. Orders come in on standard input, reports go
out on standard output, a JSON document a line::

    in   `openlaunch_worker.documents.ForkOrder`   fork a worker
    out  {"id", "pid"} or {"id", "error"}          the worker runs, or why it does not
    out  {"id", "code"}                            how it ended: an exit code, or minus the signal's number

The end of the input ends this process. It never has a thread, because a fork has only the thread that forked.
"""

import asyncio.subprocess
import ctypes
import gc
import json
import os
import select
import signal
from typing import Any, Final

import cloudpickle

from openlaunch_worker import main as worker
from openlaunch_worker.documents import ForkOrder
from openlaunch_worker.event_loop import loop_maker
from openlaunch_worker.isolation import NotIsolated, isolate
from openlaunch_worker.process import EXIT_USAGE, die_with_parent, log, open_log

IMPORTED: Final = (asyncio.subprocess, ctypes, cloudpickle)
"""Workers need these sooner or later; imported here, they are so already."""


class Nursery:
    """Takes orders and reports, until the input ends or this is a fork."""

    def __init__(self) -> None:
        self._ids: dict[int, str] = {}
        self._wake, self._woken = os.pipe()
        for fd in (self._wake, self._woken):
            os.set_blocking(fd, False)

    def serve(self) -> int:
        """Serve, and return the exit code: this process's own, or in a fork its worker's."""
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._woken)
        poll = select.poll()
        poll.register(0, select.POLLIN | select.POLLHUP)
        poll.register(self._wake, select.POLLIN)
        rest = b""
        while True:
            ready = {fd for fd, _ in poll.poll()}
            if self._wake in ready:
                os.read(self._wake, 4096)
                self._reap()
            if 0 in ready:
                data = os.read(0, 65536)
                if not data:
                    return 0
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    order = ForkOrder.from_json(json.loads(line))
                    if self._fork(order):
                        return self._be_a_worker(order)

    def _fork(self, order: ForkOrder) -> bool:
        """Fork, and return whether this is the fork."""
        try:
            self._log = open_log(order.log)
            pid = os.fork()
        except OSError as error:
            _report({"id": order.id, "error": str(error)})
            return False
        if pid == 0:
            return True
        os.close(self._log)
        self._ids[pid] = order.id
        _report({"id": order.id, "pid": pid})
        return False

    def _be_a_worker(self, order: ForkOrder) -> int:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.close(self._wake)
        os.close(self._woken)
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((nothing, 0), (self._log, 1), (self._log, 2)):
            os.dup2(source, target)
        os.close(nothing)
        os.close(self._log)
        os.environ.clear()
        os.environ.update(order.env)
        if not _settle(order):
            return EXIT_USAGE
        return worker.main()

    def _reap(self) -> None:
        while self._ids:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            _report({"id": self._ids.pop(pid), "code": os.waitstatus_to_exitcode(status)})


def _settle(order: ForkOrder) -> bool:
    """Go into the worker's folder, isolated where that is asked for; False: that is required, and can't be done."""
    if order.isolation is None:
        os.chdir(order.folder)
        return True
    try:
        missing = isolate(order.isolation, order.folder)
    except NotIsolated as error:
        log(
            f"isolation is required, and {error}: allow it, or start the server with OPENLAUNCH_ISOLATION=auto"
        )
        return False
    if missing:
        log(f"not isolated as it could be: {'; '.join(missing)}")
    return True


def _report(document: dict[str, Any]) -> None:
    os.write(1, json.dumps(document).encode() + b"\n")


def main() -> int:
    """Serve, and return the exit code of this process or of the worker that it has become."""
    die_with_parent()
    loop_maker()  # workers find it imported
    # What is here stays for good, and stays shared: collections in the forks need not look at it.
    gc.collect()
    gc.freeze()
    return Nursery().serve()
