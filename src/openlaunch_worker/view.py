"""What a process sees of the file system: parts are covered, and what it needs below them is put back."""

import glob
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from openlaunch_worker.kernel import attach_tree, clone_tree, detach_mounts, mount_new, set_mount

_EMPTY: Final = "mode=755,size=64k"
"""Options of a file system that has nothing but the folders over which others are put."""

_SHM_BYTES: Final = 64 * 1024 * 1024

_DEV: Final = "/dev"

_DEVICES: Final = ("null", "zero", "full", "random", "urandom", "tty")
_GPU_DEVICES: Final = ("nvidia*", "dri", "kfd", "infiniband")
_DEV_LINKS: Final = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "ptmx": "pts/ptmx",
}


@dataclass(frozen=True)
class _Kept:
    """A copy of the mounts at a path, taken before anything lies over it."""

    path: str
    tree: int
    is_folder: bool


def cover(
    covers: Mapping[str, str | None],
    kept: Mapping[str, bool],
    owner: tuple[int, int],
    *,
    read_only: bool = False,
) -> None:
    """Lay folders over others, in this process's own mount namespace.

    `covers` maps a path to the folder that is seen there instead, None for an empty one; a file becomes empty.
    `kept` are paths that stay visible below covers, and whether they can be written to. With `read_only`, nothing
    else can. What has to be made for them in a folder belongs to `owner`. Paths that are not there are left out.
    """
    detach_mounts()
    aliases = {path: os.path.realpath(path) for path in kept}
    trees = _clone_all({aliases[path]: writable for path, writable in kept.items()})
    real = {os.path.realpath(path): source for path, source in covers.items()}
    laid = [
        _Cover(path, source, os.path.isdir(path))
        for path, source in sorted(real.items())
        if os.path.exists(path)
    ]
    sources = {each.path: clone_tree(each.source) for each in laid if each.source is not None}
    if read_only:
        set_mount("/", read_only=True)
        set_mount("/proc", read_only=False, recursive=False)  # else no new /proc could be written to
    for each in laid:
        _lay_over(each, sources.get(each.path), owner)
    for tree in trees:
        _put_back(tree, owner)
    for path, target in aliases.items():
        if not os.path.exists(path) and os.path.exists(target):
            _make_folders(os.path.dirname(path), owner)
            os.symlink(target, path)
    if _DEV in real:
        _furnish_dev()
    for each in laid:
        if each.is_folder and each.source is None:
            set_mount(each.path, read_only=True, recursive=False)


@dataclass(frozen=True)
class _Cover:
    """What lies over a path."""

    path: str
    source: str | None
    is_folder: bool


def _clone_all(kept: Mapping[str, bool]) -> list[_Kept]:
    """Copy the mounts of what is kept, outer folders first."""
    trees = []
    for path, writable in sorted(kept.items()):
        if os.path.exists(path):
            tree = clone_tree(path)
            set_mount(tree, read_only=not writable)
            trees.append(_Kept(path, tree, os.path.isdir(path)))
    return trees


def _lay_over(cover: _Cover, source: int | None, owner: tuple[int, int]) -> None:
    if not cover.is_folder:
        if os.path.exists(cover.path):
            _attach(clone_tree(os.devnull), cover.path)
        return
    _make_folders(cover.path, owner)  # an outer cover may have taken it away
    if source is None:
        mount_new("tmpfs", cover.path, _EMPTY)
    else:
        _attach(source, cover.path)


def _put_back(kept: _Kept, owner: tuple[int, int]) -> None:
    """Put the copy where its original was, over a folder or file that is made if a cover took it away."""
    if kept.is_folder:
        _make_folders(kept.path, owner)
    elif not os.path.exists(kept.path):
        _make_folders(os.path.dirname(kept.path), owner)
        os.close(os.open(kept.path, os.O_CREAT | os.O_CLOEXEC, 0o644))
    _attach(kept.tree, kept.path)


def _attach(tree: int, path: str) -> None:
    attach_tree(tree, path)
    os.close(tree)


def _make_folders(path: str, owner: tuple[int, int]) -> None:
    if not os.path.isdir(path):
        _make_folders(os.path.dirname(path), owner)
        os.mkdir(path, 0o755)
        os.chown(path, *owner)


def devices() -> list[str]:
    """Return the devices that every process needs, and those of GPUs."""
    found = [f"/dev/{name}" for name in _DEVICES]
    return found + [path for pattern in _GPU_DEVICES for path in glob.glob(f"/dev/{pattern}")]


def groups_of(paths: Iterable[str]) -> list[int]:
    """Return the groups, except root's, whose members can use these devices."""
    files = [inner for path in paths for inner in (path, *glob.glob(f"{path}/*"))]
    return sorted({os.stat(path).st_gid for path in files if os.path.exists(path)} - {0})


def _furnish_dev() -> None:
    """Add to a new /dev what is not a device: links to a process's own files, terminals and shared memory."""
    for name, target in _DEV_LINKS.items():
        os.symlink(target, f"{_DEV}/{name}")
    for name in ("pts", "shm"):
        os.mkdir(f"{_DEV}/{name}")
    renew_dev(_SHM_BYTES)


def renew_dev(shm_bytes: int) -> None:
    """Mount terminals and shared memory that no other mount namespace has."""
    mount_new("devpts", f"{_DEV}/pts", "newinstance,ptmxmode=0666,mode=620")
    mount_new("tmpfs", f"{_DEV}/shm", f"mode=1777,size={shm_bytes}")
