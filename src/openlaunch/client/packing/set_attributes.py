"""Finds what scripts set by name in the user's modules and in objects there, as in `settings.debug = True`.

It is found in the text of the scripts, because any value may have been there before. What a worker runs itself, its
modules and functions, sets there what it sets here.
"""

import logging
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Set
from types import FunctionType
from typing import Any, Final

from openlaunch.client.packing.script_texts import COMPUTED, Setting, Text, read_function
from openlaunch.client.packing.set_by_calls import Calling, warn_of_calls
from openlaunch.client.packing.spots import NOTHING, Finder, Spot, attribute_of, shown, unsure_in, value_of

log = logging.getLogger(__name__)

_MOST_SHOWN: Final = 8


def set_attributes(
    names: Collection[str],
    packed: Mapping[str, Collection[str]],
    used: Set[str],
    can_pickle: Callable[[Any], bool],
) -> dict[Spot, dict[str, Any]]:
    """Return what scripts have set in the modules of these names, by the module and the way to the object.

    `packed` has the names of those functions and classes of scripts that workers get, and `used` the names that the
    code in them uses. What can't go along stays here, with a warning, and so does what may have been set by a name
    that no text has, and what functions of modules have set that no worker calls.
    """
    finder = Finder(names)
    found: dict[Spot, dict[str, Any]] = {}
    unsure: dict[Spot, tuple[Any, str, Text]] = {}
    calls: list[Calling] = []
    for script, file, text in finder.scripts():
        known: dict[str, Any] = _imported(text) | vars(sys.modules[script])
        of_workers = packed.get(script, ())
        here = [Calling(one, file, known) for one in text.calls if one.within not in of_workers]
        settings = [(one, known) for one in text.settings if one.within not in of_workers]
        settings += [one for each in here for one in _set_in_arguments(each, script, finder)]
        for setting, names_there in settings:
            holder, spot = finder.find(names_there, setting.path)
            if spot is None:
                continue
            if setting.attribute == COMPUTED:
                unsure.setdefault(spot, (holder, f"line {setting.line} of {file}", text))
            else:
                _add(found, holder, spot, setting.attribute, can_pickle)
        calls += here
    for spot, (holder, where, text) in unsure.items():
        for attribute in sorted(unsure_in(holder) & text.names):
            _add(found, holder, spot, attribute, can_pickle)
        if left := sorted(unsure_in(holder) - found.get(spot, {}).keys()):
            log.warning(
                "%s sets values of %s by names that are made there, which may be %s: in workers these are as the "
                "module makes them; set them by name, as in %s = …, or in load_model_fn",
                where,
                shown(spot),
                ", ".join(left[:_MOST_SHOWN]),
                shown(spot, left[0]),
            )
    warn_of_calls(calls, finder, used, found)
    return found


def _set_in_arguments(
    calling: Calling, script: str, finder: Finder
) -> Iterator[tuple[Setting, dict[str, Any]]]:
    """Give what a function of the script sets in its arguments, as `prepare(config.settings)` may."""
    call, _, known = calling
    function = known.get(call.path[0])
    if call.path[1:] or type(function) is not FunctionType or function.__module__ != script:
        return
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    paths = dict(zip(names, call.arguments, strict=False)) | dict(call.keywords)
    its = {name: finder.find(known, path)[0] for name, path in paths.items() if path}
    for setting in read_function(function.__code__).settings if its else ():
        if setting.path[0] in its:
            yield setting._replace(line=call.line), {**known, **its}


def _add(
    found: dict[Spot, dict[str, Any]],
    holder: Any,
    spot: Spot,
    attribute: str,
    can_pickle: Callable[[Any], bool],
) -> None:
    """Add the value of an attribute to what is found, or warn that it stays here."""
    if (value := value_of(holder, attribute)) is NOTHING:
        return
    if not issubclass(type(holder), list | set) and can_pickle(value):
        found.setdefault(spot, {})[attribute] = value
    else:
        log.warning(
            "%s does not go along as it is set here: a %s can't be pickled, or is too large; set it in load_model_fn",
            shown(spot, attribute),
            type(value).__qualname__,
        )


def _imported(text: Text) -> dict[str, Any]:
    """Return what a text imports, as far as it has been imported."""
    found: dict[str, Any] = {}
    for name, module, inner in text.imported:
        value = sys.modules.get(module, NOTHING)
        value = attribute_of(value, inner) if inner and value is not NOTHING else value
        if value is not NOTHING:
            found[name] = value
    return found
