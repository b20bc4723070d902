"""What a process sees of the file system: parts are covered, and what it needs below them is put back."""

import glob
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

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


def cover(
    covers: Mapping[str, str | None],
    kept: Mapping[str, bool],
    owner: tuple[int, int],
    *,
    read_only: bool = False,
) -> None:
    """Lay folders over others, in this process's own mount namespace.

    `covers` maps a path to the folder that is seen there instead, None for an empty one; a file becomes empty.
    `kept` are paths that stay visible below covers, and whether they can be written to; what is covered below them
    stays so. With `read_only`, nothing else can be written to. What has to be made in a folder belongs to `owner`.
    Paths that are not there are left out.
    """
    detach_mounts()
    real = {os.path.realpath(path): source for path, source in covers.items()}
    aliases = {path: os.path.realpath(path) for path in kept}
    needed = {
        aliases[path]: writable
        for path, writable in kept.items()
        if (read_only and writable) or any(f"{aliases[path]}/".startswith(f"{each}/") for each in real)
    }
    layers = [*_covers(real), *_kept(needed)]
    if read_only:
        set_mount("/", read_only=True)
        set_mount("/proc", read_only=False, recursive=False)  # else no new /proc could be written to
    layers.sort(key=lambda layer: layer.path)  # outer ones first, and at the same path the cover
    for layer in layers:
        _lay(layer, owner)
    for path, target in aliases.items():
        if not os.path.exists(path) and os.path.exists(target):
            _make_folders(os.path.dirname(path), owner)
            os.symlink(target, path)
    if _DEV in real:
        _furnish_dev()
    for layer in layers:
        if layer.tree is None:
            set_mount(layer.path, read_only=True, recursive=False)


class _Layer(NamedTuple):
    """What lies over a path: a copy of mounts, or an empty folder."""

    path: str
    tree: int | None
    is_folder: bool


def _covers(covers: Mapping[str, str | None]) -> Iterator[_Layer]:
    for path, source in covers.items():
        if os.path.isdir(path):
            yield _Layer(path, None if source is None else clone_tree(source), True)
        elif os.path.exists(path):
            yield _Layer(path, clone_tree(os.devnull), False)


def _kept(kept: Mapping[str, bool]) -> Iterator[_Layer]:
    """Copy the mounts of what is kept, before anything lies over it."""
    for path, writable in kept.items():
        if os.path.exists(path):
            tree = clone_tree(path)
            set_mount(tree, read_only=not writable)
            yield _Layer(path, tree, os.path.isdir(path))


def _lay(layer: _Layer, owner: tuple[int, int]) -> None:
    """Lay a layer over its path, which is made if another one has taken it away."""
    if layer.is_folder:
        _make_folders(layer.path, owner)
    elif not os.path.exists(layer.path):
        _make_folders(os.path.dirname(layer.path), owner)
        os.close(os.open(layer.path, os.O_CREAT | os.O_CLOEXEC, 0o644))
    if layer.tree is None:
        mount_new("tmpfs", layer.path, _EMPTY)
    else:
        attach_tree(layer.tree, layer.path)
        os.close(layer.tree)


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
    """Mount terminals and shared memory that no other mount namespace has; 0 bytes stand for half of all memory."""
    mount_new("devpts", f"{_DEV}/pts", "newinstance,ptmxmode=0666,mode=620")
    mount_new("tmpfs", f"{_DEV}/shm", f"mode=1777,size={shm_bytes or '50%'}")
