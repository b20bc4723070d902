"""Collects the files of a bundle's code: the user's modules, and a folder that is named."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from openlaunch.client.packing.bytecode import compiled, place_of_bytecode
from openlaunch.client.packing.folders import Choice, files_below, is_excluded
from openlaunch.client.packing.local_packages import notes_about
from openlaunch.client.packing.own_code import Source, site_folders
from openlaunch.errors import BundleError
from openlaunch_worker.own_code import CODE, MODULES

MAX_MODULES_BYTES: Final = 1 << 26
"""Bytes of modules and packages that go along because they are imported."""
MAX_FOLDER_BYTES: Final = 1 << 30
_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class CodeFiles:
    """Files by their path in the bundle, the bytecode of some, and the folders that `sys.path` begins with.

    `folder` is where relative paths begin, None for the worker's own folder.
    """

    files: dict[str, Path]
    bytecode: dict[str, bytes]
    path: tuple[str, ...] = (MODULES,)
    folder: str | None = None


def collect(sources: Collection[Source], code_dir: Path | None, choice: Choice) -> CodeFiles:
    """Collect the files of modules, and those of the folder.

    A package goes along whole, with its data; of a folder without an `__init__.py`, the modules that are used. What
    lies in `code_dir` keeps its place there.

    Raises:
        BundleError: the folder is not there, or there is too much.
    """
    home = None if code_dir is None else _folder(code_dir)
    files: dict[str, Path] = {}
    path = [MODULES]
    whole: set[Path] = set()
    for source in sorted(sources, key=lambda one: one.name):
        root, below = source.root, MODULES
        if source.is_renamed:
            files.update(_renamed(source, choice))
            continue
        if home is not None and source.file.resolve().is_relative_to(home):
            root, below = source.root.resolve(), CODE
            path.append("/".join([CODE, *root.relative_to(home).parts]))
        found = [] if is_excluded(source.file, choice, source.root) else [source.file]
        if source.is_package and not any(parent in whole for parent in source.file.parents):
            whole.add(source.file.parent)
            found += files_below(source.file.parent, Choice((), choice.exclude, choice.secrets), source.root)
        within = root if below == MODULES else home or root
        files.update((_place(source.root, file, root, within, below), file) for file in found)
    notes = notes_about((source.name for source in sources), site_folders())
    files.update((f"{MODULES}/{name}", file) for name, file in notes.items())
    _check(files, MAX_MODULES_BYTES, "the modules that the functions use, with their packages' data,")
    # Bytecode has the path that it was compiled for, and the same code is to be the same bytes.
    imported = {source.file for source in sources if source.is_python and not source.is_unpacked}
    made = {place_of_bytecode(name): compiled(file) for name, file in files.items() if file in imported}
    bytecode = {name: data for name, data in made.items() if data is not None}
    if home is None:
        return CodeFiles(files, bytecode)
    chosen = {f"{CODE}/{file.relative_to(home).as_posix()}": file for file in files_below(home, choice)}
    _check(chosen, MAX_FOLDER_BYTES, f"the folder {home}")
    return CodeFiles(files | chosen, bytecode, tuple(dict.fromkeys([*path, CODE])), CODE)


def _renamed(source: Source, choice: Choice) -> Iterator[tuple[str, Path]]:
    """Give the files of a module that has another name than its file, under that name."""
    place = f"{MODULES}/{source.name.replace('.', '/')}"
    if not source.is_package:
        yield place + "".join(source.file.suffixes), source.file
        return
    folder = source.file.parent
    for file in files_below(folder, Choice((), choice.exclude, choice.secrets), source.root):
        yield f"{place}/{file.relative_to(folder).as_posix()}", file


def _place(shown_root: Path, file: Path, root: Path, within: Path, below: str) -> str:
    """Return where a file goes that is seen below `shown_root`, which is `root` without links."""
    return f"{below}/{(root / file.relative_to(shown_root)).relative_to(within).as_posix()}"


def _folder(path: Path) -> Path:
    if not path.is_dir():
        raise BundleError(f"code_dir is {str(path)!r}, which is not a folder (seen from {Path.cwd()})")
    return path.resolve()


def _check(files: dict[str, Path], most: int, what: str) -> None:
    sizes = {name: path.stat().st_size for name, path in files.items()}
    if (total := sum(sizes.values())) <= most:
        return
    largest = sorted(sizes, key=lambda name: sizes[name], reverse=True)[:_SHOWN]
    shown = ", ".join(f"{name.partition('/')[2]} ({_mebibytes(sizes[name])})" for name in largest)
    raise BundleError(
        f"{what} are {_mebibytes(total)} in {len(files)} files, at most {_mebibytes(most)} go along; the largest "
        f"are {shown}: name what workers do not need in `exclude` or in a .gitignore, and load large data in "
        "load_model_fn"
    )


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"
