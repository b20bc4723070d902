"""What every worker needs beside its bundle's own requirements: the worker runtime and cloudpickle.

They are copied out of the server's installation into a folder of their own, which the command line of a worker or of
a nursery puts at the end of its path: what the bundle pins wins, and nothing else of the server's is seen.
"""

import compileall
import hashlib
import shutil
import threading
import uuid
from pathlib import Path

import cloudpickle

import openlaunch_worker

_PACKAGES = {"openlaunch_worker": openlaunch_worker.__file__, "cloudpickle": cloudpickle.__file__}

_installing = threading.Lock()
"""The first builds of a server may want it at once, each in a thread."""


def _sources() -> list[tuple[Path, Path]]:
    """Return each source file, and where it lies in the runtime."""
    found: list[tuple[Path, Path]] = []
    for name, init in _PACKAGES.items():
        package = Path(init).parent
        found += [(path, Path(name) / path.relative_to(package)) for path in package.rglob("*.py")]
    return sorted(found, key=lambda pair: pair[1])


def install_runtime(root: Path) -> Path:
    """Copy the runtime below `root` if it is not there yet, remove other versions of it, and return its folder."""
    sources = [(target, path.read_bytes()) for path, target in _sources()]
    digest = hashlib.sha256()
    for target, data in sources:
        digest.update(f"{target}\0{len(data)}\0".encode() + data)
    folder = root / digest.hexdigest()[:16]
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _installing:
        if not folder.exists():
            _write(folder, sources)
        for other in root.iterdir():
            if other != folder:
                shutil.rmtree(other, ignore_errors=True)
    return folder


def _write(folder: Path, sources: list[tuple[Path, bytes]]) -> None:
    """Write the files with their bytecode: workers, who see the folder read-only, can't add it."""
    half = folder.with_name(f"new-{uuid.uuid4().hex}")
    for target, data in sources:
        path = half / target
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    compileall.compile_dir(half, quiet=2, stripdir=str(half), prependdir=str(folder))
    make_readable(half)
    half.rename(folder)


def make_readable(folder: Path) -> None:
    """Let the user that workers become read a folder, in which nobody's code has been."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | (0o555 if path.is_dir() else 0o444))


def has_bytecode(runtime: Path, version: str) -> bool:
    """Return whether the runtime has the bytecode of a minor version of Python, such as "3.12"."""
    name = f"__init__.cpython-{version.replace('.', '')}.pyc"
    return (runtime / "openlaunch_worker" / "__pycache__" / name).exists()
