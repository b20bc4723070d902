"""`openlaunch.toml`, or `[tool.openlaunch]` of pyproject.toml: what an owner serves, and how."""

import inspect
import tomllib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from openlaunch.cli.settings import REFUSED
from openlaunch.errors import ConfigurationError
from openlaunch.wire.keywords import KEYWORD_HELP

FILE = "openlaunch.toml"
MAX_BYTES = 1024 * 1024
_IN_PYPROJECT = "pyproject.toml"
_TOP = ("name", "env", "secrets", "endpoints", "bundles")
_NOT_IN_FILES = ("fn", "name", "wait", "timeout", "on_status", "show_progress", "settings", "reset")
_NOT_PLAIN = (
    *("request_schema", "response_schema", "load_model_fn", "health_fn", "shutdown_fn", "endpoint_type"),
)
_TEXTS = ("function", "load", "health", "shutdown", "model", "bundle", "type")
_SETTINGS = tuple(name for name in KEYWORD_HELP if name not in REFUSED)


@dataclass(frozen=True)
class Entry:
    """One table of the file: an endpoint or a bundle, by its name, with the keywords that it gives."""

    name: str
    values: dict[str, Any]


@dataclass(frozen=True)
class Project:
    """What a file says; `env` and `secrets` of all are among the values of each endpoint."""

    path: Path
    name: str
    endpoints: tuple[Entry, ...]
    bundles: tuple[Entry, ...]


def read_project(given: Path | None) -> Project:
    """Read the file that is given, or the one of this folder. Raise ConfigurationError where it can't be used."""
    path = _found(given)
    document = _document(path)
    if path.name == _IN_PYPROJECT:
        document = document.get("tool", {}).get("openlaunch", {})
    _check_keys(path, "", document, _TOP)
    env, secrets = _table(path, "env", document), _names(path, "secrets", document)
    endpoints = [_endpoint(path, entry, env, secrets) for entry in _entries(path, "endpoints", document)]
    bundles = [_bundle(path, entry) for entry in _entries(path, "bundles", document)]
    name = str(document.get("name", path.resolve().parent.name))
    return Project(path.resolve(), name, tuple(endpoints), tuple(bundles))


def _found(given: Path | None) -> Path:
    if given is not None:
        return given
    if Path(FILE).is_file():  # nobody writes into a pipe of somebody else's folder
        return Path(FILE)
    pyproject = Path(_IN_PYPROJECT)
    if pyproject.is_file() and "openlaunch" in _document(pyproject).get("tool", {}):
        return pyproject
    raise ConfigurationError(
        f"there is no {FILE} in {Path.cwd()}, and no [tool.openlaunch] in a pyproject.toml: `openlaunch init` writes "
        "one"
    )


def _document(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ConfigurationError(f"{path} has over {MAX_BYTES:,} bytes, which is the limit")
        return tomllib.loads(data.decode())
    except RecursionError:
        raise ConfigurationError(f"{path} can't be read: it is nested too deep") from None
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} can't be read: {error}") from None


def _entries(path: Path, what: str, document: dict[str, Any]) -> list[Entry]:
    return [Entry(name, _table(path, name, {name: v})) for name, v in _table(path, what, document).items()]


def _table(path: Path, name: str, document: dict[str, Any]) -> dict[str, Any]:
    found = document.get(name, {})
    if not isinstance(found, dict):
        raise ConfigurationError(f"{path}: {name} is {found!r:.80}, a table such as [{name}] is needed")
    return found


def _names(path: Path, name: str, document: dict[str, Any]) -> list[str]:
    found = document.get(name, [])
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise ConfigurationError(
            f'{path}: {name} is {found!r:.80}, a list of names such as ["hf-token"] is needed'
        )
    return found


def _endpoint(path: Path, entry: Entry, env: dict[str, Any], secrets: list[Any]) -> Entry:
    kinds = {"function": _of_functions(), "model": _of_models(), "bundle": ("bundle", "type")}
    chosen = [kind for kind in kinds if kind in entry.values]
    where = f"endpoints.{entry.name}"
    if len(chosen) != 1:
        raise ConfigurationError(f"{path}: [{where}] has to have one of {', '.join(kinds)}")
    _check_keys(path, where, entry.values, (*kinds[chosen[0]], *_SETTINGS))
    values = dict(entry.values)
    for name in _TEXTS:
        if not isinstance(values.get(name, ""), str):
            raise ConfigurationError(f"{path}: [{where}] {name} is {values[name]!r:.80}, a text is needed")
    if env:
        values["env"] = {**env, **_table(path, "env", values)}
    own = f"{where}.secrets"
    if both := list(dict.fromkeys([*secrets, *_names(path, own, {own: values.get("secrets", [])})])):
        values["secrets"] = both
    return Entry(entry.name, values)


def _of_functions() -> tuple[str, ...]:
    from openlaunch.client.operations.deploy import deploy

    return ("function", "type", "load", "health", "shutdown", *_plain(deploy, _NOT_PLAIN))


def _of_models() -> tuple[str, ...]:
    from openlaunch.client.operations.llm import deploy_llm

    return _plain(deploy_llm)


def _bundle(path: Path, entry: Entry) -> Entry:
    _check_keys(path, f"bundles.{entry.name}", entry.values, bundle_keywords(entry.values))
    return entry


def bundle_keywords(values: Collection[str]) -> tuple[str, ...]:
    """Return the keywords of a bundle that is a command, or an image where one is named."""
    from openlaunch.client.operations import bundles, bundles_images, keywords

    made: Callable[..., Any] = bundles.create_model_bundle_from_command
    of: Any = keywords.ServerKeywords
    if "repository" in values:
        made, of = bundles_images.create_model_bundle_from_runnable_image_v2, keywords.ImageKeywords
    named = _plain(made, ("model_bundle_name", "keywords", "metadata"))
    return tuple(dict.fromkeys([*named, *(name for name in of.__annotations__ if name not in _NOT_PLAIN)]))


def _plain(operation: Callable[..., Any], without: Collection[str] = ()) -> tuple[str, ...]:
    left_out = {*_NOT_IN_FILES, *without}
    return tuple(name for name in inspect.signature(operation).parameters if name not in left_out)


def _check_keys(path: Path, where: str, given: Collection[str], known: Collection[str]) -> None:
    for name in given:
        if name not in known:
            near = get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"it may have {', '.join(known)}"
            raise ConfigurationError(
                f"{path}: {f'[{where}] has' if where else 'there is'} an unknown key {name}; {hint}"
            )
