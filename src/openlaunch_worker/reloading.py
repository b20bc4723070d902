"""Brings a program's modules up to date with their files, in place: a model that did not change stays loaded.

A module is a list of statements. Those that changed are run again in the module's own namespace, and so are those
that hold what a changed function has made. A function of which only the body changed gets its new code in place.
"""

import __future__

import ast
import linecache
import sys
import sysconfig
import warnings
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, Final

from openlaunch_worker.dependencies import FUNCTION, Dependencies, Node, differences, names_of, skeleton

_INSTALLED: Final = frozenset({"site-packages", "dist-packages"})
_PYTHONS: Final = Path(sysconfig.get_path("stdlib")).resolve()

Stamp = tuple[int, int]
_FUTURE: Final = sum(getattr(__future__, name).compiler_flag for name in __future__.all_feature_names)


class Broken(Exception):
    """A file can't be run, and everything is as it was; `error` is what was raised."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(error)
        self.error = error


@dataclass
class _Version:
    """A module's file as it was run last, and when it was looked at."""

    stamp: Stamp
    tree: ast.Module


class Modules:
    """The modules of a program that are files of its author's."""

    def __init__(self) -> None:
        self._seen: dict[str, _Version] = {}
        self._looked_at: set[str] = set()
        self.find()

    def find(self) -> None:
        """Note the modules that were imported since the last time."""
        for name in [each for each in list(sys.modules) if each not in self._looked_at]:
            self._looked_at.add(name)
            path = Path(_file(name))
            if name != "__main__" and path.suffix == ".py" and _is_own(path):
                self._seen[name] = _Version(_stamp(path), ast.parse(path.read_bytes()))

    def refresh(self) -> Collection[Node] | None:
        """Bring all up to date, and return the names that mean something else now; None where no file changed.

        Raise `Broken` if a file can't be run, which is tried again once it has changed.
        """
        changed = dict(self._changed())
        if not changed:
            return None
        for name, (stamp, _) in changed.items():
            self._seen[name].stamp = stamp
        try:
            return self._run({name: ast.parse(text, _file(name)) for name, (_, text) in changed.items()})
        except (Exception, SystemExit) as error:
            raise Broken(error) from error
        finally:
            self.find()

    def _changed(self) -> Iterator[tuple[str, tuple[Stamp, bytes]]]:
        for name, version in self._seen.items():
            path = Path(_file(name))
            try:
                if (stamp := _stamp(path)) != version.stamp:
                    yield name, (stamp, path.read_bytes())
            except OSError:
                continue  # an editor puts another file in its place, or it was deleted

    def _run(self, new: Mapping[str, ast.Module]) -> Collection[Node]:
        old = {name: version.tree for name, version in self._seen.items()}
        trees = {**old, **new}
        packages = {name: sys.modules[name].__package__ or "" for name in trees}
        uses = Dependencies(trees, packages)
        seeds = {(name, each) for name in new for each in differences(old[name], new[name])}
        stale = uses.reached(seeds)
        names = {name for name, _ in stale if name in trees} | set(new)
        undo = _Undo(names)
        try:
            for name in (each for each in uses.in_order() if each in names):
                again = [s for s in trees[name].body if _is_stale(name, s, stale, uses)]
                _Rerun(name, old[name], trees[name], again, undo).run()
        except BaseException:
            undo.all()
            raise
        for name, tree in new.items():
            self._seen[name].tree = tree
        return stale


def _is_stale(module: str, statement: ast.stmt, stale: Collection[Node], uses: Dependencies) -> bool:
    """Return whether a statement that did not change has made something of what did."""
    if isinstance(statement, FUNCTION) and statement.decorator_list:
        return (module, statement.name) in stale  # such as a cache of what the function has made
    return not stale.isdisjoint(uses.headers(module, statement))  # type: ignore[attr-defined]


class _Undo:
    """What modules and functions were before, should one of the files fail."""

    def __init__(self, names: Collection[str]) -> None:
        self._values = {name: dict(vars(sys.modules[name])) for name in names}
        self.codes: list[tuple[FunctionType, CodeType]] = []

    def all(self) -> None:
        for name, values in self._values.items():
            namespace = vars(sys.modules[name])
            for added in namespace.keys() - values.keys():
                del namespace[added]
            namespace.update(values)
        for function, code in self.codes:
            _give(function, code)


def _give(function: FunctionType, code: CodeType) -> None:
    with warnings.catch_warnings():
        # Python 3.13 warns where a function becomes a generator or a coroutine, as its file now says.
        warnings.filterwarnings("ignore", "Assigning a code object", DeprecationWarning)
        function.__code__ = code


class _Rerun:
    """Runs again what has to be of one module, and gives its functions their new code."""

    def __init__(
        self, name: str, old: ast.Module, new: ast.Module, again: Collection[ast.stmt], undo: _Undo
    ) -> None:
        self._old, self._new, self._again, self._undo = old, new, again, undo
        self._file = _file(name)
        self._namespace = vars(sys.modules[name])

    def run(self) -> None:
        if self._new is self._old:
            for statement in self._again:
                self._execute(statement, _flags(self._new))
            return
        linecache.checkcache(self._file)
        whole = compile(self._new, self._file, "exec", dont_inherit=True)
        flags = whole.co_flags & _FUTURE
        before = set(map(skeleton, self._old.body))
        now = {each for statement in self._new.body for each in names_of(statement)}
        for gone in {each for statement in self._old.body for each in names_of(statement)} - now:
            self._namespace.pop(gone, None)
        rest = []
        for statement in self._new.body:
            if statement in self._again or skeleton(statement) not in before:
                self._execute(statement, flags)
            else:
                rest.append(statement)
        given = self._give_code(whole)
        changed = differences(self._old, self._new)
        for statement in rest:
            if not changed & names_of(statement) <= given:
                self._execute(statement, flags)  # a decorator hides a function of it

    def _execute(self, statement: ast.stmt, flags: int) -> None:
        module = ast.Module([statement], [])
        exec(compile(module, self._file, "exec", flags, dont_inherit=True), self._namespace)  # noqa: S102 -- the user's own file

    def _give_code(self, whole: CodeType) -> set[str]:
        """Give each function of the module the code that it has in the new version, and return their names.

        Those that did not change get the numbers of their lines.
        """
        codes: dict[str, CodeType | None] = {}
        for each in _codes_in(whole):
            codes[each.co_qualname] = None if each.co_qualname in codes else each
        given = set()
        for function in self._functions():
            code = codes.get(function.__code__.co_qualname)
            if code is None or len(code.co_freevars) != len(function.__code__.co_freevars):
                continue
            given.add(code.co_qualname)
            if code != function.__code__:
                self._undo.codes.append((function, function.__code__))
                _give(function, code)
        return given

    def _functions(self) -> Iterator[FunctionType]:
        """Yield the functions of the module's file that its names lead to, through classes and decorators."""
        todo: list[Any] = list(self._namespace.values())
        seen: set[int] = set()
        while todo:
            found = todo.pop()
            if id(found) in seen:
                continue
            seen.add(id(found))
            if isinstance(found, FunctionType) and found.__code__.co_filename == self._file:
                yield found
            if isinstance(found, type) and found.__module__ == self._namespace["__name__"]:
                todo += vars(found).values()
            elif isinstance(found, property):
                todo += [found.fget, found.fset, found.fdel]
            else:
                wrapped = getattr(found, "__dict__", {}) if not isinstance(found, type) else {}
                todo += [w for w in (wrapped.get("__wrapped__"), _func(found)) if w is not None]


def _flags(tree: ast.Module) -> int:
    """Return the flags of what a module imports from `__future__`."""
    imports = (each for each in tree.body if isinstance(each, ast.ImportFrom) and each.module == "__future__")
    return sum(getattr(__future__, name.name).compiler_flag for each in imports for name in each.names)


def _is_own(path: Path) -> bool:
    """Return whether a file belongs neither to Python, nor to an installed package, nor to Openlaunch."""
    if not _INSTALLED.isdisjoint(path.parts) or path.is_relative_to(_PYTHONS):
        return False
    return not {"openlaunch", "openlaunch_worker"} & set(path.parts[-4:-1])


def _func(found: Any) -> Any:
    return found.__func__ if isinstance(found, staticmethod | classmethod) else None


def _codes_in(code: CodeType) -> Iterator[CodeType]:
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield each
            if "<locals>" not in each.co_qualname:
                yield from _codes_in(each)


def _file(name: str) -> str:
    return str(getattr(sys.modules.get(name), "__file__", None) or "")


def _stamp(path: Path) -> Stamp:
    status = path.stat()
    return status.st_mtime_ns, status.st_size
