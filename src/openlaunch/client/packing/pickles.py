"""Pickles functions with what belongs to them: registrations, modules put together, and definitions."""

import logging
import sys
from collections.abc import Iterable, Set
from contextlib import closing
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final

from openlaunch.client.packing.definitions import Bounded, definitions
from openlaunch.client.packing.own_code import MAIN, OwnModules, Source, computed_imports, names_called_in
from openlaunch.client.packing.pickler import FunctionPickler
from openlaunch.client.packing.registrations import registrations, replacements
from openlaunch.client.packing.unpicklable import Search
from openlaunch.errors import BundleError

log = logging.getLogger(__name__)

_Places = dict[int, tuple[str, str]]
"""Modules and names, by the id of the object that is there."""

_CLIENTS: Final = "of type openlaunch."
"""What a trail says of a client, an endpoint or a future."""
_NOTEBOOK: Final = "the global 'get_ipython' of __main__"
"""What a trail says of magics and commands in a cell."""


@dataclass(frozen=True, slots=True)
class Pickles:
    """What functions are pickled to: the bytes, and all that has to go along.

    Attributes:
        functions: pickles as `openlaunch_worker.own_code` describes them.
        named: own modules that are imported.
        restored: modules that are put together.
        texts: source files by the name that tracebacks show.
    """

    functions: bytes
    named: set[str]
    restored: list[str]
    texts: dict[str, str]


def pickled(functions: dict[str, Any], own: OwnModules) -> Pickles:
    """Pickle functions, and what belongs to them.

    Raises:
        BundleError: something that they use can't be pickled, nor be found in a module that workers import.
    """
    try:
        return _pickled(functions, own, {})
    except BundleError:
        raise
    except Exception as error:
        if not (found := _found_by_name(own)):
            raise BundleError(_advice(functions, own, error)) from error
    try:
        return _pickled(functions, own, found)
    except BundleError:
        raise
    except Exception as error:
        raise BundleError(_advice(functions, own, error, found)) from error


def _pickled(functions: dict[str, Any], own: OwnModules, by_name: _Places) -> Pickles:
    file = BytesIO()
    with closing(FunctionPickler(file, own, by_name)) as pickler:
        pickler.dump(functions)
        followed = own.follow(pickler.named)
        loaded = sorted(name for name in followed if name in sys.modules)
        used = pickler.uses | {name for each in loaded for name in names_called_in(each)}
        put = registrations(
            loaded, own, lambda one: _can_pickle(one, own, Bounded()), dict(pickler.restored), used
        )
        pickler.dump([*put, *replacements(sorted(pickler.others), set(pickler.restored))])
        pickler.dump(pickler.restored)
        _warn_of_unknown(pickler.unknown, followed.values())
        pickler.dump(definitions(pickler, own))
    texts = {name: text for name, text in sorted(pickler.sources.texts.items()) if text is not None}
    restored = sorted({MAIN, *pickler.restored})
    return Pickles(file.getvalue(), pickler.named, restored, texts)


def _found_by_name(own: OwnModules) -> _Places:
    """Return where workers find what can't be pickled and is in a module that they import, such as a connection."""
    return {
        id(value): (name, key)
        for name, module in sorted(sys.modules.copy().items())
        if own.imports(name)
        for key, value in vars(module).copy().items()
        if not key.startswith("__") and not _can_pickle(value, own, BytesIO())
    }


def _warn_of_unknown(lines: Set[tuple[str, int]], sources: Iterable[Source]) -> None:
    """Warn of modules that are imported under a name that is made there, and so may not go along."""
    in_modules = ((str(source.file), line) for source in sources for line in computed_imports(source))
    for file, line in sorted({*lines, *in_modules}):
        log.warning(
            "%s, line %s, imports a module under a name that is made there: if it is yours, it does not go along; "
            "name it in a text or an import statement beside, or give code_dir",
            file,
            line,
        )


def _can_pickle(one: Any, own: OwnModules, file: BytesIO, by_name: _Places | None = None) -> bool:
    with closing(FunctionPickler(file, own, by_name)) as pickler:
        try:
            pickler.dump(one)
        except Exception:
            return False
    return True


def _advice(
    functions: dict[str, Any], own: OwnModules, error: Exception, by_name: _Places | None = None
) -> str:
    search = Search(lambda one: _can_pickle(one, own, BytesIO(), by_name), own.is_by_value)
    trail = search.trail(functions)
    if trail is not None and _CLIENTS in trail:
        # What the client itself holds explains nothing.
        first = trail[: trail.index(_CLIENTS)] + trail[trail.index(_CLIENTS) :].partition(" → ")[0]
        return (
            f"the functions use a client or an endpoint, which can't go along: {first}. Within a worker, "
            'openlaunch.endpoint("NAME") calls another endpoint, without a key'
        )
    if trail is not None and _NOTEBOOK in trail:
        first = trail[: trail.index(_NOTEBOOK)] + _NOTEBOOK
        return (
            f"the functions use the notebook, which can't go along: {first}. A magic, as in %time, or a command, as "
            "in !ls, calls it: write Python in their place, such as subprocess.run"
        )
    return (
        f"the functions can't be pickled: {error}; it is {trail or 'somewhere in what they use'}. Make what can't be "
        "copied (connections, locks, models) in load_model_fn, or in a module that they import"
    )
