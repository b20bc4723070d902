"""What the statements of modules define, what they use, and what a change of some of them changes in turn."""

import ast
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from copy import copy
from typing import Any, Final, NamedTuple, TypeVar

T = TypeVar("T")
S = TypeVar("S", bound=ast.stmt)

Node = tuple[str, str]
"""A name of a module, such as `("app", "load")`; of a method `("app", "Model.predict")`."""

FUNCTION: Final = (ast.FunctionDef, ast.AsyncFunctionDef)
_MAKERS: Final = frozenset({"__init__", "__new__", "__post_init__"})
"""Methods that are called where an object of their class is made."""


def _remembered(make: Callable[[Any], T]) -> Callable[[Any], T]:
    """Have what is made of a node kept with it: most modules of a program are the same after an edit."""
    key = f"_openlaunch_{make.__name__}"

    def remembering(node: Any) -> T:
        kept = vars(node)
        if key not in kept:
            kept[key] = make(node)
        return kept[key]  # type: ignore[no-any-return]

    return remembering


@_remembered
def text_of(node: ast.AST) -> str:
    """Return all that a node says."""
    return ast.dump(node)


@_remembered
def skeleton(statement: ast.stmt) -> str:
    """Return what a statement says apart from the bodies of its functions, which can be replaced in place."""
    if isinstance(statement, FUNCTION) and not statement.decorator_list:
        return ast.dump(_without_body(statement))
    if isinstance(statement, ast.ClassDef):
        return ast.dump(_without_bodies(statement))
    return text_of(statement)


@_remembered
def _without_body(function: ast.stmt) -> ast.stmt:
    bare = _copied(function)
    bare.body = []  # type: ignore[attr-defined]
    return bare


@_remembered
def _without_bodies(kind: ast.ClassDef) -> ast.ClassDef:
    bare = _copied(kind)
    bare.body = [_without_body(each) if isinstance(each, FUNCTION) else each for each in kind.body]
    return bare


def _copied(node: S) -> S:
    """Return a copy without what is remembered of the node."""
    bare = copy(node)
    for name in [each for each in vars(bare) if each.startswith("_openlaunch_")]:
        delattr(bare, name)
    return bare


def differences(old: ast.Module, new: ast.Module) -> set[str]:
    """Return the names that two versions of a module define differently."""
    if old is new:
        return set()
    before, after = set(map(text_of, old.body)), set(map(text_of, new.body))
    parts = {part for each in old.body for part in _parts(each)}
    shapes = [set(map(skeleton, each.body)) for each in (old, new)]
    found: set[str] = set()
    for statement in (each for each in new.body if text_of(each) not in before):
        if skeleton(statement) in shapes[0]:
            found |= {name for name, text in _parts(statement) if (name, text) not in parts}
        else:
            found |= names_of(statement)
    for statement in (each for each in old.body if text_of(each) not in after):
        if skeleton(statement) not in shapes[1]:
            found |= names_of(statement)
    return found


def _parts(statement: ast.stmt) -> Iterator[tuple[str, str]]:
    """Yield the functions that a statement defines, by name, with what each says."""
    if isinstance(statement, FUNCTION):
        yield statement.name, text_of(statement)
    elif isinstance(statement, ast.ClassDef):
        for method in _methods(statement):
            yield f"{statement.name}.{method.name}", text_of(method)


def _methods(kind: ast.ClassDef) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [each for each in kind.body if isinstance(each, FUNCTION)]


def names_of(statement: ast.stmt) -> set[str]:
    """Return the names that a statement defines, with those of a class's methods."""
    if isinstance(statement, FUNCTION):
        return {statement.name}
    if isinstance(statement, ast.ClassDef):
        return {statement.name, *(f"{statement.name}.{each.name}" for each in _methods(statement))}
    return set(_bound(statement))


def _bound(node: ast.AST) -> Iterator[str]:
    """Yield the names that a statement binds in its module, also where it is an `if` or a `try`."""
    if isinstance(node, (*FUNCTION, ast.ClassDef)):
        yield node.name
        return
    if isinstance(node, ast.Lambda):
        return
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    elif isinstance(node, ast.Import | ast.ImportFrom):
        yield from (each.asname or each.name.partition(".")[0] for each in node.names)
    for child in ast.iter_child_nodes(node):
        yield from _bound(child)


@_remembered
def _defined_in(tree: ast.Module) -> frozenset[str]:
    return frozenset(each for statement in tree.body for each in names_of(statement))


@_remembered
def _import_statements(tree: ast.Module) -> tuple[ast.Import | ast.ImportFrom, ...]:
    return tuple(node for statement in tree.body for node in _mentioned(statement).imports)


class _Mentioned(NamedTuple):
    """What a node's text has: names that are read, attributes, of which name or of something else, and imports."""

    names: frozenset[str]
    attributes: frozenset[tuple[str, str]]
    imports: tuple[ast.Import | ast.ImportFrom, ...]


@_remembered
def _mentioned(within: ast.AST) -> _Mentioned:
    names: set[str] = set()
    attributes: set[tuple[str, str]] = set()
    imports: list[ast.Import | ast.ImportFrom] = []
    for node in ast.walk(within):
        if isinstance(node, ast.Name):
            if isinstance(node.ctx, ast.Load):
                names.add(node.id)
        elif isinstance(node, ast.Attribute):
            attributes.add((node.value.id if isinstance(node.value, ast.Name) else "", node.attr))
        elif isinstance(node, ast.Import | ast.ImportFrom):
            imports.append(node)
    return _Mentioned(frozenset(names), frozenset(attributes), tuple(imports))


class Dependencies:
    """Which names of a program's modules use which others, as their text shows it; in doubt, they do."""

    def __init__(self, trees: Mapping[str, ast.Module], packages: Mapping[str, str]) -> None:
        self._trees = trees
        self._packages = packages
        self._defined = {name: _defined_in(tree) for name, tree in trees.items()}
        self._methods: dict[str, set[Node]] = {}
        for module, names in self._defined.items():
            for name in names:
                if "." in name:
                    self._methods.setdefault(name.rpartition(".")[2], set()).add((module, name))
        self._aliases = {name: dict(self._imported(name, tree)) for name, tree in trees.items()}
        self._seen_from = {name: self._imports_below(name) for name in trees}
        self._methods_seen: dict[Node, list[Node]] = {}
        """The methods of an attribute's name that a module may have objects with."""

    def _imported(self, module: str, tree: ast.Module) -> Iterator[tuple[str, str]]:
        """Yield the names under which a module knows other modules."""
        for node in _import_statements(tree):
            if isinstance(node, ast.Import):
                yield from ((e.asname or e.name.partition(".")[0], e.name) for e in node.names)
            else:
                of = self._module_of(module, node)
                yield from (
                    (e.asname or e.name, f"{of}.{e.name}")
                    for e in node.names
                    if f"{of}.{e.name}" in self._trees
                )

    def _module_of(self, module: str, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = self._packages[module].split(".")
        base = parts[: len(parts) - node.level + 1]
        return ".".join([*base, *([node.module] if node.module else [])])

    def in_order(self) -> list[str]:
        """Return the modules, each behind those that it imports, as far as they do not import each other."""
        found: list[str] = []
        under_way: set[str] = set()

        def visit(module: str) -> None:
            if module not in self._trees or module in under_way:
                return
            under_way.add(module)
            for each in self._imports_of(module):
                visit(each)
            found.append(module)

        for module in self._trees:
            visit(module)
        return found

    def _imports_of(self, module: str) -> Iterator[str]:
        yield from self._aliases[module].values()
        for node in _import_statements(self._trees[module]):
            if isinstance(node, ast.ImportFrom):
                yield self._module_of(module, node)

    def _imports_below(self, module: str) -> set[str]:
        """Return a module and those that it imports, directly or not: whose objects it may have."""
        found: set[str] = set()
        todo = [module]
        while todo:
            if (name := todo.pop()) in self._trees and name not in found:
                found.add(name)
                todo += self._imports_of(name)
        return found

    def reached(self, seeds: Iterable[Node]) -> set[Node]:
        """Return these names and all that use them, directly or not."""
        seeds = list(seeds)
        changed = {module for module, _ in seeds}
        users: dict[Node, set[Node]] = {}
        for user, used in self._edges(changed):
            users.setdefault(used, set()).add(user)
        found: set[Node] = set()
        todo = list(seeds)
        while todo:
            if (node := todo.pop()) not in found:
                found.add(node)
                todo += users.get(node, ())
        return found

    def _edges(self, changed: Collection[str]) -> Iterator[tuple[Node, Node]]:
        """Yield the uses in all modules that have to do with those that changed."""
        for module, tree in self._trees.items():
            if self._seen_from[module].isdisjoint(changed):
                continue
            for statement in tree.body:
                if isinstance(statement, ast.ClassDef):
                    for method in _methods(statement):
                        node = module, f"{statement.name}.{method.name}"
                        yield from ((node, used) for used in self._used(module, method))
                        if method.name in _MAKERS:
                            yield (module, statement.name), node
                    yield from (((module, statement.name), used) for used in self.headers(module, statement))
                elif isinstance(statement, ast.ImportFrom) and statement.names[0].name != "*":
                    of = self._module_of(module, statement)
                    yield from (((module, e.asname or e.name), (of, e.name)) for e in statement.names)
                else:
                    used = self._used(module, statement)
                    yield from (((module, name), each) for name in names_of(statement) for each in used)

    def headers(self, module: str, statement: ast.stmt) -> set[Node]:
        """Return the names that are used when a statement is run; what its functions' bodies use is not."""
        if isinstance(statement, FUNCTION):
            return self._used(module, _without_body(statement))
        if isinstance(statement, ast.ClassDef):
            return self._used(module, _without_bodies(statement))
        return self._used(module, statement)

    def _used(self, module: str, within: ast.AST) -> set[Node]:
        found: set[Node] = set()
        mentioned = _mentioned(within)
        found.update((module, name) for name in mentioned.names)
        for value, name in mentioned.attributes:
            found.update(self._of_attribute(module, value, name))
        for node in mentioned.imports:
            if isinstance(node, ast.ImportFrom):
                of = self._module_of(module, node)
                names = {each.name for each in node.names}
                found |= {(of, each) for each in (self._defined.get(of, ()) if "*" in names else names)}
        return found

    def _of_attribute(self, module: str, value: str, name: str) -> Collection[Node]:
        """Return what an attribute may be: a name of a module, or a method of any class."""
        known = self._aliases[module].get(value)
        if known is not None:
            return {(known, name)} if known in self._trees else ()
        if (seen := self._methods_seen.get((module, name))) is None:
            below = self._seen_from[module]
            seen = [each for each in self._methods.get(name, ()) if each[0] in below]
            self._methods_seen[module, name] = seen
        return seen
