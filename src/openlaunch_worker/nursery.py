"""The parent of an environment's workers, which has imported what they need.

A fork of it is a worker within a millisecond, and shares its memory. Orders and reports go over a channel, a JSON
document a message::

    in   `documents.ForkOrder`, and its log's descriptor   fork a worker
         `documents.SignalOrder`                            send a worker a signal
    out  {"id"} or {"id", "error"}                          the worker runs, or why it does not
         {"id", "code"}                                     how it ended: an exit code, or minus the signal's number

The end of the channel ends this process. It never has a thread, because a fork has only the thread that forked.
"""

import asyncio.subprocess
import gc
import json
import os
import select
import signal
import socket
import sys
from dataclasses import dataclass
from typing import Any, Final

import cloudpickle

from openlaunch_worker import kernel
from openlaunch_worker import main as worker
from openlaunch_worker.documents import ForkOrder, SignalOrder
from openlaunch_worker.event_loop import loop_maker
from openlaunch_worker.isolation import Init, become_worker, fork_init
from openlaunch_worker.process import die_with_parent

MAX_MESSAGE: Final = 1 << 20
IMPORTED: Final = (asyncio.subprocess, cloudpickle)
"""Workers need these sooner or later; imported here, they are so already."""

_IDENTITY: Final = ("USER", "LOGNAME")


@dataclass(frozen=True, slots=True)
class _Child:
    """A worker's init, and the descriptor that tells how the worker ended."""

    id: str
    init: Init
    status: int


class Nursery:
    """Takes orders and reports, until the channel ends or this is a fork."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._children: dict[int, _Child] = {}
        self._pids = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        self._wake, self._woken = os.pipe()
        for fd in (self._wake, self._woken):
            os.set_blocking(fd, False)

    def serve(self) -> int:
        """Serve, and return the exit code: this process's own, or in a fork its worker's."""
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._woken)
        poll = select.poll()
        poll.register(self._channel, select.POLLIN | select.POLLHUP)
        poll.register(self._wake, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poll.poll()}
            if self._wake in ready:
                os.read(self._wake, 4096)
                self._reap()
            if self._channel.fileno() in ready:
                message, logs, _, _ = socket.recv_fds(self._channel, MAX_MESSAGE, 1)
                if not message:
                    return 0
                if self._obey(json.loads(message), logs):
                    return worker.main()

    def _obey(self, order: dict[str, Any], logs: list[int]) -> bool:
        """Do what an order says, and return whether this is a worker now."""
        if "signal" in order:
            self._signal(SignalOrder.from_json(order))
            return False
        if self._fork(ForkOrder.from_json(order), logs[0]):
            return True
        os.close(logs[0])
        return False

    def _fork(self, order: ForkOrder, log: int) -> bool:
        """Fork, and return whether this is the worker."""
        ends: tuple[int, ...] = ()
        try:
            ends = status, into = os.pipe()
            init = fork_init(self._pids if order.isolation is not None else None)
        except OSError as error:
            for end in ends:
                os.close(end)
            self._report({"id": order.id, "error": str(error)})
            return False
        if init.pid == 0:
            self._be_a_worker(order, init, log, into)
            return True
        os.close(into)
        os.set_blocking(status, False)
        self._children[init.pid] = _Child(order.id, init, status)
        self._report({"id": order.id})
        return False

    def _be_a_worker(self, order: ForkOrder, init: Init, log: int, status: int) -> None:
        """Become the worker's init, and return in the worker."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._channel.detach()
        nothing = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        kernel.close_descriptors(3, status - 1)
        kernel.close_descriptors(status + 1)
        become_worker(init, order.isolation, order.folder, status)
        os.close(status)
        identity = {name: os.environ[name] for name in _IDENTITY if name in os.environ}
        os.environ.clear()
        os.environ.update(order.env | identity)

    def _signal(self, order: SignalOrder) -> None:
        for child in self._children.values():
            if child.id == order.id:
                child.init.signal(order.signal)

    def _reap(self) -> None:
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            if (child := self._children.pop(pid, None)) is not None:
                written = os.read(child.status, 16) if os.WIFEXITED(status) else b""
                os.close(child.status)
                self._report({"id": child.id, "code": int(written or os.waitstatus_to_exitcode(status))})

    def _report(self, document: dict[str, Any]) -> None:
        self._channel.send(json.dumps(document).encode())


def main() -> int:
    """Serve, and return the exit code of this process or of the worker that it has become."""
    die_with_parent()
    channel = socket.socket(fileno=int(sys.argv[-1]))
    os.set_inheritable(channel.fileno(), False)
    loop_maker()  # workers find it imported
    # What is here stays for good, and stays shared: collections in the forks need not look at it.
    gc.collect()
    gc.freeze()
    return Nursery(channel).serve()
