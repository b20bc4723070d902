"""Finds the user's own modules that functions use, without importing any, and the files that they are made of."""

import ast
import importlib.util
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec, PathFinder
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Final, NamedTuple
from zipimport import zipimporter

from openlaunch.client.packing import changed_values
from openlaunch.client.packing.changed_values import Written
from openlaunch.client.packing.local_packages import local_packages
from openlaunch.client.packing.script_texts import Text, may_import_by_name, read
from openlaunch.client.packing.unpacked_zips import unpacked

CLIENT_ONLY: Final = frozenset({"openlaunch", "openlaunch_worker", "pytest", "_pytest"})
"""Packages that workers do not have. A module that imports one of them deploys or tests, as a script does."""

MAIN: Final = "__main__"
MAIN_OF_CHILD: Final = "__mp_main__"
"""The script's name in a process that `multiprocessing` spawns."""

_FILES: Final = (".py", ".pyc", *EXTENSION_SUFFIXES)
"""How the files of modules end: sources, bytecode without one, and what was compiled in place."""
_HOLD_STATEMENTS: Final = ("body", "handlers", "orelse", "finalbody", "cases")

_MOST_BELOW: Final = 1000
"""Limit on the modules that are looked at in a package, where any of them may be imported."""

CACHED: Final = type(lru_cache(lambda: None))
"""What `functools.cache` makes of a function."""


@dataclass(frozen=True, slots=True)
class Source:
    """A module of the user's own that is a file; `root` is the folder that its first name is looked up in.

    One that is in a zip is the file that it is unpacked to, whose path is another one each time.
    """

    name: str
    file: Path
    is_package: bool
    is_unpacked: bool = False

    @property
    def root(self) -> Path:
        return self.file.parents[self.name.count(".") + self.is_package]

    @property
    def is_python(self) -> bool:
        return self.file.suffix == ".py"

    @property
    def is_renamed(self) -> bool:
        """Whether the module has another name than its file, from which a program has made it under that name."""
        named = self.file.parent.name if self.is_package else self.file.name.partition(".")[0]
        return named != self.name.rpartition(".")[2]


@dataclass(frozen=True, slots=True)
class Import:
    """A module that a file imports; `needed` is false where the file can do without, or imports it late."""

    name: str
    needed: bool


def source_of(name: str) -> Source | None:
    """Find a module of the user's own. Return None for one that is installed, or is not a file."""
    if name in (MAIN, MAIN_OF_CHILD) or (spec := _spec_of(name)) is None:
        return None
    if not spec.has_location or spec.origin is None or not spec.origin.endswith(_FILES):
        return None
    loader: object = spec.loader
    if isinstance(loader, zipimporter):
        return _in_zip(name, loader.archive, spec.origin, spec.submodule_search_locations is not None)
    # By the file, because a module of the user's may have the name of one of Python's.
    if is_installed(spec.origin) or not Path(spec.origin).is_file():
        return None
    source = Source(name, Path(spec.origin), spec.submodule_search_locations is not None)
    return None if source.root not in site_folders() and _is_install_target(source.root) else source


def _in_zip(name: str, archive: str, origin: str, is_package: bool) -> Source | None:
    if is_installed(origin) or name.partition(".")[0] in CLIENT_ONLY or (folder := unpacked(archive)) is None:
        return None
    return Source(name, folder / Path(origin).relative_to(archive), is_package, is_unpacked=True)


def _spec_of(name: str) -> ModuleSpec | None:
    loaded = sys.modules.get(name)
    if isinstance(loaded, ModuleType) and isinstance(spec := getattr(loaded, "__spec__", None), ModuleSpec):
        return spec
    parent, _, _ = name.rpartition(".")
    try:
        if not parent:
            return importlib.util.find_spec(name)
        above = _spec_of(parent)
        folders = None if above is None else above.submodule_search_locations
        return None if folders is None else PathFinder.find_spec(name, list(folders))
    except (ImportError, ValueError, AttributeError):
        return None


def is_installed(file: str) -> bool:
    """Return whether a file belongs to Python, to Openlaunch, or to a package that an index may have."""
    return file.startswith(_installed_prefixes()) and not file.startswith(_local_prefixes())


@cache
def _local_prefixes() -> tuple[str, ...]:
    names = ((one.about.parent, name) for one in local_packages(site_folders()) for name in one.modules)
    return tuple(
        f"{folder}/{name}{end}" for folder, name in names if name not in CLIENT_ONLY for end in ("/", ".py")
    )


@cache
def site_folders() -> tuple[Path, ...]:
    """Return the folders that packages are installed in."""
    folders = {sysconfig.get_path(key) for key in ("purelib", "platlib")}
    folders |= {*site.getsitepackages(), site.getusersitepackages()}
    return tuple(Path(folder) for folder in sorted(folders))


@cache
def _installed_prefixes() -> tuple[str, ...]:
    folders = {sysconfig.get_path(key) for key in ("stdlib", "platstdlib")} | set(map(str, site_folders()))
    ours = (Path(__file__).parents[2], Path(__file__).parents[3] / "openlaunch_worker")
    folders.update(map(str, ours))
    return tuple(f"{spelling}/" for folder in folders for spelling in {folder, str(Path(folder).resolve())})


@cache
def _is_install_target(folder: Path) -> bool:
    """Return whether packages were installed into a folder, as with `pip install --target`."""
    return next(folder.glob("*.dist-info"), None) is not None


class _Facts(NamedTuple):
    """What is known of a file from its text."""

    imports: tuple[Import, ...] = ()
    written: tuple[Written, ...] = ()
    starts: tuple[Written, ...] = ()
    called: frozenset[str] = frozenset()
    by_name: Text = Text()


def imports_of(source: Source) -> tuple[Import, ...]:
    """Return the modules that a file imports, wherever in it."""
    return _facts_of(source).imports


def values_written_in(source: Source) -> tuple[Written, ...]:
    """Return the values that a file writes down for names that nothing in it changes."""
    return _facts_of(source).written


def names_called_in(module: str) -> frozenset[str]:
    """Return the names of functions and methods that the file of a module calls."""
    source = source_of(module)
    return frozenset() if source is None else _facts_of(source).called


def starts_in(source: Source) -> tuple[Written, ...]:
    """Return the values that names in a file begin with, as far as it writes them down."""
    return _facts_of(source).starts


def _facts_of(source: Source) -> _Facts:
    if not source.is_python:
        return _Facts()
    status = source.file.stat()
    return _facts_in(str(source.file), status.st_mtime_ns, status.st_size, _package_of(source))


def _package_of(source: Source) -> str:
    return source.name if source.is_package else source.name.rpartition(".")[0]


def computed_imports(source: Source) -> tuple[int, ...]:
    """Return the lines of a file that import under names that it makes, where no text in it names a module."""
    text = _facts_of(source).by_name
    is_named = bool(text.imports) and any(modules_named(text.names, _package_of(source)))
    return () if is_named else text.imports


def modules_named(texts: Iterable[str], package: str) -> Iterator[str]:
    """Give the own modules that texts name, as `models.small` or `models.small.Model`; `models.` names all in it."""
    for text in sorted(texts):
        relative = text.startswith(".")
        name = f"{package}{text}" if relative and package else text
        whole, name = name.endswith("."), name.partition(":")[0].rstrip(".")
        if not all(part.isidentifier() for part in name.split(".")):
            continue
        while name and (source := source_of(name)) is None:
            name, whole = name.rpartition(".")[0], False
        if name:
            yield name
        if whole and source is not None and source.is_package:
            yield from _modules_below(source)


def _modules_below(package: Source) -> Iterator[str]:
    folder = package.file.parent
    for file in islice(sorted(folder.rglob("*.py")), _MOST_BELOW):
        parts = (*file.relative_to(folder).parts[:-1], *([] if file.stem == "__init__" else [file.stem]))
        if parts and all(part.isidentifier() for part in parts):
            yield ".".join((package.name, *parts))


@lru_cache(maxsize=4096)
def _facts_in(file: str, _changed: int, _size: int, package: str) -> _Facts:
    try:
        text = Path(file).read_bytes()
        tree = ast.parse(text)
    except (SyntaxError, ValueError, OSError):
        return _Facts()  # a file of another Python, or half written: importing it says more
    imports = tuple(dict.fromkeys(_walk(tree.body, package, needed=True)))
    names = read(text.decode("utf-8", "replace")) if may_import_by_name(text) else Text()
    calls = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    called = frozenset(str(getattr(one, "attr", getattr(one, "id", ""))) for one in calls)
    written, starts = changed_values.written_in(tree), changed_values.starts_in(tree)
    return _Facts(imports, written, starts, called, names)


def _walk(nodes: Iterable[ast.AST], package: str, *, needed: bool) -> Iterator[Import]:
    """Give the imports among statements and in those that they hold."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, needed) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (
                Import(name, needed) for name in absolute(node.module, node.level, package, node.names)
            )
        elif isinstance(node, ast.If) and _is_for_others(node.test):
            yield from _walk(node.orelse, package, needed=needed)
        else:
            late = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            guarded = isinstance(node, ast.Try) and any(map(_catches_import_error, node.handlers))
            held = (one for field in _HOLD_STATEMENTS for one in getattr(node, field, ()))
            yield from _walk(held, package, needed=needed and not late and not guarded)


def absolute(module: str | None, level: int, package: str, names: Iterable[ast.alias]) -> Iterator[str]:
    """Return the modules that `from module import names` may mean: the module itself, and each name below it."""
    base = module or ""
    if level:
        parts = package.split(".")
        if level > len(parts):
            return
        base = ".".join([*parts[: len(parts) - level + 1], *([module] if module else [])])
    yield base
    yield from (f"{base}.{alias.name}" for alias in names if alias.name != "*")


def _is_for_others(test: ast.expr) -> bool:
    """Return whether a test is true for type checkers alone, or for a script alone."""
    if isinstance(test, ast.Compare):
        return getattr(test.left, "id", "") == "__name__" and isinstance(test.ops[0], ast.Eq)
    return is_for_checkers(test)


def is_for_checkers(test: ast.expr) -> bool:
    """Return whether a test is true for type checkers alone."""
    return (test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", "")) == "TYPE_CHECKING"


def _catches_import_error(handler: ast.ExceptHandler) -> bool:
    caught = [*handler.type.elts] if isinstance(handler.type, ast.Tuple) else [handler.type]
    names = {getattr(one, "id", "") for one in caught if one is not None}
    return handler.type is None or bool(
        names & {"ImportError", "ModuleNotFoundError", "Exception", "BaseException"}
    )


def parents_and(name: str) -> list[str]:
    """Return the packages that a module is in, outermost first, and the module."""
    parts = name.split(".")
    return [".".join(parts[: end + 1]) for end in range(len(parts))]


class OwnModules:
    """Tells which modules workers can import from their sources, and which they get by value, as a script's."""

    def __init__(self) -> None:
        self._by_value: dict[str, bool] = {MAIN: True, MAIN_OF_CHILD: True}
        self._imported: dict[str, bool] = {}

    def is_by_value(self, name: str) -> bool:
        """Return whether a module's functions and classes go along by value.

        A script's do, because running it again would deploy again; so do those of a module that imports what only
        the machine of the client has, and of one that was made without a file.
        """
        known = self._by_value.get(name)
        if known is None:
            self._by_value[name] = False  # for a circle of imports
            known = self._by_value[name] = self._decide(name)
        return known

    def imports(self, name: str) -> bool:
        """Return whether workers import a module of the user's own from its source."""
        known = self._imported.get(name)
        if known is None:
            known = self._imported[name] = not self.is_by_value(name) and source_of(name) is not None
        return known

    def _decide(self, name: str) -> bool:
        source = source_of(name)
        if source is None:
            return _is_made_at_run_time(name)
        for each in imports_of(source):
            if each.needed and (each.name.partition(".")[0] in CLIENT_ONLY or self.is_by_value(each.name)):
                return True
        return any(self.is_by_value(parent) for parent in parents_and(name)[:-1])

    def follow(self, names: Iterable[str]) -> dict[str, Source]:
        """Return the own modules of these names, and those that they import, directly or not, by name."""
        found: dict[str, Source] = {}
        todo = [one for name in names for one in parents_and(name)]
        while todo:
            name = todo.pop()
            if name in found or self.is_by_value(name) or (source := source_of(name)) is None:
                continue
            found[name] = source
            named = modules_named(_facts_of(source).by_name.names, _package_of(source))
            for module in (*(each.name for each in imports_of(source)), *named):
                todo += parents_and(module)
        return found


def _is_made_at_run_time(name: str) -> bool:
    """Return whether a module has no file that could go along: it was made by a program, or is in a large zip."""
    module = sys.modules.get(name)
    if not isinstance(module, ModuleType):
        return False
    if module.__spec__ is None:
        return not hasattr(module, "__file__")
    return isinstance(module.__loader__, zipimporter) and not is_installed(str(module.__spec__.origin))
