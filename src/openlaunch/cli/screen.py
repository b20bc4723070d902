"""Lines of a screen in a terminal: none is wrapped, and nothing in them moves the cursor."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.text import Text


def line(text: str, style: str = "") -> "Text":
    """Return a text as one line, in which what a user or a model wrote moves no cursor."""
    from rich.text import Text

    plain = "".join(c if c.isprintable() else " " for c in text)
    return Text(plain, style=style, no_wrap=True, overflow="ellipsis")


def widths(rows: Sequence[Sequence[str]], width: int, least: int) -> list[int]:
    """Return the widths of columns; the first one gets the room that the others leave, but at least `least`."""
    others = [max(len(each[place]) for each in rows) for place in range(1, len(rows[0]))]
    return [max(least, width - sum(others) - len(others)), *others]


def padded(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Return the cells beside each other: a name, a state, and numbers."""
    from rich.cells import set_cell_size

    name, state, *numbers = zip(cells, widths, strict=True)
    texts = [
        set_cell_size(_shortened(*name), name[1]),
        set_cell_size(*state),
        *(text.rjust(room) for text, room in numbers),
    ]
    return " ".join(texts)


def _shortened(name: str, room: int) -> str:
    """Leave out the middle of a name that is too long: what tells names apart is often at their end."""
    if len(name) <= room:
        return name
    end = room // 3
    return f"{name[: room - end - 1]}…{name[-end:]}"
