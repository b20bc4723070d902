"""Backs up the data directory of the embedded form, beside a running server, and restores it.

Artifacts in a bucket are not in it; the bucket's URL is.

It knows the folders of `DataDir` and a database of SQLite in it; a database server has backups of its own.

A backup is one tar file (gzipped where its name says so): a description, the database as it was at one moment,
the secrets, every artifact, and last the SHA-256 of each, which is also how it is known to be whole. Nothing is held
in memory but a piece of a file, and the sums.

What is not in it is made anew: environments, logs, and the folders of running workers and jobs.
"""

import fcntl
import hashlib
import io
import json
import os
import re
import shutil
import tarfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import IO

from openlaunch import trash
from openlaunch.errors import ConfigurationError
from openlaunch.server.operations.datadir import DataDir
from openlaunch.store.sqlite_files import copy_database, damage

FORMAT = 1
"""Version of the layout of a backup; raise it when the layout changes."""

_DESCRIPTION = "openlaunch-backup.json"
_DATABASE = "openlaunch.db"
_FILES = ("url-secret", "credentials.json", "artifacts-url")
_SUMS = "SHA256SUMS"
_ARTIFACT = re.compile(r"artifacts(/[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}){1,10}")

_PIECE = 1024 * 1024
_MAX_SUMS_BYTES = 1024 * 1024 * 1024
_MAX_DESCRIPTION_BYTES = 64 * 1024
_HALF = ".openlaunch-half"
_SNAPSHOT = ".openlaunch-db"


@dataclass(frozen=True, slots=True)
class BackupReport:
    """What a backup holds: how many files, of how many bytes before they are compressed."""

    files: int
    bytes: int


def back_up(data: DataDir, target: Path) -> BackupReport:
    """Write a backup of the data directory, whether a server runs on it or not. `target` must not be there.

    The database is read at one moment, artifacts after it: so every task, bundle and result that the database
    names is there with its bytes.

    Raises:
        ConfigurationError: there is no database, the target can't be written, or something can't be read.
    """
    if (elsewhere := data.places.records) is not None:
        raise ConfigurationError(
            f"the records of {data.root} are in the {elsewhere}: back them up with pg_dump, and the folder "
            "beside them; `openlaunch docs keep-records-in-postgresql` says how"
        )
    if not data.database.is_file():
        raise ConfigurationError(
            f"there is no database in {data.root}: name the server's data directory with --data-dir"
        )
    if target.exists():
        raise ConfigurationError(f"{target} already exists: name another file, or remove it first")
    try:
        with _begun(target) as (file, half, snapshot):
            copy_database(data.database, snapshot)
            report = _write(data, snapshot, file, compressed=target.suffix in (".gz", ".tgz"))
            file.flush()
            os.fsync(file.fileno())
            half.replace(target)
    except (OSError, tarfile.TarError) as error:
        raise ConfigurationError(f"the backup {target} could not be made: {_reason(error)}") from error
    return report


@contextmanager
def _begun(target: Path) -> Iterator[tuple[IO[bytes], Path, Path]]:
    """Give a file that becomes the backup, its path, and a path for the copy of the database; all are removed.

    Each is for this user alone. The lock on the file says that its backup is being made: what has none is left of one
    that was killed, and is removed by the next backup into the same folder.
    """
    _remove_leftovers(target.parent)
    half = target.with_name(f".{target.name}{_HALF}")
    snapshot = half.with_suffix(_SNAPSHOT)
    with _private(half) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield file, half, snapshot
        finally:
            half.unlink(missing_ok=True)
            snapshot.unlink(missing_ok=True)


def _remove_leftovers(folder: Path) -> None:
    for half in folder.glob(f".*{_HALF}"):
        try:
            with half.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                half.unlink()
                half.with_suffix(_SNAPSHOT).unlink(missing_ok=True)
        except OSError:
            continue  # it is being made, or somebody else's


def _write(data: DataDir, snapshot: Path, file: IO[bytes], *, compressed: bool) -> BackupReport:
    description = {"format": FORMAT, "openlaunch": version("openlaunch"), "created_at": time.time()}
    sums: list[str] = []
    total = 0
    with tarfile.open(fileobj=file, mode="w|gz" if compressed else "w|") as tar:
        _add_bytes(tar, _DESCRIPTION, json.dumps(description).encode())
        for name, path in _members(data, snapshot):
            try:
                content = path.open("rb")
            except FileNotFoundError:
                continue  # the server has deleted it since: nothing in the database needs it
            with content:
                size = os.fstat(content.fileno()).st_size
                summed = _Summed(content)
                tar.addfile(_header(name, size), summed)
            sums.append(f"{summed.digest}  {name}\n")
            total += size
        _add_bytes(tar, _SUMS, "".join(sums).encode())
    return BackupReport(len(sums), total)


def _members(data: DataDir, snapshot: Path) -> Iterator[tuple[str, Path]]:
    yield _DATABASE, snapshot
    for name in _FILES:
        yield name, data.root / name
    for folder, _, names in os.walk(data.artifacts, onerror=_give_up):
        for file_name in names:
            path = Path(folder, file_name)
            name = f"artifacts/{path.relative_to(data.artifacts).as_posix()}"
            if _ARTIFACT.fullmatch(name):  # others are uploads under way
                yield name, path


def _give_up(error: OSError) -> None:
    raise error


class _Summed:
    """A file that is read once, and the SHA-256 of what was read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._sum = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._sum.update(data)
        return data

    @property
    def digest(self) -> str:
        return self._sum.hexdigest()


def _header(name: str, size: int) -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.size, header.mode, header.mtime = size, 0o600, int(time.time())
    return header


def _add_bytes(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    tar.addfile(_header(name, len(data)), io.BytesIO(data))


def restore(source: Path, data: DataDir) -> BackupReport:
    """Make the data directory, which must be new or empty, of a backup. It is complete, or not there.

    Raises:
        ConfigurationError: the directory is in use, the file is not a whole backup, or it can't be written.
    """
    try:
        file = source.open("rb")
    except OSError as error:
        raise ConfigurationError(f"the backup {source} can't be read: {_reason(error)}") from error
    with file:
        _check_empty(data)
        with data.locked():
            folder = data.root / "restoring"
            try:
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir(mode=0o700)
                report = _unpack(file, folder)
                _check_database(folder / _DATABASE)
                _move_in(folder, data.root)
            except (OSError, tarfile.TarError, zlib.error, EOFError, ValueError) as error:
                raise ConfigurationError(f"{source} could not be restored: {_reason(error)}") from error
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    return report


def _check_empty(data: DataDir) -> None:
    """Refuse a directory that is in use; what a failed restore has left (empty folders, the lock) may be there."""
    if not data.root.exists():
        return
    try:
        used = [entry.name for entry in data.root.iterdir() if not _is_nothing(entry)]
    except OSError as error:
        raise ConfigurationError(
            f"{data.root} can't be used: {_reason(error)}; name another with --data-dir"
        ) from error
    if used:
        raise ConfigurationError(
            f"{data.root} is not empty (it has {', '.join(sorted(used)[:3])}): a backup is restored to a new "
            "directory only; name another with --data-dir, or move this one away"
        )


def _is_nothing(entry: Path) -> bool:
    if entry.name in ("lock", "restoring") or entry.name.startswith(trash.PREFIX):
        return True
    return entry.is_dir() and not entry.is_symlink() and not any(entry.iterdir())


def _unpack(file: IO[bytes], folder: Path) -> BackupReport:
    """Write every member below `folder`; raise ValueError unless it is whole, and each has its sum."""
    found: dict[str, str] = {}
    expected: dict[str, str] | None = None
    total = 0
    with tarfile.open(fileobj=file, mode="r|*") as tar:
        for index, member in enumerate(tar):
            content = tar.extractfile(member) if member.isreg() else None
            if expected is not None or content is None:
                raise ValueError(f"{member.name!r} does not belong into a backup")
            if index == 0:
                _check_description(member.name, content.read(_MAX_DESCRIPTION_BYTES))
            elif member.name == _SUMS:
                lines = content.read(_MAX_SUMS_BYTES).decode().splitlines()
                expected = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
            elif member.name in found or not _is_allowed(member.name):
                raise ValueError(f"{member.name[:200]!r} does not belong into a backup")
            else:
                found[member.name] = _write_out(content, folder / member.name)
                total += member.size
    if expected is None:
        raise ValueError("it is not whole: its end is missing")
    if wrong := sorted(name for name in found.keys() | expected if found.get(name) != expected.get(name)):
        raise ValueError(f"{wrong[0]} is not as it was backed up ({len(wrong)} of {len(expected)} files)")
    return BackupReport(len(found), total)


def _is_allowed(name: str) -> bool:
    return name in (_DATABASE, *_FILES) or _ARTIFACT.fullmatch(name) is not None


def _check_description(name: str, data: bytes) -> None:
    try:
        found = json.loads(data)["format"] if name == _DESCRIPTION else None
    except (ValueError, KeyError, TypeError):
        found = None
    if found is None:
        raise ValueError("it was not made by openlaunch")
    if found != FORMAT:
        raise ValueError(
            f"it has the format {found!r}, this version reads {FORMAT}: use the one that made it"
        )


def _write_out(content: IO[bytes], path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    summed = _Summed(content)
    with _private(path) as file:
        shutil.copyfileobj(summed, file, _PIECE)
        file.flush()
        os.fsync(file.fileno())
    return summed.digest


def _check_database(path: Path) -> None:
    if not path.is_file():
        raise ValueError("it has no database")
    if (found := damage(path)) is not None:
        raise ValueError(f"its database is damaged: {found}")


def _move_in(folder: Path, root: Path) -> None:
    """Put everything in its place, the database last: without it, no server takes the folder for its own."""
    names = sorted((entry.name for entry in folder.iterdir()), key=lambda name: name == _DATABASE)
    for name in names:
        (folder / name).replace(root / name)


@contextmanager
def _private(path: Path) -> Iterator[IO[bytes]]:
    """Open a new file for this user alone."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        yield file


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return str(error) or type(error).__name__
