"""Compares arguments with a function's annotations, where there is no server that does."""

import json
from typing import Any

from pydantic import TypeAdapter, ValidationError

from openlaunch.client.packing.documents import adapter_of
from openlaunch.client.packing.interface import NONE, Interface
from openlaunch_worker.arguments import is_binary
from openlaunch_worker.files import File


def misfits(interface: Interface, args: dict[str, Any]) -> list[str]:
    """Return a sentence for each argument that its annotation does not take; files are left out."""
    found = []
    for name, value in args.items():
        parameter = (interface.parameters or {}).get(name)
        kind = interface.others if parameter is None else parameter.annotation
        if kind is NONE or is_binary(kind):
            continue
        if isinstance(value, File):
            found.append(f"{name}: it is not a file, and one came")
        elif (adapter := adapter_of(kind)) is not None:
            found += _compared(name, adapter, value)
    return found


def _compared(name: str, adapter: TypeAdapter[Any], value: Any) -> list[str]:
    try:
        adapter.validate_json(json.dumps([value]), strict=True)
    except ValidationError as error:
        return [_sentence(name, each) for each in error.errors()]
    return []


def _sentence(name: str, error: Any) -> str:
    path = ".".join(map(str, (name, *error["loc"][1:])))
    return f"{path}: {error['msg']}, and {error['input']!r:.80} came"
