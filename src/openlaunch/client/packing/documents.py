"""The JSON documents of a bundle: its schemas and its app_config."""

import functools
import inspect
import json
import operator
import sys
from collections.abc import Iterator, Mapping
from enum import Flag
from pathlib import Path
from types import GenericAlias
from typing import Annotated, Any, ClassVar, NotRequired, Required, get_origin, get_type_hints, is_typeddict

import typing_extensions
from pydantic import BaseModel, ConfigDict, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaWarningKind
from pydantic_core import PydanticSerializationError

from openlaunch.client.packing.interface import NONE, Interface, rebuilt
from openlaunch.errors import BundleError
from openlaunch.wire.bundles import BINARY, DERIVED
from openlaunch_worker.binaries import dtype_of, name_of
from openlaunch_worker.files import DType, File
from openlaunch_worker.values import check_keys, plain


def read_app_config(app_config: dict[str, Any] | str | Path | None) -> dict[str, Any] | None:
    """Return the app_config itself, or the content of the JSON file that it names.

    Raises BundleError when the file can't be read, or does not hold an object, or keys are the same in JSON.
    """
    if app_config is None:
        return None
    if isinstance(app_config, dict):
        try:
            check_keys(app_config, "app_config")
        except ValueError as error:
            raise BundleError(str(error)) from None
        return app_config
    given: object = app_config
    if not isinstance(given, str | Path):
        raise BundleError(f"app_config is {given!r:.100}: a dict, or the path of a JSON file, is needed")
    try:
        document = json.loads(Path(app_config).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError(f"app_config {str(app_config)!r} can't be read as a JSON file: {error}") from error
    if not isinstance(document, dict):
        raise BundleError(f"app_config {str(app_config)!r} holds no JSON object")
    return document


Given = type[BaseModel] | Interface | None
"""What a schema is made of."""


def pack_schemas(request: Given, response: Given, *, checked: bool = True) -> bytes:
    """Make JSON Schemas of a bundle's input and output, with the models that they use beside them.

    Without `checked`, those that come from annotations describe, and nothing is compared with them.
    """
    given = {"RequestSchema": request, "ResponseSchema": response}
    # All at once, so that two models of one name have two names.
    types = [each for name, one in given.items() for each in _types_of(name, one)]
    generator = _GeneratorOfMade if isinstance(request, Interface) else _Generator
    made, definitions = TypeAdapter.json_schemas(
        types, ref_template="#/components/schemas/{model}", schema_generator=generator
    )
    schemas = {key: schema["prefixItems"][0] for (key, _), schema in made.items()}
    document = dict(definitions.get("$defs", {}))
    if isinstance(request, Interface) and request.parameters is not None:
        document["RequestSchema"] = _of_parameters(request, schemas) | {DERIVED: checked}
    elif request is not None and "RequestSchema" in schemas:
        document["RequestSchema"] = _resolved(schemas["RequestSchema"], document)
    if "ResponseSchema" in schemas:
        derived = {DERIVED: checked} if isinstance(response, Interface) else {}
        document["ResponseSchema"] = _resolved(schemas["ResponseSchema"], document) | derived
    return json.dumps(document, sort_keys=True).encode()


def _types_of(name: str, given: Given) -> Iterator[tuple[str, JsonSchemaMode, TypeAdapter[Any]]]:
    """Yield the types that a schema is made of: a value's under the schema's name, parameters' below that."""
    if given is None:
        return
    if not isinstance(given, Interface):
        if not (isinstance(given, type) and issubclass(given, BaseModel)):
            raise BundleError(f"the {name} is {given!r}, a pydantic model class is needed")
        yield name, "validation", _adapter(given)
    elif name == "ResponseSchema":
        if _is_understood(given.returns, "serialization"):
            yield name, "serialization", _adapter(given.returns)
    else:
        for parameter in (given.parameters or {}).values():
            if _is_understood(parameter.annotation, "validation"):
                yield f"{name}.{parameter.name}", "validation", _adapter(parameter.annotation)
        if _is_understood(given.others, "validation"):
            yield f"{name}.**", "validation", _adapter(given.others)


def _adapter(kind: Any) -> TypeAdapter[Any]:
    # In a tuple, because models and dataclasses alone take no config.
    alone: Any = GenericAlias(tuple, (rebuilt(kind, _readable),))
    return TypeAdapter(alone, config=ConfigDict(arbitrary_types_allowed=True))


def adapter_of(kind: Any) -> TypeAdapter[Any] | None:
    """Return what reads a tuple of one value of a type; None for a type that pydantic does not know."""
    return _adapter(kind) if _is_understood(kind, "validation") else None


def _readable(kind: Any) -> Any:
    """Return a class that pydantic reads as it is meant.

    A path is a file, the type of an array's values is metadata, and a TypedDict of typing is one, if old.
    """
    if kind is Path:
        return File
    if (dtype := dtype_of(kind)) is not None:
        return Annotated[get_origin(kind), DType(dtype)]
    if not is_typeddict(kind) or sys.version_info >= (3, 12):
        return kind
    fields = {
        name: rebuilt(hint, _readable) for name, hint in get_type_hints(kind, include_extras=True).items()
    }
    marked = {n: _marked(h, is_required=n in kind.__required_keys__) for n, h in fields.items()}
    return typing_extensions.TypedDict(kind.__name__, marked)  # type: ignore[operator]


def _marked(hint: Any, *, is_required: bool) -> Any:
    """Return the type of a field as one that has to be there or not; what its own annotation says wins.

    Of annotations that are texts, Python does not read that.
    """
    if get_origin(hint) in (Required, NotRequired):
        return hint
    return Required[hint] if is_required else NotRequired[hint]


def without_json(interface: Interface) -> list[str]:
    """Return a sentence for each parameter of a type of which JSON has no values, such as a function."""
    known = [why.partition(":")[0] for why in interface.unread]
    given = [each for each in (interface.parameters or {}).values() if each.name not in known]
    return [
        f"{one.name}: no value of {_shown(one.annotation)} can be written in JSON"
        for one in given
        if not any(one.annotation is each for each in _ANYTHING)
        and not _is_understood(one.annotation, "validation")
    ]


def _shown(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) and not get_origin(kind) else str(kind)


def _is_understood(kind: Any, mode: JsonSchemaMode) -> bool:
    """Return whether a schema can be made of an annotation, which may be anything."""
    if kind in (NONE, Any):
        return False
    try:
        _adapter(kind).json_schema(mode=mode, schema_generator=_Generator)
    except Exception:
        return False
    return True


_ANYTHING = (NONE, Any, object)
_EMPTY = (list, dict, set, frozenset, tuple)
_WHOLE = r"^\s*[-+]?[0-9][0-9_]*(\.0*)?\s*$"
_DECIMAL = r"^\s*[-+]?([0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)([eE][-+]?[0-9]+)?\s*$"


class _Generator(GenerateJsonSchema):
    """Makes schemas, of what is sent as bytes too; of other classes that only Python has, it makes none."""

    ignored_warning_kinds: ClassVar[set[JsonSchemaWarningKind]] = {  # type: ignore[misc]
        "skipped-choice",
        "non-serializable-default",
    }

    def get_default_value(self, schema: Any) -> Any:
        """Return the default, also where it is made by `default_factory=list` or another empty collection."""
        factory = schema.get("default_factory")
        return factory() if factory in _EMPTY else super().get_default_value(schema)

    def encode_default(self, dft: Any) -> Any:
        """Return a default as JSON has it. Raise what pydantic does where JSON has none such, as for infinity."""
        encoded = super().encode_default(dft)
        try:
            json.dumps(encoded, allow_nan=False)
        except ValueError as error:
            raise PydanticSerializationError(str(error)) from None
        return encoded

    def get_decimal_pattern(self, schema: Any) -> str | None:
        return _DECIMAL

    def is_instance_schema(self, schema: Any) -> dict[str, Any]:
        name = name_of(schema["cls"])
        return self.handle_invalid_for_json_schema(schema, "a class") if name is None else _of_binary(name)

    def dict_schema(self, schema: Any) -> dict[str, Any]:
        """Have keys be texts, because JSON has no others: those of an Enum's values, and of whole numbers."""
        made = super().dict_schema(schema)
        if schema.get("keys_schema", {}).get("type") == "int":
            made["propertyNames"] = {"pattern": _WHOLE}
        reference = made.get("propertyNames", {}).get("$ref")
        of_keys = None if reference is None else self.get_schema_from_definitions(reference)
        if of_keys and (values := of_keys.get("enum")):
            made["propertyNames"] = {"enum": [str(value) for value in values]}
        return made

    def complex_schema(self, schema: Any) -> dict[str, Any]:
        return {"type": ["string", "number"], "format": "complex"}

    def bytes_schema(self, schema: Any) -> dict[str, Any]:
        return _of_binary("bytes")

    def enum_schema(self, schema: Any) -> dict[str, Any]:
        """Have several members of a Flag together be a value, too."""
        made = super().enum_schema(schema)
        if issubclass(schema["cls"], Flag) and made.get("type") == "integer":
            every = functools.reduce(operator.or_, made.pop("enum"), 0)
            made |= {"minimum": 0, "maximum": every}
        return made


class _GeneratorOfMade(_Generator):
    """Makes schemas of values that the worker makes by their types, which takes all that pydantic takes."""

    _takes_anything = False

    def model_schema(self, schema: Any) -> dict[str, Any]:
        """Have a field be there under any of its names."""
        made = super().model_schema(schema)
        model, properties = schema["cls"], made.get("properties")
        if self.mode != "validation" or not properties:
            return made
        for name, field in model.model_fields.items():
            shown, *others = self._names(model, name, field, properties)
            for each in others:
                properties.setdefault(each, properties[shown])
            if others and shown in made.get("required", ()):
                made["required"] = [each for each in made["required"] if each != shown]
                choices = [{"required": [each]} for each in (shown, *others)]
                made.setdefault("allOf", []).append({"anyOf": choices})
        return made

    def _names(self, model: Any, name: str, field: Any, properties: Mapping[str, Any]) -> list[str]:
        """Return the names under which a field may be given, that which the schema has first."""
        by_name = any(model.model_config.get(each) for each in ("populate_by_name", "validate_by_name"))
        alias = field.validation_alias or field.alias
        choices = getattr(alias, "choices", (alias,))
        names = [each for each in choices if isinstance(each, str)] + [name] * (by_name or alias is None)
        shown = next((each for each in (*names, name) if each in properties), name)
        return (
            [shown, *dict.fromkeys(each for each in names if each != shown)]
            if shown in properties
            else [name]
        )

    def function_before_schema(self, schema: Any) -> dict[str, Any]:
        return self._unless_own(schema, super().function_before_schema(schema))

    def function_wrap_schema(self, schema: Any) -> dict[str, Any]:
        return self._unless_own(schema, super().function_wrap_schema(schema))

    def function_plain_schema(self, schema: Any) -> dict[str, Any]:
        if self._is_own(schema) and not schema.get("json_schema_input_schema"):
            return {}
        return super().function_plain_schema(schema)

    def _unless_own(self, schema: Any, made: dict[str, Any]) -> dict[str, Any]:
        """Have a value be anything that a validator of the user's own sees first."""
        if not self._is_own(schema) or schema.get("json_schema_input_schema"):
            return made
        self._takes_anything = True
        return {"anyOf": [made, {}]}

    def tagged_union_schema(self, schema: Any) -> dict[str, Any]:
        """Have a value be of several of its types, where one of them may be anything."""
        made = super().tagged_union_schema(schema)
        if self._takes_anything and "oneOf" in made:
            made["anyOf"] = made.pop("oneOf")
        return made

    def _is_own(self, schema: Any) -> bool:
        module = getattr(schema["function"]["function"], "__module__", None) or ""
        return self.mode == "validation" and not module.startswith("pydantic")


def _of_binary(name: str) -> dict[str, Any]:
    """Return the schema of what is sent as bytes, or in JSON as a URL or, of arrays and tables, as lists."""
    if name in ("array", "tensor"):
        return {"type": ["array", "number", "boolean", "string"], BINARY: name}
    if name == "table":
        return {"type": ["array", "object", "string"], BINARY: name}
    media_type = {"contentMediaType": "image/*"} if name == "image" else {}
    return {"type": "string", "format": "binary", BINARY: name, **media_type}


def _of_parameters(interface: Interface, schemas: Mapping[str, Any]) -> dict[str, Any]:
    parameters = (interface.parameters or {}).values()
    return {
        "type": "object",
        "properties": {
            p.name: _of_parameter(p, schemas.get(f"RequestSchema.{p.name}", {})) for p in parameters
        },
        "required": [p.name for p in parameters if p.default is NONE],
        "additionalProperties": schemas.get("RequestSchema.**", interface.is_open),
    }


def _of_parameter(parameter: inspect.Parameter, schema: dict[str, Any]) -> dict[str, Any]:
    if parameter.default is NONE:
        return schema
    if parameter.default is None and schema and {"type": "null"} not in schema.get("anyOf", ()):
        schema = {"anyOf": [schema, {"type": "null"}]}
    try:
        default = json.loads(json.dumps(parameter.default, default=plain, allow_nan=False))
    except Exception:
        return schema  # it may be anything, and need not be shown
    return schema | {"default": default}


def _resolved(schema: dict[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """Return a model's schema in place of its name."""
    found: dict[str, Any] = definitions.get(str(schema.get("$ref", "")).rpartition("/")[2], schema)
    return found
