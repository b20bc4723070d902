"""Finds what decorators supply of a function's arguments: those that callers need not give.

A decorator that names what it wraps, as `functools.wraps` does, shows the signature of that. What it passes on is in
its text alone.
"""

import ast
import functools
import inspect
import textwrap
from collections.abc import Callable, Iterator
from types import FunctionType, MethodType
from typing import Any, Final

from openlaunch.client.packing.own_code import CACHED

_READS: Final = frozenset({"copy", "get", "items", "keys", "pop", "values"})
"""Methods of a dictionary that put nothing into it."""


class _Unclear(Exception):
    """A decorator's text does not say what it passes on."""


def signature_of(fn: Callable[..., Any]) -> inspect.Signature:
    """Return the signature that callers see: of what is wrapped, unless a decorator on the way has names of its own.

    Raises:
        TypeError, ValueError: there is none, as of some functions that are not written in Python.
    """
    signature = inspect.signature(fn)
    function: Any = fn.__func__ if isinstance(fn, MethodType) else fn
    if not isinstance(function, FunctionType):
        return signature
    named = inspect.unwrap(function, stop=_has_its_own)
    if isinstance(named, MethodType):
        return signature_of(named)
    if hasattr(named, "__signature__") or _is_open(named):
        return signature
    parameters = [*inspect.signature(named, follow_wrapped=False).parameters.values()]
    return signature.replace(parameters=parameters[isinstance(fn, MethodType) :])


def supplied_to(fn: Callable[..., Any]) -> frozenset[str] | None:
    """Return the names of the arguments that decorators of a function may supply; None where that may be any."""
    found: set[str] = set()
    for wrapper, wrapped in _layers(fn):
        if isinstance(wrapper, CACHED):
            continue
        function = wrapper if isinstance(wrapper, FunctionType) else type(wrapper).__call__
        if not isinstance(function, FunctionType):
            return None
        if not _is_open(function):
            break  # its signature is what callers see
        try:
            found.update(_Text(function, wrapped).supplied())
        except (_Unclear, OSError, TypeError, SyntaxError, ValueError, RecursionError):
            return None
    return frozenset(found)


def _layers(fn: Any) -> Iterator[tuple[Any, Any]]:
    """Give each decorator's function, the outermost first, and what it wraps."""
    seen: set[int] = set()
    while id(fn) not in seen:
        seen.add(id(fn))
        if isinstance(fn, functools.partial):
            fn = fn.func
            continue
        fn = getattr(fn, "__func__", fn)
        if hasattr(fn, "__signature__") or not hasattr(fn, "__wrapped__"):
            return
        yield fn, fn.__wrapped__
        fn = fn.__wrapped__


def _has_its_own(fn: Any) -> bool:
    """Return whether a signature is a function's own, and not that of what it wraps."""
    return hasattr(fn, "__signature__") or isinstance(fn, MethodType) or not _is_open(fn)


def _is_open(fn: Any) -> bool:
    """Return whether a function takes arguments that it does not name."""
    flags = inspect.CO_VARARGS | inspect.CO_VARKEYWORDS
    return not isinstance(fn, FunctionType) or bool(fn.__code__.co_flags & flags)


class _Text:
    """The text of a decorator's function that takes any arguments."""

    def __init__(self, function: FunctionType, wrapped: Any) -> None:
        code = function.__code__
        tree = ast.parse(textwrap.dedent(inspect.getsource(code)).strip())
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
        found = next((node for node in ast.walk(tree) if isinstance(node, kinds)), None)
        if found is None:
            raise _Unclear
        arguments = found.args
        self._body = found.body if isinstance(found.body, list) else [found.body]
        self._args = arguments.vararg.arg if arguments.vararg else None
        self._kwargs = arguments.kwarg.arg if arguments.kwarg else None
        own = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
        self._passed_on = {one.arg for one in own} | set(_names_of(function, wrapped))

    def supplied(self) -> Iterator[str]:
        """Give the names that are passed on beside what comes. Raise `_Unclear` where others may be."""
        calls = False
        for node in (each for statement in self._body for each in ast.walk(statement)):
            if isinstance(node, ast.Call):
                yield from self._changed_by(node)
                if any(isinstance(each, ast.Starred) for each in node.args) or None in _names_given(node):
                    calls = True
                    yield from self._supplied_in(node)
            elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
                if node.id in (self._args, self._kwargs):
                    raise _Unclear
            elif isinstance(node, ast.Subscript) and self._is_set(node):
                yield _text(node.slice)
        if not calls:
            raise _Unclear

    def _is_kwargs(self, node: ast.expr) -> bool:
        return isinstance(node, ast.Name) and node.id == self._kwargs

    def _is_set(self, node: ast.Subscript) -> bool:
        return self._is_kwargs(node.value) and isinstance(node.ctx, ast.Store)

    def _supplied_in(self, call: ast.Call) -> Iterator[str]:
        for each in call.args:
            inner, expected = (
                (each.value, {self._args}) if isinstance(each, ast.Starred) else (each, self._passed_on)
            )
            if not isinstance(inner, ast.Name) or inner.id not in expected:
                raise _Unclear
        for keyword in call.keywords:
            if keyword.arg is None and not self._is_kwargs(keyword.value):
                raise _Unclear
            if keyword.arg is not None and getattr(keyword.value, "id", "") != keyword.arg:
                yield keyword.arg

    def _changed_by(self, call: ast.Call) -> Iterator[str]:
        """Give the names that a method puts into the arguments, as in `kwargs.setdefault("session", …)`."""
        if not isinstance(call.func, ast.Attribute) or not self._is_kwargs(call.func.value):
            return
        match call.func.attr, call.args:
            case "setdefault", [name, *_]:
                yield _text(name)
            case "update", []:
                yield from (name or _unclear() for name in _names_given(call))
            case "update", [ast.Dict(keys=keys)]:
                yield from (_text(key) for key in keys)
            case method, _ if method not in _READS:
                raise _Unclear


def _names_given(call: ast.Call) -> list[str | None]:
    return [keyword.arg for keyword in call.keywords]


def _text(node: ast.expr | None) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    raise _Unclear


def _unclear() -> str:
    raise _Unclear


def _names_of(function: FunctionType, wrapped: Any) -> Iterator[str]:
    """Give the names under which a decorator's function has what it wraps."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            if cell.cell_contents is wrapped:
                yield name
        except ValueError:
            continue  # it has no value
