"""Unpacks zips that modules are imported from, such as zipapps, so that the modules are files."""

import atexit
import logging
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Final

log = logging.getLogger(__name__)

MAX_UNPACKED: Final = 1 << 28
"""Bytes of what is in a zip; of a larger one, the Python files go along, or if these are more, functions by value."""

_CODE: Final = (".py", ".pyc", "/METADATA", "/entry_points.txt")
"""How the names of files end that modules in a zip need to be imported."""


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
        chosen = opened.infolist()
        if _size_of(chosen) > MAX_UNPACKED:
            chosen = [one for one in chosen if one.filename.endswith(_CODE)]
            fits = _size_of(chosen) <= MAX_UNPACKED
            left = "what is not code" if fits else "what its modules import late"
            log.warning("%s has more than %s bytes: %s in it does not go along", archive, MAX_UNPACKED, left)
            if not fits:
                return None
        folder = Path(tempfile.mkdtemp(prefix="openlaunch-zip-")).resolve()
        atexit.register(_remove, folder, os.getpid())
        opened.extractall(folder, chosen)
    return folder


def _size_of(files: Iterable[zipfile.ZipInfo]) -> int:
    return sum(one.file_size for one in files)


def _remove(folder: Path, owner: int) -> None:
    """Remove a folder, in the process that has made it: one that was forked ends earlier."""
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)
