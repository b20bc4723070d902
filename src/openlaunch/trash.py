"""Folders that others have written to, deleted in the background: however large, deep or unreadable they are.

A folder is renamed first, so that its place is free at once. No link is followed.
"""

import logging
import os
import threading
import uuid
from pathlib import Path
from queue import SimpleQueue
from typing import Final

log = logging.getLogger(__name__)

PREFIX: Final = ".trash-"
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_HANDLE: Final = getattr(os, "O_PATH", 0) | os.O_NOFOLLOW

_waiting: SimpleQueue[Path] = SimpleQueue()
_starting = threading.Lock()
_threads: list[threading.Thread] = []


def discard(path: Path) -> None:
    """Rename a folder out of the way, and delete it later. Nothing happens where there is none.

    One that can't be renamed, because others have closed the folder that it is in, stays.
    """
    renamed = path.with_name(f"{PREFIX}{uuid.uuid4().hex}")
    try:
        path.rename(renamed)
    except FileNotFoundError:
        return
    except OSError as error:
        log.warning("%s can't be deleted: %s", path, error.strerror or error)
        return
    _delete_later(renamed)


def discard_leftovers(parent: Path) -> None:
    """Delete later what an earlier process had no time to delete."""
    for path in parent.glob(f"{PREFIX}*"):
        _delete_later(path)


def delete(path: Path) -> None:
    """Delete a folder, or whatever has this name. Raise `OSError` for what this user can't delete."""
    if path.is_symlink() or not path.is_dir():
        path.unlink()
        return
    parent = os.open(path.parent, _FOLDER)
    try:
        place = _Place(_open(path.name, parent))
        try:
            place.empty()
        finally:
            os.close(place.folder)
        os.rmdir(path.name, dir_fd=parent)
    finally:
        os.close(parent)


def _delete_later(path: Path) -> None:
    _waiting.put(path)
    with _starting:
        if not _threads:
            # Not one of a pool: the end of the process does not wait for a daemon.
            thread = threading.Thread(target=_delete_all, name="trash", daemon=True)
            thread.start()
            _threads.append(thread)


def _delete_all() -> None:
    while True:
        path = _waiting.get()
        try:
            delete(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            log.warning("%s can't be deleted: %s", path, error.strerror or error)


class _Place:
    """A place in a tree that is being deleted: one descriptor, however deep it is."""

    def __init__(self, folder: int) -> None:
        self.folder = folder
        self._left = _delete_files(folder)
        self._above: list[tuple[str, list[str], tuple[int, int]]] = []

    def empty(self) -> None:
        """Delete all that is below the folder in which this begins."""
        while self._left or self._above:
            if self._left:
                self._go_down(self._left.pop())
            else:
                self._go_up()

    def _go_down(self, name: str) -> None:
        below = _open(name, self.folder)
        self._above.append((name, self._left, _identity(self.folder)))
        self._move(below)
        self._left = _delete_files(below)

    def _go_up(self) -> None:
        name, self._left, identity = self._above.pop()
        self._move(os.open("..", _FOLDER, dir_fd=self.folder))
        if _identity(self.folder) != identity:
            raise OSError("a folder was moved while it was deleted")
        os.rmdir(name, dir_fd=self.folder)

    def _move(self, folder: int) -> None:
        os.close(self.folder)
        self.folder = folder


def _identity(folder: int) -> tuple[int, int]:
    status = os.fstat(folder)
    return status.st_dev, status.st_ino


def _delete_files(folder: int) -> list[str]:
    """Delete all but the folders in a folder, and return the names of those."""
    folders = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.name)
            else:
                os.unlink(entry.name, dir_fd=folder)
    return folders


def _open(name: str, parent: int) -> int:
    """Open a folder, after letting this user list and change it: by its handle, because a name may become a link."""
    handle = os.open(name, _HANDLE, dir_fd=parent)
    try:
        if os.fstat(handle).st_mode & 0o700 != 0o700:
            Path(f"/proc/self/fd/{handle}").chmod(0o700)
    finally:
        os.close(handle)
    return os.open(name, _FOLDER, dir_fd=parent)
