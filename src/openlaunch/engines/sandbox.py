"""Starting programs in a sandbox: the command line, and the folder that each sandbox has for itself."""

import json
import os
import pwd
import sys
import tempfile
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from openlaunch_worker import kernel
from openlaunch_worker.documents import SandboxOrder, View
from openlaunch_worker.module_command import RUNTIME, module_command

USER = 64321
"""The user and the group as which sandboxes run where the server runs as root: they own nothing else."""


NURSERY_WORKERS = 16
"""A sandbox that makes others has as many processes as this number of those may have."""


@dataclass(frozen=True, slots=True)
class Sandboxes:
    """What all sandboxes of a server have in common.

    `hidden` are the server's own folders and files, and `shared` those that everybody's code may write to. With
    `required`, a sandbox that can't be made completely is refused; else what the kernel allows is done. `processes`
    bounds the processes of each; 0 sets no bound.
    """

    hidden: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()
    required: bool = False
    processes: int = 0

    def command(
        self,
        command: Sequence[str],
        folder: Path,
        *,
        cwd: Path | None = None,
        readable: Collection[Path] = (),
        writable: Collection[Path] = (),
        channel: bool = False,
        final: bool = True,
    ) -> list[str]:
        """Return a command line that runs a command in a sandbox whose folder `make_folder` made.

        The command sees what everybody can read, except for the server's own, homes and temporary folders; of
        those only what is `readable` or `writable`. `cwd` is the sandbox's folder unless another is named.
        `documents.SandboxOrder` describes the rest.
        """
        order = SandboxOrder(
            command=tuple(command),
            cwd=str(cwd or folder),
            view=self.view(folder, readable, writable),
            user=user(),
            processes=self.processes * (1 if final else NURSERY_WORKERS),
            channel=channel,
            final=final,
            required=self.required,
        )
        python, *code = module_command(sys.executable, "openlaunch_worker.sandbox", RUNTIME)
        return [python, "-I", "-S", *code, json.dumps(order.to_json())]

    def view(self, folder: Path, readable: Collection[Path] = (), writable: Collection[Path] = ()) -> View:
        """Return what can be seen with this folder as one's own."""
        return View(
            folder=str(folder),
            readable=(*_own_python(), *map(str, readable)),
            writable=(*map(str, writable), *self.shared),
            hidden=self.hidden,
            temporary=(tempfile.gettempdir(),),
            homes=tuple(_homes()),
        )


@cache
def user() -> int:
    """Return whom sandboxes run as; 0: as the server's own user.

    That is where it is not root, or root of no other user, or can't lay out for another user what that one may see.
    """
    if os.geteuid() != 0 or not _makes_mounts():
        return 0
    ranges = [line.split() for line in Path("/proc/self/uid_map").read_text().splitlines()]
    return USER if any(0 <= USER - int(first) < int(count) for first, _, count in ranges) else 0


def _makes_mounts() -> bool:
    """Return whether this process may make mount namespaces, tried in a thread, which enters one alone and ends."""
    with ThreadPoolExecutor(1) as thread:
        try:
            thread.submit(kernel.unshare, kernel.NEW_MOUNTS).result()
        except OSError:
            return False
    return True


def _homes() -> list[str]:
    """Return the home that programs use, and the one in the list of users where that is another."""
    homes = [os.environ.get("HOME", "")]
    with suppress(KeyError):
        homes.append(pwd.getpwuid(os.geteuid()).pw_dir)
    return [home for home in homes if home.startswith("/") and home != "/"]


def make_folder(path: Path, *names: str) -> Path:
    """Make a sandbox's folder, with these in it, for the user whom it runs as; the folder itself may be there."""
    path.mkdir(mode=0o700, exist_ok=True)
    give(path)
    parent = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)  # for names that others may replace
    try:
        for name in ("tmp", "home", *names):
            os.mkdir(name, 0o700, dir_fd=parent)
            give(name, parent)
    finally:
        os.close(parent)
    return path


def give(file: Path | str | int, parent: int | None = None) -> None:
    """Make a folder or file, which the server has just made, the sandboxes' user's; a pipe by its descriptor."""
    if uid := user():
        os.chown(file, uid, uid, dir_fd=parent, follow_symlinks=isinstance(file, int))


def _own_python() -> tuple[str, ...]:
    """Return the folders of the server's Python, which may lie in its home."""
    return (sys.prefix, sys.base_prefix)
