"""Finds out from its source whether a loader returns a generator function, without calling the loader.

The answer is yes only where that is sure: a loader may also return what its model decides.
"""

import ast
import functools
import inspect
from collections.abc import Callable, Container, Iterator, Mapping
from types import CodeType, FunctionType, ModuleType
from typing import Any

from openlaunch_worker.shapes import shape_of

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
_Find = Callable[[str], bool]
"""Tells of a name from outside of the loader whether it is a generator function's."""


def returns_generator(loader: Callable[..., Any]) -> bool:
    """Return whether a loader surely returns a generator function."""
    if not isinstance(loader, FunctionType) or hasattr(loader, "__wrapped__"):
        return False
    found = _definition(loader.__code__)
    return found is not None and _returns_generator(found, functools.partial(_yields, _names_of(loader)))


def returns_generator_in_file(source: bytes, function: str) -> bool:
    """Return whether the function of this name in a file surely returns a generator function."""
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError):
        return False  # the worker says more
    found = [node for node in body if isinstance(node, _Function) and node.name == function]
    if len(found) != 1 or found[0].decorator_list:
        return False
    return _returns_generator(found[0], lambda name: _is_generator(body, name))


def _definition(code: CodeType) -> _Function | ast.Lambda | None:
    """Find where a function is written; None where there is no source, or more than one that it may be."""
    try:
        tree = ast.parse("".join(inspect.findsource(code)[0]))
    except (OSError, SyntaxError, ValueError):
        return None
    positions = set(code.co_positions())
    functions = (node for node in ast.walk(tree) if isinstance(node, _Function | ast.Lambda))
    found = [node for node in functions if _is_of(node, code, positions)]
    return found[0] if len(found) == 1 else None


def _is_of(node: _Function | ast.Lambda, code: CodeType, positions: Container[object]) -> bool:
    if isinstance(node, ast.Lambda):
        body = node.body
        # A line may hold several.
        place = body.lineno, body.end_lineno, body.col_offset, body.end_col_offset
        return code.co_name == "<lambda>" and place in positions
    first_line = min(each.lineno for each in (node, *node.decorator_list))
    return (node.name, first_line) == (code.co_name, code.co_firstlineno)


def _names_of(function: FunctionType) -> Mapping[str, Any]:
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    held = {name: cell.cell_contents for name, cell in cells if _is_filled(cell)}
    return function.__globals__ | held


def _is_filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018 -- it raises
    except ValueError:
        return False
    return True


def _yields(names: Mapping[str, Any], dotted: str) -> bool:
    first, *rest = dotted.split(".")
    value = names.get(first)
    for name in rest:
        # Other objects may run code of theirs.
        value = vars(value).get(name) if isinstance(value, ModuleType) else None
    return callable(value) and shape_of(value).yields


def _returns_generator(loader: _Function | ast.Lambda, find: _Find) -> bool:
    if isinstance(loader, ast.Lambda):
        body: list[ast.stmt] = []
        returned: list[ast.expr | None] = [loader.body]
    else:
        body = loader.body
        returned = [node.value for node in _own_nodes(body) if isinstance(node, ast.Return)]
    given = {node.arg for node in ast.walk(loader.args) if isinstance(node, ast.arg)}

    def is_one(value: ast.expr | None) -> bool:
        if isinstance(value, ast.Call) and value.args and ast.unparse(value.func) in _PARTIALS:
            return is_one(value.args[0])
        name = "" if value is None else ast.unparse(value)
        if not name.replace(".", "").isidentifier() or (first := name.partition(".")[0]) in given:
            return False
        return _is_generator(body, name) if first in _bound(body) else find(name)

    return bool(returned) and all(map(is_one, returned))


_PARTIALS = ("partial", "functools.partial")


def _is_generator(body: list[ast.stmt], name: str) -> bool:
    """Tell whether a name that is bound in these statements is surely a generator function's."""
    bindings = [node for node in _own_nodes(body) if name in _bound_by(node)]
    return bool(bindings) and all(
        isinstance(node, _Function) and not node.decorator_list and _has_yield(node) for node in bindings
    )


def _has_yield(function: _Function) -> bool:
    return any(isinstance(node, ast.Yield | ast.YieldFrom) for node in _own_nodes(function.body))


def _bound(body: list[ast.stmt]) -> set[str]:
    return {name for node in _own_nodes(body) for name in _bound_by(node)}


def _bound_by(node: ast.AST) -> set[str]:
    """Return the names that a node gives a value to, or takes it from."""
    if isinstance(node, ast.Name):
        return set() if isinstance(node.ctx, ast.Load) else {node.id}
    if isinstance(node, ast.alias):
        return {(node.asname or node.name).partition(".")[0]}
    if isinstance(node, ast.Global | ast.Nonlocal):
        return set(node.names)
    name = getattr(node, "name", None)  # functions, classes, handlers and patterns
    return {name} if isinstance(name, str) else set()


def _own_nodes(body: list[ast.stmt]) -> Iterator[ast.AST]:
    """Yield statements and what they hold, but not what functions and classes in them hold."""
    todo: list[ast.AST] = [*body]
    while todo:
        node = todo.pop()
        yield node
        if not isinstance(node, _SCOPES):
            todo.extend(ast.iter_child_nodes(node))
