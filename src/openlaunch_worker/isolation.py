"""How a worker is kept from other workers of the same nursery, and what it has started ends with it. Linux only.

A nursery forks an init, which is the first process of a PID namespace and makes the worker's view of the file system:
others' folders are covered, and temporary folders, home and shared memory are its own. The init forks the worker,
which gives up every right. When the worker ends, its init does, and the kernel ends all processes that the worker has
left behind. What the kernel allows is done step by step, before any code of a bundle is in the process.
"""

import os
import resource
import select
import signal
from contextlib import suppress
from typing import Final, NoReturn

from openlaunch_worker import kernel
from openlaunch_worker.documents import ForkOrder, IsolationOrder
from openlaunch_worker.file_view import renew_dev
from openlaunch_worker.process import EXIT_USAGE, log
from openlaunch_worker.sandbox import Refused, Steps, leave, let_go, make_view, use_own_folders, wait_as_init

END_ALL: Final = signal.SIGUSR1
"""Has an init end all processes below it. SIGKILL does that only to one that has a PID namespace."""

_HELD: Final = (signal.SIGTERM, END_ALL)


class Init:
    """What a nursery knows of an init that it has forked, and what the init knows of itself."""

    def __init__(self, pid: int, problem: OSError | None) -> None:
        self.pid = pid
        self.problem = problem
        """Why it has no PID namespace of its own; None where it has one."""

    def signal(self, number: int) -> None:
        """Send SIGTERM to the worker, or SIGKILL to all of its processes."""
        os.kill(self.pid, END_ALL if number == signal.SIGKILL and self.problem is not None else number)


def fork_init(own_pids: int | None) -> Init:
    """Fork an init, whose `pid` is 0 in itself. Signals to it are held back until it can handle them.

    `own_pids` is a descriptor of this process's PID namespace, None where the init is to share it.
    """
    held = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)
    problem = OSError("it is not wanted") if own_pids is None else _unshare_pids()
    try:
        pid = os.fork()
    except OSError:
        pid = -1
        raise
    finally:
        if pid:
            if own_pids is not None and problem is None:
                kernel.enter_namespace(own_pids, kernel.NEW_PIDS)
            signal.pthread_sigmask(signal.SIG_SETMASK, held)
    return Init(pid, problem)


def _unshare_pids() -> OSError | None:
    try:
        kernel.unshare(kernel.NEW_PIDS)
    except OSError as error:
        return error
    return None


def become_worker(init: Init, fork: ForkOrder, status: int) -> list[str]:
    """Prepare this init's surroundings and fork the worker, in which alone this returns, in its folder.

    Return what its isolation lacks.

    The init works there, too, by which it is found from outside. It writes to `status` how the worker ended: its exit
    code, or minus the number of a signal.
    """
    order = fork.isolation
    steps = Steps(required=order is not None and order.required)
    try:
        kernel.die_with_parent(signal.SIGKILL if init.problem is None else END_ALL)
        if _is_unread(status):
            os._exit(EXIT_USAGE)  # the nursery has ended before that, of which the kernel says nothing
        kernel.adopt_orphans()
        if order is not None:
            _isolate_init(init, order, steps)
        os.chdir(fork.folder)  # only now: from a folder below what is covered, there would be a way up
        if (worker := os.fork()) != 0:
            _be_init(init, worker, status)
        if order is not None:
            _isolate_worker(init, order, steps)
        steps.do("its memory has no bound", lambda: _bound_memory(fork.memory))
    except Refused as error:
        log(str(error))
        os._exit(EXIT_USAGE)
    kernel.die_with_parent()
    os.setsid()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD)
    return steps.missing


def _is_unread(status: int) -> bool:
    """Return whether nobody holds the other end of the pipe, which is the nursery's alone."""
    poll = select.poll()
    poll.register(status, 0)
    return bool(poll.poll(0))


def _isolate_init(init: Init, order: IsolationOrder, steps: Steps) -> None:
    if init.problem is not None:
        steps.failed("what it starts may outlive it", init.problem)
    if not steps.do("files of others are not hidden", lambda: _make_view(order)):
        use_own_folders(order.view.to_json())
    elif init.problem is None:
        steps.do("it sees processes outside of its own", lambda: kernel.mount_new("proc", "/proc"))


def _make_view(order: IsolationOrder) -> None:
    kernel.unshare(kernel.NEW_MOUNTS | kernel.NEW_IPC)
    make_view(order.view.to_json(), (os.geteuid(), os.getegid()))
    renew_dev(order.memory)


def _be_init(init: Init, worker: int, status: int) -> NoReturn:
    def end(code: int) -> NoReturn:
        with suppress(OSError):  # the nursery may have ended
            os.write(status, str(code).encode())
        leave(0, init.problem is None)

    try:
        signal.signal(signal.SIGTERM, lambda *_: os.kill(worker, signal.SIGTERM))
        signal.signal(END_ALL, lambda *_: end(-signal.SIGKILL))
        let_go(keep=status)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD)
        end(os.waitstatus_to_exitcode(wait_as_init(worker)))
    finally:
        os._exit(EXIT_USAGE)


def _isolate_worker(init: Init, order: IsolationOrder, steps: Steps) -> None:
    steps.do("the number of its processes has no bound", lambda: _bound_processes(order.processes))
    steps.do("powers over the system stay", kernel.drop_capabilities)
    steps.do("new privileges are not ruled out", kernel.rule_out_privileges)
    steps.enter_landlock(init.problem is None)


def _bound_processes(most: int) -> None:
    """Bound this worker's alone: the kernel counts a user's in each user namespace."""
    if most:
        uid, gid = os.geteuid(), os.getegid()
        kernel.unshare(kernel.NEW_USERS)
        kernel.map_user(uid, gid)
        kernel.lower_limit(resource.RLIMIT_NPROC, most)
        kernel.forbid_namespaces()


def _bound_memory(most: int) -> None:
    kernel.lower_limit(resource.RLIMIT_CORE, 0)
    if most:
        kernel.lower_limit(resource.RLIMIT_DATA, most)
