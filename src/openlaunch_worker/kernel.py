"""The kernel's calls for isolation that the standard library lacks. Linux only; each raises `OSError`."""

import ctypes
import errno
import os
import resource
import signal
from contextlib import suppress
from typing import Any, Final

NEW_MOUNTS: Final = 0x00020000
NEW_IPC: Final = 0x08000000
NEW_USERS: Final = 0x10000000
NEW_PIDS: Final = 0x20000000

_MS_REC: Final = 16384
_MS_PRIVATE: Final = 1 << 18
_MS_NOSUID: Final = 2
_MS_NODEV: Final = 4
_MS_NOEXEC: Final = 8

# The same numbers on every architecture.
_OPEN_TREE: Final = 428
_MOVE_MOUNT: Final = 429
_CLOSE_RANGE: Final = 436
_MOUNT_SETATTR: Final = 442
_LANDLOCK_CREATE_RULESET: Final = 444
_LANDLOCK_RESTRICT_SELF: Final = 446

_AT_FDCWD: Final = -100
_AT_EMPTY_PATH: Final = 0x1000
_AT_RECURSIVE: Final = 0x8000
_OPEN_TREE_CLONE: Final = 1
_MOVE_MOUNT_FROM_EMPTY_PATH: Final = 4
_READ_ONLY: Final = 1
_NO_SUID: Final = 2

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_CAPBSET_DROP: Final = 24
_PR_SET_CHILD_SUBREAPER: Final = 36
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_RAISE: Final = 2

_LANDLOCK_VERSION: Final = 1
_LANDLOCK_SCOPES: Final = 1 << 0 | 1 << 1  # abstract unix sockets, and signals
_ABI_OF_SCOPES: Final = 6

_CAPABILITY_VERSION_3: Final = 0x20080522
_LAST_CAPABILITY: Final = 40
_SYS_ADMIN: Final = 21

_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *args: Any) -> int:
    result: int = getattr(_libc, name)(*args)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def unshare(flags: int) -> None:
    """Enter new namespaces."""
    try:
        _call("unshare", flags)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise OSError(errno.ENOSPC, "the kernel's limit on namespaces is reached") from None


def enter_namespace(descriptor: int, kind: int) -> None:
    """Enter a namespace that a descriptor of `/proc/PID/ns` names."""
    _call("setns", descriptor, kind)


def map_user(uid: int, gid: int) -> None:
    """Give this process's new user namespace one user and one group, which are called the same outside."""
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        descriptor = os.open(f"/proc/self/{name}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)


def forbid_namespaces() -> None:
    """Have nobody in this process's user namespace make a further one, as far as the kernel allows to say so.

    In one, a program could mount memory that nobody counts, and reach much more of the kernel.
    """
    with suppress(OSError):
        descriptor = os.open("/proc/sys/user/max_user_namespaces", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, b"0")
        finally:
            os.close(descriptor)


def detach_mounts() -> None:
    """Keep mounts of this mount namespace from others, and those of others from it."""
    _mount("none", "/", None, _MS_REC | _MS_PRIVATE)


def mount_new(kind: str, target: str, options: str = "", *, executable: bool = False) -> None:
    """Mount a new file system of a kind: tmpfs, proc or devpts."""
    flags = _MS_NOSUID | (0 if executable else _MS_NOEXEC) | (0 if kind == "devpts" else _MS_NODEV)
    _mount(kind, target, kind, flags, options.encode())


def _mount(source: str, target: str, kind: str | None, flags: int, options: bytes | None = None) -> None:
    encoded = None if kind is None else kind.encode()
    _call("mount", source.encode(), os.fsencode(target), encoded, ctypes.c_ulong(flags), options)


def clone_tree(path: str) -> int:
    """Return a descriptor of a copy of the mounts at a path, which `attach_tree` puts somewhere else."""
    flags = _OPEN_TREE_CLONE | _AT_RECURSIVE | os.O_CLOEXEC
    return _call("syscall", _OPEN_TREE, _AT_FDCWD, os.fsencode(path), ctypes.c_uint(flags))


def attach_tree(tree: int, target: str) -> None:
    """Put a copy of mounts over a folder or file."""
    where = os.fsencode(target)
    _call("syscall", _MOVE_MOUNT, tree, b"", _AT_FDCWD, where, ctypes.c_uint(_MOVE_MOUNT_FROM_EMPTY_PATH))


def set_mount(where: str | int, *, read_only: bool, recursive: bool = True) -> None:
    """Make a mount, at a path or of `clone_tree`, read-only or writable, and have it give no rights to programs."""
    attributes = (ctypes.c_uint64 * 4)()  # to set, to clear, propagation, user namespace
    attributes[0] = _NO_SUID | (_READ_ONLY if read_only else 0)
    attributes[1] = 0 if read_only else _READ_ONLY
    at, path = (_AT_FDCWD, os.fsencode(where)) if isinstance(where, str) else (where, b"")
    flags = (_AT_RECURSIVE if recursive else 0) | (0 if path else _AT_EMPTY_PATH)
    size = ctypes.c_size_t(ctypes.sizeof(attributes))
    _call("syscall", _MOUNT_SETATTR, at, path, ctypes.c_uint(flags), ctypes.byref(attributes), size)


def close_descriptors(first: int, last: int = 0xFFFFFFFF) -> None:
    """Close this descriptor and all above it, up to the last."""
    if first > last:
        return
    try:
        _call("syscall", _CLOSE_RANGE, ctypes.c_uint(first), ctypes.c_uint(last), ctypes.c_uint(0))
    except OSError:
        os.closerange(first, min(last + 1, os.sysconf("SC_OPEN_MAX")))


def close_descriptors_but(*kept: int) -> None:
    """Close all descriptors but the standard ones and these."""
    first = 3
    for descriptor in sorted(kept):
        close_descriptors(first, descriptor - 1)
        first = descriptor + 1
    close_descriptors(first)


def die_with_parent(number: int = signal.SIGKILL) -> None:
    """Have the kernel send this process a signal when its parent dies; a change of the user undoes it."""
    _call("prctl", _PR_SET_PDEATHSIG, number, 0, 0, 0)


def adopt_orphans() -> None:
    """Become the parent of processes below this one whose own parent ends."""
    _call("prctl", _PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def become(uid: int, gid: int, groups: list[int]) -> None:
    """Become another user, permanently. Only root can."""
    os.setgroups(groups)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    _call("prctl", _PR_SET_DUMPABLE, 1, 0, 0, 0)  # else this process's own files in /proc are root's


def rule_out_privileges() -> None:
    """Have no program that this process becomes get more rights than it has."""
    _call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def drop_capabilities() -> None:
    """Drop every capability, permanently."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; the low 32, then the high
    with suppress(OSError):  # without the right to drop them, there is none to be had from programs either
        for number in range(_LAST_CAPABILITY + 1):
            _call("prctl", _PR_CAPBSET_DROP, number, 0, 0, 0)
    _call("capset", ctypes.byref(header), ctypes.byref(sets))


def keep_namespace_rights() -> None:
    """Have the next program of this process be able to make namespaces in the one that it is in."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)()
    _call("capget", ctypes.byref(header), ctypes.byref(sets))
    sets[2] |= 1 << _SYS_ADMIN  # inheritable
    _call("capset", ctypes.byref(header), ctypes.byref(sets))
    _call("prctl", _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _SYS_ADMIN, 0, 0)


def enter_landlock() -> None:
    """Enter a Landlock domain: memory, signals and abstract unix sockets of processes outside of it are out of reach.

    It handles no rights to files, because any of these would also forbid to move a file from folder to folder.
    """
    version = _call("syscall", _LANDLOCK_CREATE_RULESET, None, 0, _LANDLOCK_VERSION)
    if version < _ABI_OF_SCOPES:
        raise OSError(f"the kernel's Landlock is version {version}, {_ABI_OF_SCOPES} is needed")
    attributes = (ctypes.c_uint64 * 3)(0, 0, _LANDLOCK_SCOPES)  # rights to files, to the network, scopes
    size = ctypes.c_size_t(ctypes.sizeof(attributes))
    rules = _call("syscall", _LANDLOCK_CREATE_RULESET, ctypes.byref(attributes), size, 0)
    try:
        _call("syscall", _LANDLOCK_RESTRICT_SELF, rules, 0)
    finally:
        os.close(rules)


def lower_limit(kind: int, most: int) -> None:
    """Limit a resource of this process and of those it starts, permanently."""
    hard = resource.getrlimit(kind)[1]
    bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(kind, (bound, bound))
