"""Fills in what a request leaves out and its bundle's request schema has a default for.

Here, where the `args` are parsed in any case: the server passes a request on as the bytes that came.
"""

import inspect
import json
from collections.abc import Callable, Collection, Iterable
from typing import Any, Final

Fill = Callable[[Any], None]
"""Fills in the defaults within a value of JSON, in place."""

_TYPES: Final = {
    "object": dict,
    "array": list,
    "string": str,
    "number": float,
    "integer": int,
    "null": type(None),
}


def _nothing(value: Any) -> None:
    pass


def filler(document: dict[str, Any] | None, names: Collection[str] | None = None) -> Fill | None:
    """Return what fills in the defaults of the JSON schema at a document's root; None where it has none.

    Of the root's own fields, only those with these names are filled in; without `names`, all.
    """
    made = _nothing if document is None else _Schemas(document).of(document)
    if made is _nothing or names is None:
        return None if made is _nothing else made

    def fill(value: Any) -> None:
        sent = frozenset(value) if type(value) is dict else frozenset[str]()
        made(value)
        if type(value) is dict:
            for name in [name for name in value if name not in sent and name not in names]:
                del value[name]

    return fill


def parameters_of(predict: Callable[..., Any]) -> Collection[str]:
    """Return the names of the parameters that a function takes by name; what `**kwargs` takes has none."""
    try:
        parameters = inspect.signature(predict).parameters.values()
    except (TypeError, ValueError):
        return ()
    return frozenset(p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD))


class _Schemas:
    """Makes the function for each part of one document once; a part may refer to itself."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        self._made: dict[int, Fill] = {}

    def of(self, schema: Any) -> Fill:
        if not isinstance(schema, dict):
            return _nothing
        made = self._made.get(id(schema))
        if made is None:
            # Where the part is within itself, what is made of it is looked up when there is a value for that.
            self._made[id(schema)] = lambda value: self._made[id(schema)](value)
            made = self._made[id(schema)] = self._make(schema)
        return made

    def _make(self, schema: dict[str, Any]) -> Fill:
        parts = [self.of(part) for part in schema.get("allOf", ())]
        if "$ref" in schema:
            parts.append(self.of(self._named(schema["$ref"])))
        if "properties" in schema or isinstance(schema.get("additionalProperties"), dict):
            parts.append(self._of_object(schema))
        if "items" in schema or "prefixItems" in schema:
            parts.append(self._of_array(schema))
        if union := schema.get("anyOf") or schema.get("oneOf"):
            parts.append(self._of_union(union))
        parts = [part for part in parts if part is not _nothing]
        if len(parts) < 2:
            return parts[0] if parts else _nothing
        return lambda value: _all(parts, value)

    def _of_object(self, schema: dict[str, Any]) -> Fill:
        properties = {name: part for name, part in schema.get("properties", {}).items() if type(part) is dict}
        # As text, because each request needs a list or an object of its own.
        defaults = {name: json.dumps(p["default"]) for name, p in properties.items() if "default" in p}
        inner = {name: self.of(part) for name, part in properties.items()}
        others = self.of(schema.get("additionalProperties"))
        if not defaults and all(part is _nothing for part in (*inner.values(), others)):
            return _nothing

        def fill(value: Any) -> None:
            if type(value) is dict:
                for name, given in value.items():
                    inner.get(name, others)(given)
                for name, text in defaults.items():
                    if name not in value:
                        value[name] = json.loads(text)

        return fill

    def _of_array(self, schema: dict[str, Any]) -> Fill:
        first = [self.of(part) for part in schema.get("prefixItems", ())]
        others = self.of(schema.get("items"))
        if all(part is _nothing for part in (*first, others)):
            return _nothing

        def fill(value: Any) -> None:
            if type(value) is list:
                for number, item in enumerate(value):
                    (first[number] if number < len(first) else others)(item)

        return fill

    def _of_union(self, union: Iterable[Any]) -> Fill:
        """Fill in the defaults of the part that has most of a value's keys; where two have as many, of none."""
        parts = [(part, self.of(part)) for part in union]
        if all(fill_part is _nothing for _, fill_part in parts):
            return _nothing

        def fill(value: Any) -> None:
            if type(value) in (dict, list):
                ranked = [(self._keys_of(part, value), fill_part) for part, fill_part in parts]
                most = max(count for count, _ in ranked)
                best = [fill_part for count, fill_part in ranked if count == most]
                if most >= 0 and len(best) == 1:
                    best[0](value)

        return fill

    def _keys_of(self, schema: Any, value: Any) -> int:
        """Return how many of the value's keys a part has; -1: its type or its keys exclude that the value fits."""
        while isinstance(schema, dict) and "$ref" in schema:
            schema = self._named(schema["$ref"])
        if not isinstance(schema, dict) or type(value) is not _TYPES.get(schema.get("type", ""), type(value)):
            return -1
        if type(value) is not dict:
            return 0
        properties = schema.get("properties", {})
        known = properties.keys() & value.keys()
        closed = schema.get("additionalProperties") is False and len(known) < len(value)
        if closed or any(name not in value for name in schema.get("required", ())):
            return -1
        return len(known) if all(_allows(properties[name], value[name]) for name in known) else -1

    def _named(self, reference: str) -> Any:
        found: Any = self._document
        for name in reference.removeprefix("#").split("/")[1:]:
            found = found[name.replace("~1", "/").replace("~0", "~")]
        return found


def _all(parts: list[Fill], value: Any) -> None:
    for part in parts:
        part(value)


def _allows(schema: Any, value: Any) -> bool:
    """Return whether the value is what a `const` or an `enum` allows, which tell the parts of a union apart."""
    if not isinstance(schema, dict):
        return True
    if "const" in schema:
        return bool(schema["const"] == value)
    return "enum" not in schema or value in schema["enum"]
