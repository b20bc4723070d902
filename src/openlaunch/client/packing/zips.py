"""Zips directories, and finds functions in zips."""

import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from openlaunch.client.packing.folders import MAX_ENTRIES, SKIPPED
from openlaunch.errors import BundleError

MAX_BUNDLE_BYTES = 1024**3
MAX_DEFLATED = 1 << 22
"""Larger files are mostly weights and images, which deflate slowly and hardly."""


def pack_directories(base_paths: Sequence[str | Path]) -> bytes:
    """Zip directories, each under its own name; the same files give the same bytes. Raises as `files_of` does."""
    return zipped(files_of(base_paths))


def files_of(base_paths: Sequence[str | Path]) -> dict[str, Path]:
    """Return the files of directories by their names in a bundle.

    Raises BundleError when a path is not a directory, two have the same name, or all is too much.
    """
    if not base_paths:
        raise BundleError("base_paths is empty: name at least one directory")
    files: dict[str, Path] = {}
    with readable():
        for base in base_paths:
            for name, path in _files_in(Path(base)):
                if name in files:
                    raise BundleError(f"{files[name]} and {path} would both be {name} in the bundle")
                files[name] = path
                if len(files) > MAX_ENTRIES:
                    raise BundleError(
                        f"there are more than {MAX_ENTRIES:,} files, the last is {path}: name less"
                    )
        total = sum(path.stat().st_size for path in files.values())
    if total > MAX_BUNDLE_BYTES:
        raise BundleError(f"the directories hold {total} bytes, the limit is {MAX_BUNDLE_BYTES}")
    return files


def _files_in(base: Path) -> Iterator[tuple[str, Path]]:
    if not base.is_dir():
        raise BundleError(f"the base path {str(base)!r} is not a directory (seen from {Path.cwd()})")
    root = base.resolve()
    folders = [root]
    while folders:
        for path in folders.pop().iterdir():
            if path.name in SKIPPED or path.suffix == ".pyc":
                continue
            if path.is_dir():
                if path.is_symlink():
                    raise BundleError(f"{path} is a link to a directory: name its target in base_paths")
                folders.append(path)
            elif path.is_file():
                yield path.relative_to(root.parent).as_posix(), path


def zipped(files: dict[str, Path], made: dict[str, bytes] | None = None) -> bytes:
    """Zip files, and bytes that were made, by their names; the same give the same bytes."""
    buffer = BytesIO()
    made = made or {}
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted({*files, *made}):
            info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            info.external_attr = 0o644 << 16
            data = made[name] if name in made else _read(files[name])
            large = len(data) > MAX_DEFLATED
            archive.writestr(info, data, zipfile.ZIP_STORED if large else zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


@contextmanager
def readable() -> Iterator[None]:
    """Raise BundleError, which names the file or folder, where one can't be read."""
    try:
        yield
    except OSError as error:
        raise _unreadable(error.filename, error) from error


def _unreadable(path: object, error: OSError) -> BundleError:
    reason = error.strerror or error
    return BundleError(f"{path} can't be read: {reason}; make it readable, or leave it out of the bundle")


def bounded(data: bytes, largest: Callable[[], str] = str) -> bytes:
    """Return a bundle's bytes; raise BundleError for more than a bundle may have, with what is `largest` in it."""
    if len(data) > MAX_BUNDLE_BYTES:
        named = f", of which the most are {found}" if (found := largest()) else ""
        raise BundleError(
            f"the bundle has {len(data)} bytes{named}, the limit is {MAX_BUNDLE_BYTES}: "
            "fetch large models in load_model_fn instead"
        )
    return data


def names_in_zip(data: bytes) -> list[str]:
    """List the names of a zip's files."""
    with zipfile.ZipFile(BytesIO(data)) as archive:
        return archive.namelist()


def find_in_zip(module_path: str, names: Iterable[str], what: str) -> str:
    """Find the dotted path of a function inside the zip.

    A path that is given from within a base directory is completed with that directory's name, where only one
    of them has such a module.

    Raises:
        BundleError: there is no such module.
    """
    module, dot, function = module_path.rpartition(".")
    if not dot or not module or not function.isidentifier():
        raise BundleError(
            f"{what} is {module_path!r}, a path such as my_module.my_file.my_function is needed"
        )
    known = set(names)
    if _has_module(module, known):
        return module_path
    tops = sorted({name.split("/", 1)[0] for name in known})
    inside = [top for top in tops if _has_module(f"{top}.{module}", known)]
    if len(inside) == 1:
        return f"{inside[0]}.{module_path}"
    raise BundleError(
        f"{what} is {module_path!r}, but there is no module {module!r} in the bundle; "
        f"a path begins with one of {', '.join(tops) or 'no directory'}"
    )


def _has_module(module: str, names: set[str]) -> bool:
    path = module.replace(".", "/")
    return f"{path}.py" in names or f"{path}/__init__.py" in names


def module_in_zip(data: bytes, module: str) -> bytes:
    """Read the source of a module that is in a zip."""
    path = module.replace(".", "/")
    with zipfile.ZipFile(BytesIO(data)) as archive:
        names = archive.namelist()
        return archive.read(f"{path}.py" if f"{path}.py" in names else f"{path}/__init__.py")
