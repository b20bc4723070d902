"""Says of what is given to `deploy` whether it can be served, and if not, what to write instead."""

import inspect
import json
from collections.abc import Callable
from types import ModuleType
from typing import Any

from pydantic import AliasChoices, BaseModel
from pydantic.fields import FieldInfo

from openlaunch.client.packing.documents import pack_schemas
from openlaunch.errors import BundleError
from openlaunch_worker.shapes import Shape, shape_of


def check_functions(
    fn: Any, load_model_fn: Any, endpoint_type: str | None, health_fn: Any = None, shutdown_fn: Any = None
) -> Shape:
    """Return the shape of `fn`.

    Raises:
        BundleError: one of them can't be called, or the endpoint's type does not suit what `fn` gives.
    """
    if load_model_fn is not None and not callable(load_model_fn):
        raise BundleError(
            f"load_model_fn is {_kind(load_model_fn)}, a function that loads and returns the model is needed"
        )
    for name, hook in (("health_fn", health_fn), ("shutdown_fn", shutdown_fn)):
        if hook is not None and not callable(hook):
            raise BundleError(
                f"{name} is {_kind(hook)}, a function is needed, which gets the model where there is a load_model_fn"
            )
    if load_model_fn is not None and shape_of(load_model_fn).yields:
        raise BundleError(
            "load_model_fn yields the model, and a generator would be given to fn: return the model. What is to be "
            "done at the end of a worker belongs in shutdown_fn"
        )
    if isinstance(fn, type):
        name = fn.__qualname__
        raise BundleError(
            f"fn is the class {name}, a function is needed: with load_model_fn={name} each worker makes an object "
            f"of it, and fn is what is called with it, such as fn={name}.predict"
        )
    if not callable(fn):
        raise BundleError(f"fn is {_kind(fn)}, a function is needed: {_advice(fn)}")
    if load_model_fn is not None and not _takes_model(fn):
        raise BundleError(
            "fn takes no positional argument, and with a load_model_fn it gets the model as the first: "
            "def predict(model, …)"
        )
    shape = shape_of(fn)
    if shape.yields and endpoint_type not in (None, "streaming"):
        raise BundleError(
            f"fn yields its items one by one, which only streaming endpoints pass on: leave "
            f"endpoint_type={endpoint_type!r} out, or let fn return a list"
        )
    return shape


def _takes_model(fn: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(fn, follow_wrapped=False).parameters.values()
    except (TypeError, ValueError):
        return True
    return any(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.VAR_POSITIONAL) for p in parameters)


def check_schema_fits(fn: Callable[..., Any], schema: type[BaseModel], *, has_model: bool) -> None:
    """Check that a function takes what its request schema lets pass.

    Raises BundleError: a field has another name in requests than the parameter has, is needed and not taken, or may
    be left out though nothing stands in its place.
    """
    try:
        # What a decorator's own function takes is what counts.
        parameters = list(inspect.signature(fn, follow_wrapped=False).parameters.values())[has_model:]
    except (TypeError, ValueError):
        return
    named = {p.name: p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return
    document = json.loads(pack_schemas(schema, None))["RequestSchema"]
    fields, required = document.get("properties", {}), document.get("required", ())
    if alias := next((n for n in fields if n not in named and _field_name(schema, n) in named), None):
        field = _field_name(schema, alias)
        raise BundleError(
            f"request_schema calls the field {field!r} {alias!r} in requests, and fn takes {field!r}: name the "
            f"parameter {alias!r}, or leave the alias out"
        )
    if unknown := next((name for name in required if name not in named), None):
        raise BundleError(
            f"request_schema needs {unknown!r}, which fn does not take: add it to the parameters of fn, or **kwargs"
        )
    for name, part in fields.items():
        is_needed = name in named and named[name].default is inspect.Parameter.empty
        if is_needed and name not in required and "default" not in part:
            raise BundleError(
                f"request_schema lets {name!r} be left out, with a default that JSON does not have, such as that "
                f"of a default_factory: give the parameter {name!r} of fn a default of its own"
            )


def _field_name(schema: type[BaseModel], name: str) -> str:
    """Return the field that has a name in requests."""
    for field, info in schema.model_fields.items():
        if name != field and name in _aliases(info):
            return field
    return name


def _aliases(info: FieldInfo) -> tuple[Any, ...]:
    given = info.validation_alias or info.alias
    return tuple(given.choices) if isinstance(given, AliasChoices) else (given,)


def _kind(value: Any) -> str:
    """Name what was given by its type, because a value may be secret or long."""
    return "None" if value is None else f"of type {type(value).__qualname__}"


def _advice(value: Any) -> str:
    if isinstance(value, str):
        return "import the function and give it itself, not its name; `openlaunch deploy MODULE:FUNCTION` takes names"
    if isinstance(value, ModuleType):
        return "give one of the module's functions"
    for method in ("predict", "forward", "transform", "generate"):
        if callable(getattr(value, method, None)):
            return f"give its method, fn=….{method}, or load it in load_model_fn and call it in fn"
    if value is None:
        return "a decorator or a factory of the function may lack its `return`"
    if inspect.iscoroutine(value) or inspect.isgenerator(value) or inspect.isasyncgen(value):
        return "give the function itself, without calling it"
    return "give the function itself, not what it returns"
