"""The settings of `openlaunch serve`: options, then environment variables, then a file, then defaults."""

import os
import tomllib
from collections.abc import Container, Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openlaunch.errors import ConfigurationError

if TYPE_CHECKING:
    from openlaunch.server.settings import Settings


def read_settings(options: dict[str, Any], file: Path | None) -> "Settings":
    """Return the settings; raise ConfigurationError, with where it was given, for one that is not allowed."""
    from pydantic import ValidationError

    from openlaunch.server.settings import Settings

    of_file = {} if file is None else _read(file, Settings.model_fields)
    in_environment = {name.upper().removeprefix("OPENLAUNCH_").lower() for name in os.environ}
    kept = {name: value for name, value in of_file.items() if name not in in_environment}
    try:
        return Settings(**kept | options)
    except ValidationError as error:
        fields = Settings.model_fields.items()
        secret = {name for name, about in fields if "SecretStr" in str(about.annotation)}
        places = {name: f"{file}: {name}" for name in kept}
        places |= {name: f"--{name.replace('_', '-')}" for name in options}
        raise ConfigurationError(
            "; ".join(_sentence(problem, places, secret) for problem in error.errors())
        ) from None


def _read(path: Path, known: Iterable[str]) -> dict[str, Any]:
    try:
        document = tomllib.loads(path.expanduser().read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"--config {path} can't be read: {error}") from None
    for name in document:
        if name not in known:
            similar = get_close_matches(name, list(known), 1)
            hint = f"did you mean {similar[0]}?" if similar else "`openlaunch docs settings` lists them"
            raise ConfigurationError(f"{path} has {name!r}, and there is no such setting: {hint}")
    return document


def _sentence(problem: Any, places: dict[str, str], secret: Container[str]) -> str:
    from openlaunch.wire.misfits import said  # which help and versions have no need of

    field = str(problem["loc"][0])
    place = places.get(field, f"OPENLAUNCH_{field.upper()}")
    if field in secret and problem["type"] == "too_short":  # whose own words are of items
        given, least = problem["ctx"]["actual_length"], problem["ctx"]["min_length"]
        return f"{place} has {given} characters, and at least {least} are needed"
    value = "" if field in secret else f" is {problem['input']!r}"
    return f"{place}{value}: {said(problem)}"
