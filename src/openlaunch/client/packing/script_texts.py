"""Reads what the texts of scripts set in other modules, and what they call there."""

import ast
import inspect
import textwrap
from collections.abc import Iterator
from functools import lru_cache
from types import CodeType
from typing import Final, NamedTuple

Place = tuple[str, ...]
COMPUTED: Final = ""
"""In place of a name that is not in the text, as of `setattr(config, name, value)`."""
LOADED: Final = "module "
"""What the first name of a path begins with where it is a module's, as of `sys.modules["config"].size`."""


IMPORTERS: Final = ("import_module", "__import__", "run_module", "locate")
"""Functions that import what they are given the name of."""
_IMPORTING: Final = tuple((name,) for name in IMPORTERS)


class Setting(NamedTuple):
    """A statement that sets an attribute or an entry: the names that lead to the object, and what it is within.

    `within` is a function or class of the text, `line` is counted from 1.
    """

    path: Place
    attribute: str
    within: str
    line: int


class Call(NamedTuple):
    """A call of what has a name, as of `settings.configure(…)`, and the names that lead to its arguments."""

    path: Place
    within: str
    line: int
    arguments: tuple[Place, ...] = ()
    keywords: tuple[tuple[str, Place], ...] = ()


class Text(NamedTuple):
    """What a text sets and calls, the modules and names that it imports, and the names that are texts in it.

    `of_module` are the names that a function sets in its module, as `global` says. `imports` are the lines that
    import a module under a name that is made there.
    """

    settings: tuple[Setting, ...] = ()
    calls: tuple[Call, ...] = ()
    imported: tuple[tuple[str, str, str], ...] = ()
    names: frozenset[str] = frozenset()
    of_module: tuple[str, ...] = ()
    imports: tuple[int, ...] = ()


@lru_cache(maxsize=1024)
def read(text: str) -> Text:
    """Return what a text sets; nothing if it is not Python."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return Text()
    parts = [(node, getattr(node, "name", "")) for node in tree.body]
    settings = {one for node, within in parts for one in set_in(node, within)}
    calls = {
        Call(
            path,
            within,
            node.lineno,
            tuple(map(_path, node.args)),
            tuple((one.arg, _path(one.value)) for one in node.keywords if one.arg),
        )
        for top, within in parts
        for node in ast.walk(top)
        if isinstance(node, ast.Call) and (path := _path(node.func))
    }
    of_module = {name for node in ast.walk(tree) if isinstance(node, ast.Global) for name in node.names}
    return Text(
        tuple(sorted(settings)),
        tuple(sorted(calls)),
        tuple(_imports_in(tree)),
        frozenset(_names_in(tree)),
        tuple(sorted(of_module)),
        tuple(_computed_imports(tree)),
    )


def may_import_by_name(text: bytes) -> bool:
    """Return whether a text may import modules by names that are values."""
    return any(name.encode() in text for name in IMPORTERS)


def _computed_imports(tree: ast.AST) -> Iterator[int]:
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    for call in (node for node in calls if _path(node.func)[-1:] in _IMPORTING):
        if not all(isinstance(one, ast.Constant) for one in call.args[:1]):
            yield call.lineno


def read_function(code: CodeType) -> Text:
    """Return what a function sets; nothing if its text is not there."""
    try:
        return read(textwrap.dedent(inspect.getsource(code)))
    except (OSError, TypeError, ValueError):
        return Text()


def set_in(tree: ast.AST, within: str = "") -> Iterator[Setting]:
    """Give what statements set in objects that have a name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store):
            name = node.attr if isinstance(node, ast.Attribute) else _constant(node.slice)
            found = [(node.value, name)]
        elif isinstance(node, ast.Call):
            found = [*_set_by(node)]
        else:
            continue
        for holder, name in found:
            if path := _path(_namespace_of(holder) or holder):
                yield Setting(path, COMPUTED if name == "__dict__" else name, within, node.lineno)


def _set_by(call: ast.Call) -> Iterator[tuple[ast.expr, str]]:
    """Give what a call sets: an object, and a name there."""
    function = _path(call.func)
    if function[-1:] in (("setattr",), ("__setattr__",)) and len(call.args) == 3:
        yield call.args[0], _constant(call.args[1])
    elif isinstance(call.func, ast.Attribute):
        match call.func.attr, call.args:
            case "__setattr__" | "setdefault" | "__setitem__", [name, _]:
                yield call.func.value, _constant(name)
            case "update", [] | [ast.Dict()]:
                keys = call.args[0].keys if call.args and isinstance(call.args[0], ast.Dict) else ()
                yield from ((call.func.value, _constant(key)) for key in keys)
                yield from ((call.func.value, keyword.arg or COMPUTED) for keyword in call.keywords)
            case "update", [_, *_]:
                yield call.func.value, COMPUTED


def _constant(node: ast.expr | None) -> str:
    is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
    return str(node.value) if isinstance(node, ast.Constant) and is_text else COMPUTED


def _namespace_of(node: ast.expr) -> ast.expr | None:
    """Return the object whose attributes `vars(x)` and `x.__dict__` are."""
    match node:
        case ast.Call(func=ast.Name(id="vars"), args=[holder]):
            return holder
        case ast.Attribute(value=holder, attr="__dict__"):
            return holder
    return None


def _path(node: ast.expr) -> Place:
    """Return the names of `a.b.c`; none for another expression."""
    match node:
        case ast.Name(id=name):
            return (name,)
        case ast.Attribute(value=holder, attr=name):
            above = _path(holder)
            return (*above, name) if above else ()
        case ast.Subscript(
            value=ast.Attribute(value=ast.Name(id="sys"), attr="modules"), slice=ast.Constant(value=str(name))
        ):
            return (LOADED + name,)
        case ast.Call(func=ast.expr() as function, args=[ast.Constant(value=str(name))]) if _path(function)[
            -1:
        ] == ("import_module",):
            return (LOADED + name,)
    return ()


def _imports_in(tree: ast.AST) -> Iterator[tuple[str, str, str]]:
    """Give names, the module that each is imported from, and its name there; none for a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name if alias.asname else alias.name.partition(".")[0]
                yield alias.asname or top, top, ""
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from ((alias.asname or alias.name, node.module, alias.name) for alias in node.names)


def _names_in(tree: ast.AST) -> Iterator[str]:
    """Give the texts that may be names, and the names of arguments and of a class's fields."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) < 100:
            yield node.value
        elif isinstance(node, ast.keyword) and node.arg:
            yield node.arg
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id
