"""Whether what one OpenAPI document describes is taken by another."""

from typing import Any

Schema = dict[str, Any]


class Document:
    """An OpenAPI document, with its references resolved on the way."""

    def __init__(self, document: Schema) -> None:
        self.paths: Schema = document["paths"]
        self._schemas: Schema = document["components"]["schemas"]

    def alternatives(self, schema: Schema) -> list[Schema]:
        """What a value of the schema may be: plain schemas, `null` as one of them."""
        if "$ref" in schema:
            found = self.alternatives(self._schemas[schema["$ref"].rpartition("/")[2]])
        elif any(key in schema for key in ("anyOf", "oneOf", "allOf")):
            parts = schema.get("anyOf") or schema.get("oneOf") or schema["allOf"]
            found = [plain for part in parts for plain in self.alternatives(part)]
        else:
            found = [schema]
        return [*found, {"type": "null"}] if schema.get("nullable") else found

    def request(self, path: str, method: str) -> Schema | None:
        """The schema of an operation's JSON body; None when it has none."""
        body = self.paths[path][method].get("requestBody")
        return None if body is None else body["content"].get("application/json", {}).get("schema")

    def response(self, path: str, method: str) -> Schema:
        """The schema of an operation's answer with status 200."""
        content = self.paths[path][method]["responses"]["200"].get("content", {})
        schema: Schema = content.get("application/json", {}).get("schema", {})
        return schema

    def parameters(self, path: str, method: str) -> dict[str, bool]:
        """The names of an operation's path and query parameters, and whether they are required."""
        found = self.paths[path][method].get("parameters", [])
        return {p["name"]: p.get("required", False) for p in found if p["in"] in ("path", "query")}


def problems(
    given_in: Document, given: Schema, taken_in: Document, taken: Schema, where: str, *, all_fields: bool
) -> list[str]:
    """Why not every value of `given` would be taken; empty when it would.

    `all_fields`: each field that may be given has to be known to the taker.
    """
    found = []
    for one in given_in.alternatives(given):
        tried = [
            _plain_problems(given_in, one, taken_in, other, where, all_fields)
            for other in taken_in.alternatives(taken)
        ]
        if all(tried):
            found += min(tried, key=len)
    return found


def _plain_problems(
    given_in: Document, given: Schema, taken_in: Document, taken: Schema, where: str, all_fields: bool
) -> list[str]:
    kind, wanted = given.get("type"), taken.get("type")
    if wanted is not None and kind != wanted and (kind, wanted) != ("integer", "number"):
        return [f"{where}: {kind or 'anything'} may be given, {wanted} is taken"]
    allowed, values = _values(taken), _values(given)
    if allowed is not None and (values is None or not values <= allowed):
        return [f"{where}: {values or 'anything'} may be given, {allowed} are taken"]
    if kind == "array":
        return problems(
            given_in,
            given.get("items", {}),
            taken_in,
            taken.get("items", {}),
            f"{where}[]",
            all_fields=all_fields,
        )
    return _object_problems(given_in, given, taken_in, taken, where, all_fields) if kind == "object" else []


def _values(schema: Schema) -> set[Any] | None:
    if "const" in schema:
        return {schema["const"]}
    return set(schema["enum"]) if "enum" in schema else None


def _object_problems(
    given_in: Document, given: Schema, taken_in: Document, taken: Schema, where: str, all_fields: bool
) -> list[str]:
    has, takes = given.get("properties", {}), taken.get("properties", {})
    missing = set(taken.get("required", ())) - set(given.get("required", ()))
    found = [f"{where}.{name}: is required, and may be missing" for name in sorted(missing)]
    if all_fields and takes:
        found += [f"{where}.{name}: is not known" for name in sorted(set(has) - set(takes))]
    for name in sorted(set(has) & set(takes)):
        path = f"{where}.{name}"
        found += problems(given_in, has[name], taken_in, takes[name], path, all_fields=all_fields)
    return found
