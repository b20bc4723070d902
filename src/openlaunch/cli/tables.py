"""Text for a terminal of a given width: tables, and values that are wrapped between words."""

from collections.abc import Iterator, Sequence

from rich.cells import cell_len

GAP = "  "
LEAST_TEXT_WIDTH = 36
"""Columns below which the last column's text is not put beside the others, but beneath them."""
NOTHING = "-"

Row = Sequence[str]


def with_tabs(columns: Row, rows: Sequence[Row]) -> Iterator[str]:
    """Yield the table's lines for a file or another program: a tab between cells, and nothing cut or padded."""
    yield from ("\t".join(row) for row in [columns, *rows])


def within(
    width: int, columns: Row, rows: Sequence[Row], optional: Sequence[str] = ()
) -> tuple[list[str], list[str]]:
    """Return the table's lines within a width, and the names of the columns that are left out for that.

    The `optional` columns are left out from the first on, as far as needed. Words stay whole: the last column is
    wrapped between words, beneath its row where there is no room beside the others. A table whose other columns are
    still too wide becomes a block of lines for each row.
    """
    choices = [_without(optional[:dropped], columns, rows) for dropped in range(len(optional) + 1)]
    for dropped, (names, cells) in enumerate(choices):
        room = width - _needed(names, cells)
        if room >= _least_width([row[-1] for row in [names, *cells]]):
            return list(_beside(names, cells, room)), list(optional[:dropped])
    for dropped, (names, cells) in enumerate(choices):
        if _needed(names, cells) <= width or not rows:
            return list(_beneath(names, cells, width)), list(optional[:dropped])
    return list(_blocks(columns, rows, width)), []


def _without(dropped: Sequence[str], columns: Row, rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    kept = [place for place, name in enumerate(columns) if name not in dropped]
    names, *cells = ([row[place] for place in kept] for row in [columns, *rows])
    return names, cells


def _needed(names: Row, cells: Sequence[Row]) -> int:
    """Return the columns that all but the last column take, with the gaps after them."""
    return sum(width + len(GAP) for width in _widths(names, cells))


def _widths(names: Row, cells: Sequence[Row]) -> list[int]:
    return [max(cell_len(row[place]) for row in [names, *cells]) for place in range(len(names) - 1)]


def _least_width(texts: Sequence[str]) -> int:
    """Return the narrowest width at which a column of these texts is easy to read, with all words whole."""
    longest_word = max(cell_len(word) for text in texts for word in text.split())
    return max(longest_word, min(LEAST_TEXT_WIDTH, max(map(cell_len, texts))))


def _beside(names: Row, cells: Sequence[Row], room: int) -> Iterator[str]:
    indent = " " * _needed(names, cells)
    for head, text in _heads(names, cells):
        yield from wrapped(text, room, head, indent)


def _beneath(names: Row, cells: Sequence[Row], width: int) -> Iterator[str]:
    for head, text in _heads(names, cells):
        yield head.rstrip()
        if text != NOTHING:
            yield from wrapped(text, width - len(GAP), GAP, GAP)


def _heads(names: Row, cells: Sequence[Row]) -> Iterator[tuple[str, str]]:
    """Yield each row's padded cells as one text, and its last cell."""
    widths = _widths(names, cells)
    for row in [names, *cells]:
        padded = (cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=False))
        yield "".join(cell + GAP for cell in padded), row[-1]


def _blocks(columns: Row, rows: Sequence[Row], width: int) -> Iterator[str]:
    """Yield each row as a block: a line, or as many as its words need, for each of its cells."""
    name_width = max(map(len, columns)) + len(GAP)
    for number, row in enumerate(rows):
        if number:
            yield ""
        for name, cell in zip(columns, row, strict=True):
            yield from wrapped(cell, width - name_width, f"{name:<{name_width}}", " " * name_width)


def wrapped(text: str, width: int, first: str, later: str) -> Iterator[str]:
    """Yield the text's lines of at most this width, longer only for a longer word, after `first` and then `later`."""
    line, *words = text.split(" ")
    for word in words:
        longer = f"{line} {word}"
        if line.strip() and cell_len(longer) > width:
            yield first + line
            first, line = later, word
        else:
            line = longer
    yield (first + line).rstrip()
