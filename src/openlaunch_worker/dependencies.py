"""What the statements of modules define, what they use, and what a change of some of them changes in turn."""

import ast
from collections.abc import Collection, Iterable, Iterator, Mapping
from copy import copy
from functools import lru_cache
from typing import Final

Node = tuple[str, str]
"""A name of a module, such as `("app", "load")`; of a method `("app", "Model.predict")`."""

FUNCTION: Final = (ast.FunctionDef, ast.AsyncFunctionDef)
_MAKERS: Final = frozenset({"__init__", "__new__", "__post_init__"})
"""Methods that are called where an object of their class is made."""


def skeleton(statement: ast.stmt) -> str:
    """Return what a statement says apart from the bodies of its functions, which can be replaced in place."""
    if isinstance(statement, FUNCTION) and not statement.decorator_list:
        return ast.dump(_without_body(statement))
    if isinstance(statement, ast.ClassDef):
        bare = copy(statement)
        bare.body = [_without_body(each) if isinstance(each, FUNCTION) else each for each in statement.body]
        return ast.dump(bare)
    return ast.dump(statement)


def _without_body(function: ast.stmt) -> ast.stmt:
    bare = copy(function)
    bare.body = []  # type: ignore[attr-defined]
    return bare


def differences(old: ast.Module, new: ast.Module) -> set[str]:
    """Return the names that two versions of a module define differently."""
    before, after = set(map(ast.dump, old.body)), set(map(ast.dump, new.body))
    parts = {part for each in old.body for part in _parts(each)}
    shapes = [set(map(skeleton, each.body)) for each in (old, new)]
    found: set[str] = set()
    for statement in (each for each in new.body if ast.dump(each) not in before):
        if skeleton(statement) in shapes[0]:
            found |= {name for name, text in _parts(statement) if (name, text) not in parts}
        else:
            found |= names_of(statement)
    for statement in (each for each in old.body if ast.dump(each) not in after):
        if skeleton(statement) not in shapes[1]:
            found |= names_of(statement)
    return found


def _parts(statement: ast.stmt) -> Iterator[tuple[str, str]]:
    """Yield the functions that a statement defines, by name, with what each says."""
    if isinstance(statement, FUNCTION):
        yield statement.name, ast.dump(statement)
    elif isinstance(statement, ast.ClassDef):
        for method in _methods(statement):
            yield f"{statement.name}.{method.name}", ast.dump(method)


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


@lru_cache(maxsize=4096)
def _defined_in(tree: ast.Module) -> frozenset[str]:
    return frozenset(each for statement in tree.body for each in names_of(statement))


@lru_cache(maxsize=4096)
def _import_statements(tree: ast.Module) -> tuple[ast.Import | ast.ImportFrom, ...]:
    return tuple(node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom))


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
            bare = copy(statement)
            bare.body = [
                _without_body(each) if isinstance(each, FUNCTION) else each for each in statement.body
            ]
            return self._used(module, bare)
        return self._used(module, statement)

    def _used(self, module: str, within: ast.AST) -> set[Node]:
        found: set[Node] = set()
        for node in ast.walk(within):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                found.add((module, node.id))
            elif isinstance(node, ast.Attribute):
                found.update(self._of_attribute(module, node))
            elif isinstance(node, ast.ImportFrom):
                of = self._module_of(module, node)
                names = {each.name for each in node.names}
                found |= {(of, each) for each in (self._defined.get(of, ()) if "*" in names else names)}
        return found

    def _of_attribute(self, module: str, node: ast.Attribute) -> Collection[Node]:
        """Return what an attribute may be: a name of a module, or a method of any class."""
        if isinstance(node.value, ast.Name):
            known = self._aliases[module].get(node.value.id)
            if known is not None:
                return {(known, node.attr)} if known in self._trees else ()
        return [each for each in self._methods.get(node.attr, ()) if each[0] in self._seen_from[module]]
