"""Tables: what a DataFrame is made of, and what stands for one; with the libraries that a bundle has."""

import importlib
import json
import sys
from io import BytesIO
from typing import Any, Final

from openlaunch_worker.files import ARROW, File

SPARSE_CELLS: Final = 1_000_000
"""Rows of other keys each make a table that is mostly empty. Up to this many cells, it may be."""

MOST_EMPTY: Final = 10
"""How many cells such a table may have for each value beyond that."""


def is_frame(value: Any) -> bool:
    """Return whether a value is a DataFrame of pandas."""
    kind = getattr(sys.modules.get("pandas"), "DataFrame", None)
    return kind is not None and isinstance(value, kind)


def frame_of(value: Any) -> Any:
    """Return the DataFrame of rows, columns, or a file of Arrow or JSON. Raise ValueError where it can't be made."""
    pandas = importlib.import_module("pandas")
    if isinstance(value, File):
        if "json" not in value.media_type:
            return _of_arrow(value)
        value = json.loads(value.read())
    if isinstance(value, list) and all(isinstance(row, dict) for row in value):
        _check_cells(value)
        return pandas.DataFrame(value)
    if isinstance(value, dict) and all(isinstance(column, list) for column in value.values()):
        return pandas.DataFrame(value)
    raise ValueError(
        "a list of objects, one for each row, or an object of lists, one for each column, is needed in JSON"
    )


def _check_cells(rows: list[dict[str, Any]]) -> None:
    given = sum(map(len, rows))
    cells = len(rows) * len({name for row in rows for name in row})
    if cells > SPARSE_CELLS + MOST_EMPTY * given:
        raise ValueError(
            f"its rows have {given} values under names that make {cells} cells: send columns instead"
        )


def _of_arrow(file: File) -> Any:
    came = f"{len(file.read())} bytes of {file.media_type} came"
    try:
        ipc = importlib.import_module("pyarrow.ipc")
    except ImportError:
        raise ValueError(
            f"{came}: Arrow is read where pyarrow is among the bundle's requirements; send JSON"
        ) from None
    try:
        table = ipc.open_stream(file.read()).read_all()
    except Exception as error:
        raise ValueError(f"{came}, and {ARROW} or JSON is needed: {error}") from None
    table.validate(full=True)  # else what it says of itself could lead outside of its memory
    return table.to_pandas()


def arrow_of(value: Any) -> bytes | None:
    """Return a DataFrame as a stream of Arrow; None for another value, and where pyarrow is missing.

    Raise ValueError where Arrow does not have what is in it.
    """
    if not is_frame(value):
        return None
    try:
        arrow, ipc = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.ipc")
    except ImportError:
        return None
    try:
        table, file = arrow.Table.from_pandas(value), BytesIO()
    except Exception as error:
        raise ValueError(f"the table can't be written as Arrow: {error}") from None
    with ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)
    return file.getvalue()


def records_of(frame: Any) -> list[dict[Any, Any]]:
    """Return a DataFrame as a list of its rows, in which a missing value is null."""
    if not frame.columns.is_unique:
        raise TypeError(
            "two columns of the DataFrame have one name, and of an object's values one would be lost"
        )
    made: list[dict[Any, Any]] = frame.astype(object).where(frame.notna(), None).to_dict(orient="records")
    return made
