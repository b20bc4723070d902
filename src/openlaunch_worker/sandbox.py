"""A sandbox for code that is not trusted: a launcher, which the server starts, and which starts a command in it.

Its argument is a `documents.SandboxOrder` as JSON; `engines/sandbox.py` makes the command line. There are three
processes: this one, which the server knows and ends; the init of a PID namespace; and the command. If one ends, those
below it do. The namespaces are two-fold:

    outer   mounts and IPC, in a user namespace unless this is root: the view of the file system is made here. Then
            root becomes a user without any rights.
    inner   users, mounts and PIDs: nothing of the outer ones can be undone here.

It imports little, because each build and each first worker waits for it.
"""

import contextlib
import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import Any, Final, NoReturn

from openlaunch_worker import kernel
from openlaunch_worker.file_view import cover, devices, groups_of

CHANNEL: Final = 3
"""The descriptor that the command finds its channel at: what was its standard input."""

SAYS: Final = "openlaunch sandbox: "
"""Begins its own lines in the command's log."""

EXIT_REFUSED: Final = 125
"""A step could not be done, and all are required."""
EXIT_NOT_STARTED: Final = 127

ADVICE: Final = (
    "allow this user to make user namespaces (sysctl user.max_user_namespaces, and with AppArmor "
    "kernel.apparmor_restrict_unprivileged_userns=0), or start the server with "
    "OPENLAUNCH_ISOLATION=auto"
)

_SHARED_FOLDERS: Final = ("/tmp", "/var/tmp")  # noqa: S108 -- to be covered
_KEPT_OF_RUN: Final = ("/run/systemd/resolve", "/run/current-system")


class Refused(Exception):
    """A step could not be done, and all are required."""


class Steps:
    """Does the steps of an isolation: collects what fails, or refuses it where all are required."""

    def __init__(self, required: bool) -> None:
        self._required = required
        self.missing: list[str] = []

    def do(self, lacking: str, step: Callable[[], object]) -> bool:
        """Do a step, and return whether it succeeded; `lacking` says what is not so without it."""
        try:
            step()
        except OSError as error:
            self.failed(lacking, error)
            return False
        return True

    def enter_landlock(self, has_pids: bool) -> None:
        """Put other processes out of reach. With a PID namespace that is an addition: none of them is seen."""
        if has_pids:
            with contextlib.suppress(OSError):
                kernel.enter_landlock()
        else:
            self.do("other processes are not out of reach", kernel.enter_landlock)

    def failed(self, lacking: str, error: OSError) -> None:
        """Collect or refuse what could not be done."""
        self.missing.append(f"{lacking} ({error.strerror or error})")
        if self._required:
            raise Refused(f"isolation is required, and {self.missing[-1]}: {ADVICE}") from error


def main() -> int:
    """Start the command in its sandbox, and return how it ended, as shells say it."""
    order = json.loads(sys.argv[1])
    _take_descriptors(order["channel"])
    steps = Steps(order["required"])
    try:
        has_view = steps.do("no part of the file system is hidden", lambda: _make_outer_view(order))
        if not has_view:
            use_own_folders(order["view"])
        if order["user"] and has_view:  # another user needs the ways that the view opens
            steps.do("it runs as root", lambda: _become(order["user"]))
        has_pids = steps.do("its processes have no namespace", _enter_inner)
        kernel.die_with_parent()  # again: the change of the user has undone it
        return _start(order, steps, has_pids)
    except Refused as error:
        return _refuse(order, error)


def _refuse(order: dict[str, Any], refused: Refused) -> int:
    """Say in the log why the command is not started, and to who waits at its channel; return the exit code."""
    log(str(refused))
    if order["channel"]:
        with contextlib.suppress(OSError):  # who has asked may have ended
            os.write(CHANNEL, json.dumps({"refused": str(refused)}).encode())
    return EXIT_REFUSED


def log(message: str) -> None:
    """Write a line to the command's own log."""
    sys.stderr.write(f"{SAYS}{message}\n")
    sys.stderr.flush()


def _take_descriptors(channel: bool) -> None:
    """Leave the command its output, and nothing else that the server may have left open."""
    kernel.close_descriptors(CHANNEL)
    if channel:
        os.dup2(0, CHANNEL)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)


def _make_outer_view(order: dict[str, Any]) -> None:
    uid, gid, user = os.geteuid(), os.getegid(), order["user"]
    kernel.unshare(kernel.NEW_MOUNTS | kernel.NEW_IPC | (0 if user else kernel.NEW_USERS))
    if not user:
        kernel.map_user(uid, gid)
    make_view(order["view"], (user or uid, user or gid), outer=True, another_user=bool(user))


def make_view(
    view: dict[str, Any], owner: tuple[int, int], *, outer: bool = False, another_user: bool = False
) -> None:
    """Make what `documents.View` describes, in a mount namespace that this process has for itself.

    What has to be made in folders belongs to `owner`. With `outer`, nothing else can be written to, and devices and
    the system's sockets are hidden. With `another_user`, who is not the one that can pass through all folders, ways
    to what is kept are opened.
    """
    folder = view["folder"]
    kept = dict.fromkeys(view["readable"], False) | dict.fromkeys((folder, *view["writable"]), True)
    covers: dict[str, str | None] = dict.fromkeys(view["hidden"], None)
    if outer:
        kept |= dict.fromkeys(_KEPT_OF_RUN, False) | dict.fromkeys(devices(), True)
        covers |= dict.fromkeys(("/run", "/dev"), None)
    if another_user:
        covers |= dict.fromkeys(_closed_to_others(kept), None)
    covers |= dict.fromkeys((*_SHARED_FOLDERS, *view["temporary"]), f"{folder}/tmp")  # noqa: S108 -- its own
    covers |= dict.fromkeys(view["homes"], f"{folder}/home")
    cover(covers, kept, owner, read_only=outer)


def use_own_folders(view: dict[str, Any]) -> None:
    """Have programs use the view's own folders for temporary files and as home, where no view could be made."""
    os.environ |= {
        "TMPDIR": os.path.join(view["folder"], "tmp"),
        "HOME": os.path.join(view["folder"], "home"),
    }


def _closed_to_others(kept: dict[str, bool]) -> set[str]:
    """Return folders above what is kept that another user can't pass through."""
    closed = set()
    for path in kept:
        while (path := os.path.dirname(path)) != "/":
            with contextlib.suppress(FileNotFoundError):
                if not os.stat(path).st_mode & 0o001:
                    closed.add(path)
    return closed


def _become(user: int) -> None:
    kernel.become(user, user, groups_of(devices()))
    os.environ |= {"USER": "openlaunch", "LOGNAME": "openlaunch"}


def _enter_inner() -> None:
    uid, gid = os.geteuid(), os.getegid()
    kernel.unshare(kernel.NEW_USERS | kernel.NEW_MOUNTS | kernel.NEW_PIDS)
    kernel.map_user(uid, gid)


def _start(order: dict[str, Any], steps: Steps, has_pids: bool) -> int:
    launcher = os.getpid()
    if (pid := os.fork()) == 0:
        _be_init(order, steps, has_pids, launcher)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(pid, signal.SIGTERM))
    let_go()
    return _exit_code(os.waitpid(pid, 0)[1])


def _be_init(order: dict[str, Any], steps: Steps, has_pids: bool, launcher: int) -> NoReturn:
    try:
        kernel.die_with_parent()
        if os.getppid() not in (0, launcher):
            os._exit(0)  # the launcher has ended in between
        kernel.adopt_orphans()
        if has_pids:
            steps.do("it sees processes outside of its own", lambda: kernel.mount_new("proc", "/proc"))
        init = os.getpid()
        if (pid := os.fork()) == 0:
            _become_command(order, steps, has_pids, init)
        signal.signal(signal.SIGTERM, lambda *_: leave(128 + signal.SIGTERM, has_pids))
        let_go()
        leave(_exit_code(wait_as_init(pid)), has_pids)
    except Refused as error:
        os._exit(_refuse(order, error))
    finally:
        os._exit(EXIT_NOT_STARTED)


def _become_command(order: dict[str, Any], steps: Steps, has_pids: bool, init: int) -> NoReturn:
    try:
        kernel.die_with_parent()
        if os.getppid() != init:
            os._exit(0)  # the init has ended in between
        os.setsid()
        kernel.lower_limit(resource.RLIMIT_CORE, 0)
        if order["processes"]:
            kernel.lower_limit(resource.RLIMIT_NPROC, order["processes"])
        if order["final"]:
            if has_pids:  # else its user namespace is not its own
                kernel.forbid_namespaces()
            steps.do("powers over the system stay", kernel.drop_capabilities)
            steps.do("new privileges are not ruled out", kernel.rule_out_privileges)
        else:
            steps.do("its workers can't be isolated", kernel.keep_namespace_rights)
        steps.enter_landlock(has_pids)
        if steps.missing:
            log(f"not isolated as it could be: {'; '.join(steps.missing)}")
        os.chdir(order["cwd"])
        os.execvp(order["command"][0], order["command"])  # noqa: S606 -- what the server asked for
    except Refused as error:
        os._exit(_refuse(order, error))
    except OSError as error:
        log(f"{order['command'][0]!r} can't be started: {error.strerror or error}")
    finally:
        os._exit(EXIT_NOT_STARTED)


def let_go(keep: int = 2) -> None:
    """Close what belongs to a process below this one, whose end its readers wait for; `keep` alone stays open."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    kernel.close_descriptors_but(keep)


def wait_as_init(pid: int) -> int:
    """Wait for the end of orphans, and of this child, whose status is returned."""
    while True:
        ended, status = os.waitpid(-1, 0)
        if ended == pid:
            return status


def leave(code: int, has_pids: bool) -> NoReturn:
    """End this process with all below it: the kernel does it with a PID namespace of its own."""
    if not has_pids:
        _end_children()
    os._exit(code)


def _end_children() -> None:
    """End all processes below this one, which adopts them one generation after the other."""
    me = os.getpid()
    with contextlib.suppress(ChildProcessError):
        while True:
            with contextlib.suppress(OSError), open(f"/proc/{me}/task/{me}/children") as file:
                for child in file.read().split():
                    os.kill(int(child), signal.SIGKILL)
            os.waitpid(-1, 0)


def _exit_code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code
