"""Answers that are made of a record's fields."""

from typing import Any, TypeVar

from pydantic import BaseModel

M = TypeVar("M", bound=BaseModel)


def shown(model: type[M], record: object, **more: Any) -> M:
    """Return the record as an answer: with its fields of the same names, in whose place `more` goes."""
    same = {name: getattr(record, name) for name in model.model_fields if hasattr(record, name)}
    return model.model_validate(same | more)
