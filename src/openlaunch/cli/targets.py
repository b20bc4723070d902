"""Finds the function that a command names, such as `app.py:predict`, `package.module:predict` or `app.py`."""

import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Collection
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import typer

FORMS = "FILE.py:FUNCTION or MODULE:FUNCTION"
MOST_OFFERED = 10

Function = Callable[..., Any]


class Functions(NamedTuple):
    """A predict function, and those that go with it."""

    predict: Function
    load: Function | None = None
    health: Function | None = None
    shutdown: Function | None = None


def load_functions(
    target: str, load: str | None, health: str | None = None, shutdown: str | None = None
) -> Functions:
    """Import the function of the target and those that go with it; raise BadParameter where one isn't found.

    A target without a function is the only one of its file. The others are in the same file where they name none.
    """
    place, _, name = target.partition(":")
    module = load_module(place)
    paths = {"load": load, "health": health, "shutdown": shutdown}
    others = {role: _other(role, path, place, module) for role, path in paths.items() if path is not None}
    predict = named(module, place, name) if name else _only(module, place, others.values())
    return Functions(predict, **others)


def _other(role: str, path: str, place: str, module: ModuleType) -> Function:
    elsewhere, colon, name = path.partition(":")
    if not colon:
        return named(module, place, path)
    if not name:
        raise typer.BadParameter(f"{path!r} is not FUNCTION, {FORMS}", param_hint=f"--{role}")
    return named(load_module(elsewhere), elsewhere, name)


def named(module: ModuleType, place: str, path: str) -> Function:
    """Return a module's function by its name; raise BadParameter with what there is where it is not found."""
    found: Any = module
    for name in path.split("."):
        if not hasattr(found, name):
            raise typer.BadParameter(f"{place} has no {path!r}; {_offer(name, found)}")
        found = getattr(found, name)
    if not callable(found):
        raise typer.BadParameter(f"{place}:{path} is of type {type(found).__name__}; a function is needed")
    return found  # type: ignore[no-any-return]


def _only(module: ModuleType, place: str, others: Collection[Function]) -> Function:
    own = {name: value for name, value in own_functions(module).items() if value not in others}
    if len(own) == 1:
        return next(iter(own.values()))
    if not own:
        raise typer.BadParameter(f"{place} has no function of its own; {FORMS} names one")
    listed = ", ".join(_signature(name, value) for name, value in list(own.items())[:MOST_OFFERED])
    raise typer.BadParameter(
        f"{place} has {len(own)} functions: {listed}; name one of them, such as {place}:{next(iter(own))}"
    )


def own_functions(module: ModuleType) -> dict[str, Function]:
    """Return the functions that a module defines, without those whose name begins with _."""
    return {
        name: value
        for name, value in vars(module).items()
        if callable(value)
        and not inspect.isclass(value)
        and not name.startswith("_")
        and getattr(value, "__module__", None) == module.__name__
    }


def _signature(name: str, function: Function) -> str:
    try:
        return f"{name}({', '.join(inspect.signature(function).parameters)})"
    except (TypeError, ValueError):
        return name


def _offer(wanted: str, module: Any) -> str:
    names = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
    if similar := get_close_matches(wanted, names):
        return f"did you mean {' or '.join(similar)}?"
    return f"it has: {', '.join(sorted(names)[:MOST_OFFERED])}" if names else "it has no function"


def load_module(place: str) -> ModuleType:
    """Import a file or a module; raise BadParameter where that fails, with what was raised as its cause."""
    if not place:
        raise typer.BadParameter(f"no file and no module is named; {FORMS} names a function")
    if place.endswith(".py") or "/" in place or Path(place).is_file():
        return _file(place)
    sys.path.insert(0, str(Path.cwd()))
    return _module(place, place)


def _file(place: str) -> ModuleType:
    """Import a file under the name that other modules of its package, if it is in one, import it by."""
    path = Path(place).resolve()
    if not path.is_file() or path.suffix != ".py":
        problem = "is not a Python file" if path.exists() else "does not exist"
        raise typer.BadParameter(f"{place} {problem}; {_files_of(path.parent)}")
    root, names = path.parent, [] if path.stem == "__init__" else [path.stem]
    while (root / "__init__.py").exists():
        root, names = root.parent, [root.name, *names]
    sys.path.insert(0, str(root))
    module = _module(".".join(names), place)
    if module.__file__ is None or Path(module.__file__).resolve() != path:
        raise typer.BadParameter(
            f"{place} can't be imported, because another module is named {module.__name__}: "
            f"{module.__file__ or 'a part of Python'}; rename the file"
        )
    return module


def _module(name: str, place: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise typer.BadParameter(
                f"{place} can't be imported: {error}{_where(error)}; install it here too, or import it inside the "
                "function"
            ) from error
        raise typer.BadParameter(
            f"there is no module {name!r} in {Path.cwd()} and no such package; {_files_of(Path.cwd())}"
        ) from None
    except (Exception, SystemExit) as error:
        raise typer.BadParameter(
            f"{place} can't be imported: {type(error).__name__}: {error}{_where(error)}"
        ) from error


def _where(error: BaseException) -> str:
    """Return the last line of the user's that was run, which the message of a SyntaxError names itself."""
    if isinstance(error, SyntaxError):
        return ""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith("<") and frame.filename != __file__]
    own = [frame for frame in own if "importlib" not in frame.filename]
    return f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""


def _files_of(folder: Path) -> str:
    names = sorted(path.name for path in folder.glob("*.py"))[:MOST_OFFERED]
    return f"{folder} has: {', '.join(names)}" if names else f"{folder} has no Python file"
