"""What commands print: data on stdout, as JSON or for people; everything else on stderr."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from openlaunch.cli.exits import Exit

if TYPE_CHECKING:
    from openlaunch.client.models import ModelEndpoint

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

NOT_A_TERMINAL_WIDTH = 10_000
"""Columns of a table that goes into a file or a pipe: nothing is wrapped there."""

LAST_COLUMN_WIDTH = 20
"""Left to the last column on a terminal that is too narrow for the others."""


def emit(document: Any, as_json: bool, for_people: Callable[[], None]) -> None:
    """Print a document, which may have models in it, as JSON, or what `for_people` prints."""
    if as_json:
        print(json.dumps(document, indent=2, ensure_ascii=False, default=_plain_json))
    else:
        for_people()


def _plain_json(value: Any) -> Any:
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else str(value)


def emit_rows(
    found: Sequence[Any], as_json: bool, columns: Sequence[str], row: Callable[[Any], Sequence[object]]
) -> None:
    """Print what was found as JSON, or a row of each under the columns."""
    emit(found, as_json, lambda: table(columns, map(row, found)))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows under their columns; None is shown as a dash.

    Only the last column is folded to a terminal's width, so that ids stay in one piece for copying.
    """
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    cells = [[_cell(value) for value in row] for row in rows]
    needed = sum(max(cell_len(row[i]) for row in [columns, *cells]) + 2 for i in range(len(columns) - 1))
    width = Console().width if sys.stdout.isatty() else NOT_A_TERMINAL_WIDTH
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns[:-1]:
        shown.add_column(column, no_wrap=True)
    shown.add_column(columns[-1], overflow="fold")
    for row in cells:
        shown.add_row(*(Text(cell) for cell in row))
    Console(width=max(width, needed + LAST_COLUMN_WIDTH)).print(shown)


def _cell(value: object) -> str:
    # A reason may have several lines.
    return "-" if value is None else " ".join(str(value).split())


def fields(pairs: Iterable[tuple[str, object]]) -> None:
    """Print names and values, one pair a line; pairs without a value are left out."""
    present = [(name, value) for name, value in pairs if value is not None]
    width = max(len(name) for name, _ in present)
    for name, value in present:
        print(f"{name:<{width}}  {value}")


def note(text: str) -> None:
    """Print on stderr what is not data."""
    print(text, file=sys.stderr)


@contextmanager
def progress(text: str) -> Iterator[Callable[[str], None]]:
    """Show a text on a terminal while something runs; the function that it gives changes the text."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None
        return
    with console.status(_plain(text)) as status:
        yield lambda text: status.update(_plain(text))


@contextmanager
def waiting(text: str, look: str) -> Iterator[Callable[[str], None]]:
    """Show progress of work that continues without this command: Ctrl-C says so, and how to `look` at it."""
    try:
        with progress(text) as update:
            yield update
    except KeyboardInterrupt:
        note(f"interrupted; the work continues, and this shows it: {look}")
        raise typer.Exit(Exit.INTERRUPTED) from None


def _plain(text: str) -> Any:
    from rich.text import Text

    return Text(text)


def say_status(update: Callable[[str], None]) -> "Callable[[ModelEndpoint], None]":
    """Return what shows each change of an endpoint's status, and leaves a line where stderr is not a terminal."""

    def tell(endpoint: "ModelEndpoint") -> None:
        reason = f": {endpoint.status_reason}" if endpoint.status_reason else ""
        line = f"{endpoint.name} is {endpoint.status.value}{reason}"
        update(line)
        if not sys.stderr.isatty():
            note(line)

    return tell


def when(moment: Any) -> str | None:
    """Return a point in time for people, in this machine's time zone."""
    return None if moment is None else moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")
