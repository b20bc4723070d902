"""Unpacks a bundle that is a zip of directories."""

import encodings.cp437  # noqa: F401 -- zipfile imports it at the first use, in each worker
import os
import stat
import zipfile
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final

MAX_MEMBERS: Final = 200_000
MAX_UNPACKED: Final = 64 << 30
FREE_UNPACKED: Final = 1 << 30
MAX_RATIO: Final = 100
"""Over `FREE_UNPACKED` bytes, this multiple of the zip's size is allowed; code and weights need less."""


class ArchiveError(ValueError):
    """The zip is not one, or holds something that a bundle may not hold."""


def unpack(
    file: BinaryIO, folder: Path, max_members: int = MAX_MEMBERS, max_bytes: int = MAX_UNPACKED
) -> None:
    """Unpack a zip. Raise `ArchiveError` if it can't be read, is too large, or has a link or a member outside."""
    try:
        with zipfile.ZipFile(file) as archive:
            extract(archive, folder, archive.infolist(), max_members, max_bytes)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError) as error:
        raise ArchiveError(f"the bundle is not a zip that can be read: {error}") from None
    except (IndexError, FileExistsError, IsADirectoryError, NotADirectoryError) as error:
        raise ArchiveError(f"the zip has names that don't go together, or an empty one: {error}") from None


def extract(
    archive: zipfile.ZipFile,
    folder: Path,
    members: list[zipfile.ZipInfo],
    max_members: int = MAX_MEMBERS,
    max_bytes: int = MAX_UNPACKED,
) -> None:
    """Unpack these members of a zip. Raise `ArchiveError` if they are too large, or one is a link or lies outside."""
    assert archive.fp is not None
    # Not what the members say that they take: they may all be the same bytes of the file.
    size = archive.fp.seek(0, os.SEEK_END)
    _check(members, max_members, min(max_bytes, max(FREE_UNPACKED, MAX_RATIO * size)))
    # A member never gives more bytes than it says, so that the check holds for what is written.
    archive.extractall(folder, members)


def _check(members: list[zipfile.ZipInfo], max_members: int, max_bytes: int) -> None:
    if len(members) > max_members:
        raise ArchiveError(f"the zip has {len(members)} members, at most {max_members} are allowed")
    size = sum(member.file_size for member in members)
    if size > max_bytes:
        raise ArchiveError(f"the zip unpacks to {size} bytes, at most {max_bytes} are allowed")
    for member in members:
        path = PurePosixPath(member.filename)
        if path.is_absolute() or ".." in path.parts:
            raise ArchiveError(f"the zip's member {member.filename!r} lies outside of the bundle")
        if stat.S_ISLNK(member.external_attr >> 16):
            raise ArchiveError(f"the zip's member {member.filename!r} is a link: pack the file itself")
