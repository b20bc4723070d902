"""What commands print: data on stdout, as JSON or for people; everything else on stderr."""

import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from openlaunch.cli.connection import options_of
from openlaunch.cli.exits import Exit, plain, say

if TYPE_CHECKING:
    from openlaunch.client.models import ModelEndpoint
    from openlaunch.wire.events import Trouble


def _wanted_anywhere(context: typer.Context, value: bool) -> bool:
    return value or options_of(context).as_json


LONG_SECONDS = 60.0
"""How old the oldest task that waits may be before a line says so."""

_COLOR = re.compile(r"(\x1b\[[0-9;]*m)")
Json = Annotated[bool, typer.Option("--json", help="Print JSON.", callback=_wanted_anywhere)]


def emit(document: Any, as_json: bool, for_people: Callable[[], None]) -> None:
    """Print a document, which may have models in it, as JSON, or what `for_people` prints."""
    if as_json:
        print(as_json_text(document, indent=2))
    else:
        for_people()


def as_json_text(document: Any, indent: int | None = None) -> str:
    """Return a document as JSON in which all that can't be printed is escaped."""
    text = json.dumps(document, indent=indent, ensure_ascii=False, default=_plain_json)
    if text.isascii() and "\x7f" not in text:
        return text
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def as_printed(text: str) -> str:
    """Return what a model has printed or answered: a terminal gets its colors, but nothing else that controls it."""
    if not sys.stdout.isatty():
        return text
    return "".join(part if _COLOR.fullmatch(part) else plain(part, "\n\t\r") for part in _COLOR.split(text))


def _plain_json(value: Any) -> Any:
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else str(value)


def emit_rows(
    found: Sequence[Any],
    as_json: bool,
    columns: Sequence[str],
    row: Callable[[Any], Sequence[object]],
    optional: Sequence[str] = (),
) -> None:
    """Print what was found as JSON, or a row of each under the columns."""
    emit(found, as_json, lambda: table(columns, map(row, found), optional))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], optional: Sequence[str] = ()) -> None:
    """Print rows under their columns; None is shown as a dash.

    A terminal that is too narrow does not get the `optional` columns, the first of them first.
    """
    from openlaunch.cli.tables import with_tabs, within

    cells = [[_cell(value) for value in row] for row in rows]
    if not sys.stdout.isatty():
        print("\n".join(with_tabs(columns, cells)))
        return
    lines, left_out = within(_width(), columns, cells, optional)
    print("\n".join(lines))
    if left_out:
        note(f"left out, because the terminal is narrow: {', '.join(left_out)}; --json shows everything")


def _width() -> int:
    # A terminal that was never given a size says 0.
    return os.get_terminal_size(sys.stdout.fileno()).columns or 80


def _cell(value: object) -> str:
    # A reason may have several lines, and whatever else a model has written into it.
    if value is None or not (text := " ".join(str(value).split())):
        return "-"
    return plain(text)


def fields(pairs: Iterable[tuple[str, object]]) -> None:
    """Print names and values, one pair a line, wrapped on a terminal; pairs without a value are left out."""
    from openlaunch.cli.tables import wrapped

    present = [(plain(name), plain(str(value))) for name, value in pairs if value is not None]
    indent = " " * (max(len(name) for name, _ in present) + 2)
    room = _width() - len(indent) if sys.stdout.isatty() else sys.maxsize
    for name, value in present:
        first = f"{name:<{len(indent)}}"
        for line in value.split("\n"):
            print("\n".join(wrapped(line, room, first, indent)))
            first = indent


def of_document(document: dict[str, Any]) -> Iterator[tuple[str, object]]:
    """Yield the fields of an answer that is a dictionary, for people."""
    for name, value in document.items():
        if value is None or value == {}:
            continue
        text = ", ".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else value
        shown = when(value) if name.endswith("_at") else _seconds(value) if name == "duration" else text
        yield name.replace("_", " "), shown


def _seconds(duration: str) -> str:
    from pydantic import TypeAdapter

    return f"{TypeAdapter(timedelta).validate_python(duration).total_seconds():g} s"


def note(text: str) -> None:
    """Print on stderr what is not data."""
    say(text)


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


_BAR = 20


def bar(fraction: float, text: str) -> str:
    """Return a bar of one line for how far something is, from 0 to 1, and what it does."""
    full = round(fraction * _BAR)
    return f"{'█' * full}{'░' * (_BAR - full)} {fraction:4.0%} {text}".rstrip()


def _plain(text: str) -> Any:
    from rich.text import Text

    return Text(plain(" ".join(text.split())), no_wrap=True, overflow="ellipsis")


def say_status(update: Callable[[str], None]) -> "Callable[[ModelEndpoint], None]":
    """Return what shows each change of an endpoint's status, and leaves a line where stderr is not a terminal."""
    said = ""

    def tell(endpoint: "ModelEndpoint") -> None:
        from openlaunch.client.progress import status_text

        nonlocal said
        line = status_text(endpoint)
        update(line)
        # The seconds of a build are not worth a line each.
        if not sys.stderr.isatty() and (text := re.sub(r"\b\d+ s\b", "", line)) != said:
            note(line)
            said = text

    return tell


def when(moment: datetime | str | None) -> str | None:
    """Return a point in time for people, in this machine's time zone; as text it is what the server's JSON has."""
    if moment is None:
        return None
    at = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def trouble_line(trouble: "Trouble") -> str:
    """Say since when something is wrong with an endpoint, and what."""
    return f"{ago(trouble.since)}: {trouble.message}"


def is_long_ago(submitted: datetime) -> bool:
    """Tell whether a task that waits was submitted so long ago that it is worth a line."""
    return (datetime.now(UTC) - submitted).total_seconds() > LONG_SECONDS


def oldest_line(submitted: datetime) -> str:
    """Say when the oldest task that waits was submitted."""
    return f"{ago(submitted)}: the oldest task that waits was submitted"


def ago(since: datetime) -> str:
    """Say how long ago a time was, such as "5 min ago"."""
    seconds = max(0.0, (datetime.now(UTC) - since).total_seconds())
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    unit, size = next((each for each in units if seconds >= each[1]), units[-1])
    return f"{seconds // size:.0f} {unit} ago"
