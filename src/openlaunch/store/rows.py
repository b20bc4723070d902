"""Records as rows of their tables."""

from typing import Any

from sqlalchemy import Column, ColumnElement, Table, true

from openlaunch.wire.keys import ALL_OWNERS


def fields_of(table: Table) -> list[Column[Any]]:
    """Return every column but `seq`, which is the order of the rows and not part of a record."""
    return [column for column in table.c if column.name != "seq"]


def values_of(record: Any) -> dict[str, Any]:
    """Return the fields of a dataclass by name, as they are: `dataclasses.asdict` would copy their values."""
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


def is_of(column: ColumnElement[Any], owner: str) -> ColumnElement[bool]:
    """Make the condition that a row is this owner's; with `ALL_OWNERS`, anybody's."""
    return true() if owner == ALL_OWNERS else column == owner
