"""Data on stdout: tables and details for people, JSON for programs."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def print_json(document: Any) -> None:
    """One JSON document, over several lines."""
    print(json.dumps(document, indent=2, ensure_ascii=False))


def print_json_line(document: Any) -> None:
    """One JSON document on a line of its own, seen at once by whoever reads the pipe."""
    print(json.dumps(document, ensure_ascii=False), flush=True)


def print_value(value: Any) -> None:
    """A JSON value as people want it: text as it is, all else as JSON on one line."""
    print(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), flush=True)


def print_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Columns: folded to its width on a terminal; elsewhere one line a row, with nothing cut off."""
    cells = [[_text(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _print_folded(header, cells)
        return
    lines = [[name.upper() for name in header], *cells]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def print_details(fields: Mapping[str, object]) -> None:
    """One thing, a field a line; what is None is left out."""
    shown = {name: _text(value) for name, value in fields.items() if value is not None}
    width = max((len(name) for name in shown), default=0)
    for name, value in shown.items():
        print(f"{name}:".ljust(width + 2) + value)


def _print_folded(header: Sequence[str], cells: Iterable[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in header:
        table.add_column(name.upper(), overflow="fold")
    for row in cells:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)


def _text(value: object) -> str:
    """A value in a cell: one line, and "-" where there is none."""
    if value is None or value == "":
        return "-"
    return " ".join(str(value).split())
