"""Writes the reference of errors from their classes, and from the codes that the server's source gives them."""

import ast
from collections.abc import Iterator
from pathlib import Path

from openlaunch import errors

SOURCE = Path(errors.__file__).parent


def content() -> str:
    """Write the tree, a table of what the server answers with, and a table of its codes."""
    return "\n".join([*tree(errors.OpenlaunchError), "", *answers(), "", *codes()])


def tree(error: type[Exception], depth: int = 0) -> Iterator[str]:
    """Write an error and those below it as a nested list."""
    yield f"{'    ' * depth}- `{error.__name__}`: {first_line(error)}"
    for child in error.__subclasses__():
        yield from tree(child, depth + 1)


def first_line(error: type[Exception]) -> str:
    """Read the first line of an error's docstring, without its status."""
    line = (error.__doc__ or "").strip().splitlines()[0]
    head, _, rest = line.partition(": ")
    return rest[0].upper() + rest[1:] if head.isdigit() else line


def answers() -> Iterator[str]:
    """Write a table of the errors that have an HTTP status."""
    yield from ("## Answers of the server", "")
    yield from ("| status | error | usual `code` | the client tries again |", "|---|---|---|---|")
    for error in sorted(errors.APIError.__subclasses__(), key=lambda error: error.status):
        again = "yes" if error.retryable else "no"
        yield f"| {error.status} | `{error.__name__}` | `{error.default_code}` | {again} |"


def codes() -> Iterator[str]:
    """Write a table of the codes that are raised with an error of their own."""
    yield from ("## Codes", "", "| `code` | error |", "|---|---|")
    for code, names in sorted(raised().items()):
        yield f"| `{code}` | {', '.join(f'`{name}`' for name in sorted(names))} |"


def raised() -> dict[str, set[str]]:
    """Find each `SomeError(…, code="word")` of the source."""
    known = {name for name in vars(errors) if isinstance(getattr(errors, name), type)}
    found: dict[str, set[str]] = {}
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in known:
                for keyword in node.keywords:
                    if keyword.arg == "code" and isinstance(keyword.value, ast.Constant):
                        found.setdefault(str(keyword.value.value), set()).add(node.func.id)
    return found
