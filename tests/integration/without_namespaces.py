"""Runs a command, its arguments, to which the kernel gives no namespaces, as in many containers.

It imports nothing of the project, because another user may have to run it.
"""

import ctypes
import os
import sys
from pathlib import Path

NEW_USERS = 0x10000000
PR_CAPBSET_DROP, SYS_ADMIN = 24, 21


def forbid_user_namespaces() -> None:
    """Have the kernel refuse user namespaces from now on, by a limit of one that this process enters."""
    me, uid, gid = os.getpid(), os.geteuid(), os.getegid()
    entered, enter = os.pipe()
    if (helper := os.fork()) == 0:  # who may give root all of its users is outside
        os.read(entered, 1)
        for name, own in (("uid_map", uid), ("gid_map", gid)):
            Path(f"/proc/{me}/{name}").write_text("0 0 65536" if uid == 0 else f"{own} {own} 1")
        os._exit(0)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(NEW_USERS):
        raise OSError(ctypes.get_errno(), "no user namespace to begin with")
    if uid:
        Path("/proc/self/setgroups").write_text("deny")
    os.write(enter, b"x")
    os.waitpid(helper, 0)
    Path("/proc/sys/user/max_user_namespaces").write_text("0")
    libc.prctl(PR_CAPBSET_DROP, SYS_ADMIN, 0, 0, 0)  # programs of root get no right to make any


if __name__ == "__main__":
    forbid_user_namespaces()
    os.execvp(sys.argv[1], sys.argv[1:])
