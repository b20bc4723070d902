"""The parent of an environment's workers, which has imported what they need.

A fork of it is a worker within a millisecond, and shares its memory. Orders and reports go over a channel, a JSON
document a message::

    in   `documents.ForkOrder`, and its log's descriptor   fork a worker, or without a log a spare
         `documents.UseOrder`, and its log's descriptor    have a spare become a worker
         `documents.SignalOrder`                            send a worker a signal
    out  {"id"} or {"id", "error"}                          the worker runs, or why it does not
         {"id", "code"}                                     how it ended: an exit code, or minus the signal's number

A spare is a fork that has isolated itself, which is half of a start, and waits for its work.

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
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cloudpickle

from openlaunch_worker import kernel
from openlaunch_worker import main as worker
from openlaunch_worker.documents import ForkOrder, SignalOrder, UseOrder
from openlaunch_worker.event_loop import loop_maker
from openlaunch_worker.isolation import Init, become_worker, fork_init
from openlaunch_worker.process import die_with_parent
from openlaunch_worker.process import log as say

MAX_MESSAGE: Final = 1 << 20
IMPORTED: Final = (asyncio.subprocess, cloudpickle)
"""Workers need these sooner or later; imported here, they are so already."""

SPARE: Final = "spare-worker"
"""What the system calls a spare, in lists of processes."""

_OF_ISOLATION: Final = ("USER", "LOGNAME", "TMPDIR", "HOME")
"""Variables that isolation sets, here or in the worker."""


@dataclass(frozen=True, slots=True)
class _Child:
    """A worker's init, the descriptor that tells how the worker ended, and where a spare waits for its work."""

    id: str
    init: Init
    status: int
    gate: int | None


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
        elif "folder" not in order:
            self._use(UseOrder.from_json(order), logs[0])
        elif self._fork(ForkOrder.from_json(order), logs[0] if logs else None):
            return True
        for log in logs:
            os.close(log)
        return False

    def _fork(self, order: ForkOrder, log: int | None) -> bool:
        """Fork, and return whether this is the worker."""
        ends: list[int] = []
        try:
            ends += os.pipe()
            if order.env is None:
                ends += (end.detach() for end in socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            init = fork_init(self._pids if order.isolation is not None else None)
        except OSError as error:
            for end in ends:
                os.close(end)
            self._report({"id": order.id, "error": str(error)})
            return False
        status, gate = ends[::2] if order.env is None else (ends[0], None)
        if init.pid == 0:
            self._be_a_worker(order, init, log, *ends[1::2])
            return True
        for end in ends[1::2]:
            os.close(end)
        os.set_blocking(status, False)
        self._children[init.pid] = _Child(order.id, init, status, gate)
        self._report({"id": order.id})
        return False

    def _be_a_worker(
        self, order: ForkOrder, init: Init, log: int | None, status: int, gate: int | None = None
    ) -> None:
        """Become the worker's init, and return in the worker, once it has work."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._channel.detach()
        _take_output(log)
        kernel.close_descriptors_but(status, *(() if gate is None else (gate,)))
        missing = become_worker(init, order, status)
        os.close(status)
        env = order.env if gate is None else _wait_for_work(gate)
        kept = {name: os.environ[name] for name in _OF_ISOLATION if name in os.environ}
        os.environ.clear()
        os.environ.update((env or {}) | kept)
        if missing:
            say(f"not isolated as it could be: {'; '.join(missing)}")

    def _use(self, order: UseOrder, log: int) -> None:
        """Give a spare its work; of one that has ended that is reported already."""
        for child in self._children.values():
            if child.id == order.id and child.gate is not None:
                with socket.socket(fileno=os.dup(child.gate)) as gate, suppress(OSError):
                    socket.send_fds(gate, [json.dumps(order.env).encode()], [log])

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
                if child.gate is not None:
                    os.close(child.gate)
                self._report({"id": child.id, "code": int(written or os.waitstatus_to_exitcode(status))})

    def _report(self, document: dict[str, Any]) -> None:
        self._channel.send(json.dumps(document).encode())


def _take_output(log: int | None) -> None:
    """Print to a log from now on, or to nowhere where it is None, and read nothing."""
    nothing = os.open(os.devnull, os.O_RDWR)
    output = nothing if log is None else log
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.close(nothing)


def _wait_for_work(gate: int) -> dict[str, str]:
    """Wait as a spare, and return the environment of the worker that this is to be. Its log is taken."""
    name = _rename(SPARE)
    with socket.socket(fileno=gate) as connection:
        message, logs, _, _ = socket.recv_fds(connection, MAX_MESSAGE, 1)
    if not message:
        os._exit(0)  # the nursery has ended
    _rename(name)
    _take_output(logs[0])
    os.close(logs[0])
    env: dict[str, str] = json.loads(message)
    return env


def _rename(name: str) -> str:
    """Give this process a name in lists of processes, and return the one that it had."""
    comm = Path("/proc/self/comm")
    before = comm.read_text().strip()
    comm.write_text(name)
    return before


def main() -> int:
    """Serve, and return the exit code of this process or of the worker that it has become."""
    die_with_parent()
    channel = socket.socket(fileno=int(sys.argv[-1]))
    os.set_inheritable(channel.fileno(), False)
    loop_maker()  # workers find it imported
    # What is here is never freed, and stays shared: collections in the forks need not look at it.
    gc.collect()
    gc.freeze()
    return Nursery(channel).serve()
