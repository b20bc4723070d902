"""Finds what a program has changed in its own modules after their import, which the file of a module does not say.

A module that changes a value itself, in a function, keeps its state: that is of one process. So do values that are
made when it is imported. What is left was set from outside, as in `config.THRESHOLD = 0.9`.
"""

import ast
from collections import Counter
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any, Final, NamedTuple

MAX_PARTS: Final = 10_000
"""Values in a collection; a larger one is data."""
_PLAIN: Final = (str, bytes, int, float, complex, bool, type(None))
_CHANGES: Final = frozenset(
    (
        *("add", "append", "clear", "discard", "extend", "insert", "pop", "popitem", "remove"),
        *("reverse", "setdefault", "sort", "update"),
    )
)
"""Methods that change a list, dict or set."""

Place = tuple[str, ...]


class Written(NamedTuple):
    """A value that a file writes down for a name that nothing in it changes; `path` is the class that has it."""

    path: Place
    name: str
    value: Any


def written_in(tree: ast.Module) -> tuple[Written, ...]:
    """Return the values that a file writes down, of its globals and of attributes of its classes."""
    bodies: list[tuple[Place, list[ast.stmt]]] = [((), tree.body)]
    bodies += [((one.name,), one.body) for one in tree.body if isinstance(one, ast.ClassDef)]
    found = [Written(path, name, value) for path, body in bodies for name, value in _constants(body)]
    changed = set(_changed_within(tree)) if found else set()
    return tuple(one for one in found if one.name not in changed)


def starts_in(tree: ast.Module) -> tuple[Written, ...]:
    """Return the values that names begin with in a file: of globals, of classes, and what `__init__` sets."""
    found = [Written((), name, value) for name, value in _constants(tree.body)]
    for one in tree.body:
        if isinstance(one, ast.ClassDef):
            made = next((each for each in one.body if getattr(each, "name", "") == "__init__"), None)
            values = (*_constants(one.body), *(() if made is None else _set_on_self(made)))
            found += [Written((one.name,), name, value) for name, value in values]
    return tuple(found)


def _set_on_self(made: ast.stmt) -> Iterator[tuple[str, Any]]:
    """Give the attributes that a function sets to values which are written there."""
    for node in ast.walk(made):
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            continue
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        pairs = [(target, node.value)]
        if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
            pairs = [*zip(target.elts, node.value.elts, strict=False)]
        for each, value in pairs:
            if isinstance(each, ast.Attribute):
                try:
                    yield each.attr, ast.literal_eval(value)
                except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
                    continue


def changed_values(module: ModuleType, written: Iterable[Written]) -> dict[Place, dict[str, Any]]:
    """Return the values of a module that are others than its file says, by the class that they are in."""
    found: dict[Place, dict[str, Any]] = {}
    for path, name, value in written:
        holder: Any = module if not path else vars(module).get(path[0])
        now = getattr(holder, "__dict__", {}).get(name, value)
        if differs(now, value) and is_plain(now):
            found.setdefault(path, {})[name] = now
    return found


def _constants(body: list[ast.stmt]) -> Iterator[tuple[str, Any]]:
    """Give the names that a body sets once, to a value that is written there."""
    times = Counter(name for statement in body for name in _names_set(statement))
    for statement in body:
        match statement:
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=value)
                | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
            ) if times[name] == 1 and not name.startswith("__"):
                try:
                    yield name, ast.literal_eval(value)
                except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
                    continue


def _names_set(node: ast.AST) -> Iterator[str]:
    """Give the names that a statement sets in its own scope."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.alias):
        yield (node.asname or node.name).partition(".")[0]
    elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
        yield node.id
    elif not isinstance(node, ast.Lambda):
        for child in ast.iter_child_nodes(node):
            yield from _names_set(child)


def _changed_within(tree: ast.Module) -> Iterator[str]:
    """Give the names, of globals and of attributes, that some code of the module changes or may change."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            yield from node.names
        elif isinstance(node, ast.Subscript | ast.Attribute) and not isinstance(node.ctx, ast.Load):
            yield _last_name(node.value)
            yield node.attr if isinstance(node, ast.Attribute) else ""
        elif isinstance(node, ast.AugAssign):
            yield _last_name(node.target)
        elif (
            isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _CHANGES
        ):
            yield _last_name(node.func.value)


def _last_name(node: ast.AST) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def differs(now: Any, written: Any) -> bool:
    """Return whether a value is another than the one that is written down."""
    try:
        if type(now) is type(written) and bool(now == written):
            return False
        return repr(now) != repr(written)  # of a NaN, which is never the same
    except Exception:
        return True


def is_plain(value: Any) -> bool:
    """Return whether a value is made of texts, numbers and collections alone."""
    todo, parts = [value], 0
    while todo:
        one = todo.pop()
        parts += 1
        if parts > MAX_PARTS:
            return False
        if type(one) is dict:
            todo += [*one.keys(), *one.values()]
        elif type(one) in (list, tuple, set, frozenset):
            todo += one
        elif type(one) not in _PLAIN:
            return False
    return True
