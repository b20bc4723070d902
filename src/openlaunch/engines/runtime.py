"""What every environment needs beside the bundle's own requirements: the worker runtime and cloudpickle.

They are copied out of the server's installation into a folder of their own, which a `.pth` file puts at the
end of the environment's path: what the bundle pins wins, and nothing else of the server's is seen.
"""

import hashlib
import shutil
import uuid
from pathlib import Path

import cloudpickle

import openlaunch_worker

_PACKAGES = {"openlaunch_worker": openlaunch_worker.__file__, "cloudpickle": cloudpickle.__file__}
PTH_NAME = "openlaunch_runtime.pth"


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
    if not folder.exists():
        _write(folder, sources)
    for other in root.iterdir():
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)
    return folder


def _write(folder: Path, sources: list[tuple[Path, bytes]]) -> None:
    half = folder.with_name(f"new-{uuid.uuid4().hex}")
    for target, data in sources:
        path = half / target
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    half.rename(folder)


def link_runtime(environment: Path, runtime: Path) -> None:
    """Put the runtime on the environment's path, if it is not there already."""
    for packages in environment.glob("lib/python3.*/site-packages"):
        pth = packages / PTH_NAME
        line = f"{runtime}\n"
        if not pth.exists() or pth.read_text() != line:
            pth.write_text(line)
