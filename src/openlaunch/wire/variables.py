"""Environment variables of workers: which names they may have, and how much there may be of them."""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import AfterValidator

MAX_VARIABLES = 100
MAX_VARIABLES_BYTES = 64 * 1024
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_OWN = frozenset(
    {"PATH", "PORT", "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "NVIDIA_VISIBLE_DEVICES", "VIRTUAL_ENV"}
)
_OWN_PREFIXES = ("OPENLAUNCH_", "LD_", "DYLD_")


def reserved(name: str) -> bool:
    """Tell whether a worker has a variable of this name from the server, or reads it before it could be set."""
    return name.upper() in _OWN or name.upper().startswith(_OWN_PREFIXES)


def _check(variables: dict[str, str]) -> dict[str, str]:
    if len(variables) > MAX_VARIABLES:
        raise ValueError(f"{len(variables)} variables are given, at most {MAX_VARIABLES} are allowed")
    for name, value in variables.items():
        if _NAME.fullmatch(name) is None:
            raise ValueError(
                f"{name[:140]!r} is not the name of a variable: letters, digits and _ are allowed, at most 128, no "
                "digit first"
            )
        if reserved(name):
            raise ValueError(
                f"{name} can't be set: the server sets it for each worker, or it is read before the worker could set "
                "it; those are PATH, PORT, VIRTUAL_ENV, the variables that assign GPUs, and all that begin with "
                "OPENLAUNCH_, LD_ or DYLD_"
            )
        check_value(name, value)
    if (
        size := sum(len(name) + len(value.encode()) for name, value in variables.items())
    ) > MAX_VARIABLES_BYTES:
        raise ValueError(f"the variables have {size} bytes, at most {MAX_VARIABLES_BYTES} are allowed")
    return variables


def check_value(name: str, value: str) -> None:
    """Refuse text that no environment can hold. The error does not show it."""
    if _impossible(value):
        raise ValueError(
            f"the value of {name} has a null or a lone surrogate in it, which no variable can hold"
        )


def check_start(command: Sequence[str], env: Mapping[str, str]) -> None:
    """Refuse a command and an environment with which no process could be started.

    Raises:
        ValueError: a word or a value has a null or a lone surrogate in it, or a variable has no possible name.
    """
    for number, word in enumerate(command, start=1):
        if _impossible(word):
            raise ValueError(
                f"word {number} of the command has a null or a lone surrogate in it, which no command can have"
            )
    for name, value in env.items():
        if not name or "=" in name or _impossible(name):
            raise ValueError(
                f"{name[:140]!r} is not the name of a variable: it may have no = and no null, and not be empty"
            )
        check_value(name, value)


def _impossible(text: str) -> bool:
    return "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text)


Variables = Annotated[dict[str, str], AfterValidator(_check)]
"""Environment variables by name."""
