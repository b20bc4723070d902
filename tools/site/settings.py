"""Writes the reference of the server's settings from the model that reads them."""

from typing import Any, get_args

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from openlaunch.server.settings import Settings

UNITS = {"seconds": [(86400, "d"), (3600, "h"), (60, "min"), (1, "s")]}
UNITS["bytes"] = [(2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, "bytes")]
BOUNDS = {
    Ge: ("ge", "at least {}"),
    Gt: ("gt", "more than {}"),
    Le: ("le", "at most {}"),
    Lt: ("lt", "below {}"),
}


def content() -> str:
    """Write a list for each group of settings."""
    return "\n".join(line for group in groups() for line in section(group))


def groups() -> list[type[BaseModel]]:
    """List the classes that declare settings, the general ones first."""
    own: list[type[BaseModel]] = [each for each in Settings.__mro__ if each.__module__ == Settings.__module__]
    return [each for each in own if any(name in each.__annotations__ for name in each.model_fields)]


def section(group: type[BaseModel]) -> list[str]:
    """Write the settings that one class declares."""
    heading = "General" if group is Settings else (group.__doc__ or "").splitlines()[0].rstrip(".")
    items = [item(name, field) for name, field in group.model_fields.items() if name in group.__annotations__]
    return [f"## {heading}", "", *items, ""]


def item(name: str, field: FieldInfo) -> str:
    """Write one setting, which links can name by its variable."""
    variable = f"OPENLAUNCH_{name.upper()}"
    bounds = allowed(name, field)
    meaning = f"{field.description} Allowed: {', '.join(bounds)}." if bounds else field.description
    return f'- <span id="{variable.lower()}">`{variable}`</span> (default: {default(name, field)}): {meaning}'


def default(name: str, field: FieldInfo) -> str:
    """Write a default with its unit."""
    if name == "data_dir":
        return "`~/.openlaunch`"
    value = field.default
    if value is None or value is PydanticUndefined or value == "":
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return amount(name, value) if isinstance(value, int | float) else f"`{value}`"


def amount(name: str, value: float) -> str:
    """Write a number in the largest unit that takes it whole, as in "64 MiB" and "30 s"."""
    for size, unit in UNITS.get(name.rpartition("_")[2], []):
        if value >= size and value % size == 0:
            return f"{int(value // size):,} {unit}"
    return f"{value:,}"


def allowed(name: str, field: FieldInfo) -> list[str]:
    """List what bounds a setting's value."""
    choices: tuple[Any, ...] = get_args(field.annotation)
    if choices and all(isinstance(choice, str) for choice in choices):
        return [" or ".join(f"`{choice}`" for choice in choices)]
    unit = {"seconds": " s", "bytes": " bytes"}.get(name.rpartition("_")[2], "")
    found = [(BOUNDS[type(bound)], bound) for bound in field.metadata if type(bound) in BOUNDS]
    return [words.format(f"{getattr(bound, attribute):,}{unit}") for (attribute, words), bound in found]
