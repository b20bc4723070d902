"""Keeps a worker away from the server's data directory and from other processes. Linux only.

What the kernel allows is done, step by step, in a fork that has no threads yet:

- a mount namespace of its own, in which an empty folder lies over the data directory, with the environment and the
  worker's own folder put back into it; for servers that do not run as root it is one of a user namespace, which
  keeps the number of processes, too;
- a Landlock domain of its own: no signals to and no look into processes outside of it, no mounts, no device files;
- none of root's powers over the system;
- no new privileges by way of set-uid programs, and no core dumps;
- a bound of its private memory.
"""

import ctypes
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from openlaunch_worker.documents import IsolationOrder

_CLONE_NEWNS: Final = 0x00020000
_CLONE_NEWUSER: Final = 0x10000000
_MS_RDONLY: Final = 1
_MS_NOSUID: Final = 2
_MS_NODEV: Final = 4
_MS_REMOUNT: Final = 32
_MS_BIND: Final = 4096
_MS_REC: Final = 16384
_MS_PRIVATE: Final = 1 << 18
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_CAPBSET_DROP: Final = 24
_CAPABILITY_VERSION_3: Final = 0x20080522

_LAST_CAPABILITY: Final = 40
_DROPPED: Final = {
    "dac_read_search": 2,  # opens files by their number, whatever lies over them
    "net_admin": 12,
    "sys_module": 16,
    "sys_rawio": 17,
    "sys_ptrace": 19,
    "sys_admin": 21,
    "sys_boot": 22,
    "sys_resource": 24,
    "sys_time": 25,
    "mknod": 27,
    "mac_override": 32,
    "mac_admin": 33,
    "syslog": 34,
    "perfmon": 38,
    "bpf": 39,
}
"""What root may do to the system and to others' processes. What it may do to files stays: it owns the models."""

# The same numbers on every architecture.
_LANDLOCK_CREATE_RULESET: Final = 444
_LANDLOCK_RESTRICT_SELF: Final = 446
_LANDLOCK_VERSION: Final = 1
_LANDLOCK_MAKE_CHAR: Final = 1 << 6
_LANDLOCK_MAKE_BLOCK: Final = 1 << 11
_LANDLOCK_SCOPE_SIGNAL: Final = 1 << 1
_ABI_OF_SCOPES: Final = 6

_libc = ctypes.CDLL(None, use_errno=True)


class NotIsolated(Exception):
    """A step could not be done, and isolation is required."""


def isolate(order: IsolationOrder, folder: str) -> list[str]:
    """Isolate this process for good, go into `folder`, and return what failed, or raise `NotIsolated`."""
    steps: list[tuple[str, Callable[[], object]]] = [
        ("the server's data directory is not hidden", lambda: _hide(order.hide, [*order.keep, folder])),
        ("the number of processes has no bound", lambda: _bound_processes(order.processes)),
        ("powers over the system stay", _drop_capabilities),
        ("new privileges are not ruled out", lambda: _call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)),
        ("other processes are not out of reach", _enter_landlock),
        ("its memory has no bound", lambda: _bound_memory(order.memory)),
    ]
    missing = []
    for what, step in steps:
        try:
            step()
        except OSError as error:
            missing.append(f"{what} ({error.strerror or error})")
    if missing and order.required:
        raise NotIsolated("; ".join(missing))
    os.chdir(folder)  # only now: from a folder below the hidden one, there would be a way up
    return missing


def _call(name: str, *args: Any) -> int:
    result: int = getattr(_libc, name)(*args)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _hide(directory: str, kept: list[str]) -> None:
    _enter_mount_namespace()
    _mount("none", "/", None, _MS_REC | _MS_PRIVATE)
    with _opened(path for path in kept if path.startswith(directory + "/")) as folders:
        _mount("tmpfs", directory, "tmpfs", _MS_NOSUID | _MS_NODEV, b"size=64k,mode=755")
        for path, descriptor in folders:
            Path(path).mkdir(parents=True, exist_ok=True)
            _mount(f"/proc/self/fd/{descriptor}", path, None, _MS_BIND | _MS_REC)
    _mount("none", directory, None, _MS_REMOUNT | _MS_BIND | _MS_RDONLY | _MS_NOSUID | _MS_NODEV)


@contextmanager
def _opened(paths: Iterator[str]) -> Iterator[list[tuple[str, int]]]:
    """Open the folders as they are before something lies over them."""
    with ExitStack() as stack:
        folders: list[tuple[str, int]] = []
        for path in paths:
            descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY)
            stack.callback(os.close, descriptor)
            folders.append((path, descriptor))
        yield folders


def _enter_mount_namespace() -> None:
    if os.geteuid() == 0:
        _call("unshare", _CLONE_NEWNS)
        return
    uid, gid = os.geteuid(), os.getegid()
    _call("unshare", _CLONE_NEWUSER | _CLONE_NEWNS)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        descriptor = os.open(f"/proc/self/{name}", os.O_WRONLY)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)


def _mount(source: str, target: str, kind: str | None, flags: int, data: bytes | None = None) -> None:
    _call(
        "mount",
        source.encode(),
        os.fsencode(target),
        None if kind is None else kind.encode(),
        ctypes.c_ulong(flags),
        data,
    )


def _enter_landlock() -> None:
    """Enter a domain, which alone keeps others' memory out of reach. It refuses what it handles and no rule allows.

    That are device files, which no worker makes, and with any such right mounts, so that nothing can be uncovered.
    """
    version = _call("syscall", _LANDLOCK_CREATE_RULESET, None, 0, _LANDLOCK_VERSION)
    scopes = _LANDLOCK_SCOPE_SIGNAL if version >= _ABI_OF_SCOPES else 0
    attributes = (ctypes.c_uint64 * 3)(_LANDLOCK_MAKE_CHAR | _LANDLOCK_MAKE_BLOCK, 0, scopes)
    size = ctypes.sizeof(attributes) if scopes else ctypes.sizeof(ctypes.c_uint64)
    rules = _call("syscall", _LANDLOCK_CREATE_RULESET, ctypes.byref(attributes), ctypes.c_size_t(size), 0)
    try:
        _call("syscall", _LANDLOCK_RESTRICT_SELF, rules, 0)
    finally:
        os.close(rules)
    if not scopes:
        raise OSError(f"the kernel's Landlock is version {version}, signals need {_ABI_OF_SCOPES}")


def _drop_capabilities() -> None:
    """Drop root's that reach beyond files; of others all, which they have only within their user namespace."""
    dropped = _DROPPED.values() if os.geteuid() == 0 else range(_LAST_CAPABILITY + 1)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; the low 32, then the high
    _call("capget", ctypes.byref(header), ctypes.byref(sets))
    for number in dropped:
        half, bit = divmod(number, 32)
        if sets[3 * half + 1] & 1 << bit:
            _call("prctl", _PR_CAPBSET_DROP, number, 0, 0, 0)
        for offset in range(3):
            sets[3 * half + offset] &= ~(1 << bit) & 0xFFFFFFFF
    _call("capset", ctypes.byref(header), ctypes.byref(sets))


def _bound_processes(most: int) -> None:
    """Bound this worker's alone: the kernel counts a user's in each user namespace. It counts none of root's."""
    if most and os.geteuid() != 0:
        _lower(resource.RLIMIT_NPROC, most)


def _bound_memory(most: int) -> None:
    _lower(resource.RLIMIT_CORE, 0)
    if most:
        _lower(resource.RLIMIT_DATA, most)


def _lower(kind: int, most: int) -> None:
    hard = resource.getrlimit(kind)[1]
    bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(kind, (bound, bound))
