"""Unpacks zips that modules are imported from, such as zipapps, so that the modules are files."""

import atexit
import os
import shutil
import tempfile
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import Final

MAX_UNPACKED: Final = 1 << 28
"""Bytes of what is in a zip; of a larger one, functions and classes go along by value."""


def unpacked(archive: str) -> Path | None:
    """Return a folder with the files of a zip, which is removed when the program ends; None if it is too large."""
    try:
        status = Path(archive).stat()
        return _unpacked(archive, status.st_mtime_ns, status.st_size)
    except (OSError, zipfile.BadZipFile):
        return None


@lru_cache(maxsize=64)
def _unpacked(archive: str, _changed: int, _size: int) -> Path | None:
    with zipfile.ZipFile(archive) as opened:
        if sum(one.file_size for one in opened.infolist()) > MAX_UNPACKED:
            return None
        folder = Path(tempfile.mkdtemp(prefix="openlaunch-zip-")).resolve()
        atexit.register(_remove, folder, os.getpid())
        opened.extractall(folder)
    return folder


def _remove(folder: Path, owner: int) -> None:
    """Remove a folder, in the process that has made it: one that was forked ends earlier."""
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)
