"""Imports the names that a file imports for type checkers alone, for annotations that name them."""

import ast
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from openlaunch.client.packing.own_code import absolute, is_for_checkers, source_of

log = logging.getLogger("openlaunch")


def names_for_checkers(module: dict[str, Any]) -> dict[str, Any]:
    """Return what the file of a module's globals imports under `if TYPE_CHECKING`, of own modules and of Python's.

    Packages of others are left out: workers may not have them, and importing them can take long.
    """
    try:
        tree = ast.parse(Path(module["__file__"]).read_bytes())
    except (KeyError, TypeError, OSError, SyntaxError, ValueError):
        return {}  # it has no file, as a notebook
    found = {"__name__": module.get("__name__"), "__package__": module.get("__package__")}
    for statement in _imports_for_checkers(tree, module.get("__package__") or ""):
        code = compile(ast.Module([statement], []), module["__file__"], "exec")
        try:
            exec(code, found)  # noqa: S102 -- the user's own import statement, in the way of Python
        except Exception:
            log.debug("an import for type checkers failed", exc_info=True)  # another name may be there
    return {name: value for name, value in found.items() if not name.startswith("__")}


def _imports_for_checkers(tree: ast.Module, package: str) -> Iterator[ast.stmt]:
    for node in tree.body:
        if not isinstance(node, ast.If) or not is_for_checkers(node.test):
            continue
        for statement in node.body:
            if isinstance(statement, ast.Import):
                names = [alias.name for alias in statement.names]
            elif isinstance(statement, ast.ImportFrom):
                names = [next(absolute(statement.module, statement.level, package, statement.names), "")]
            else:
                continue
            if all(name.partition(".")[0] in sys.stdlib_module_names or source_of(name) for name in names):
                yield statement
