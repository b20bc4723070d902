"""Writes the reference of the HTTP API from the server's OpenAPI document."""

from collections.abc import Iterator
from typing import Any

from openlaunch.server.control.app import control_plane

Json = dict[str, Any]


def content() -> str:
    """Write every operation below its tag, then every schema."""
    document = control_plane(None).openapi()  # type: ignore[arg-type]  # a context is for answering
    operations = [
        (method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    lines: list[str] = []
    for tag in dict.fromkeys(tag_of(operation) for _, _, operation in operations):
        lines += [f"## {tag.capitalize()}", ""]
        for method, path, operation in operations:
            if tag_of(operation) == tag:
                lines += operation_lines(method, path, operation)
    lines += ["## Schemas", ""]
    for name, schema in sorted(document["components"]["schemas"].items()):
        lines += schema_lines(name, schema)
    return "\n".join(lines)


def tag_of(operation: Json) -> str:
    """Give the group of an operation."""
    return str((operation.get("tags") or ["others"])[0])


def operation_lines(method: str, path: str, operation: Json) -> Iterator[str]:
    """Write an operation: what it does, its parameters, its body and its answers."""
    yield f"### `{method.upper()} {path}` {{ #{operation['operationId'].replace('_', '-')} }}"
    yield from ("", operation.get("description") or operation.get("summary", ""), "")
    for parameter in operation.get("parameters", []):
        needed = "required" if parameter.get("required") else "optional"
        about = f": {parameter['description']}" if "description" in parameter else ""
        kind = type_of(parameter.get("schema", {}))
        yield f"- `{parameter['name']}` ({parameter['in']}, {kind}, {needed}){about}"
    for media, body in operation.get("requestBody", {}).get("content", {}).items():
        yield f"- Body (`{media}`): {type_of(body.get('schema', {}))}"
    for status, answer in operation.get("responses", {}).items():
        if status != "422":
            schemas = [type_of(body.get("schema", {})) for body in answer.get("content", {}).values()]
            yield f"- {status}: {', '.join(schemas) or answer.get('description', '')}"
    yield ""


def schema_lines(name: str, schema: Json) -> Iterator[str]:
    """Write a schema as a table of its fields."""
    yield from (f"### {name} {{ #{anchor(name)} }}", "")
    if schema.get("description"):
        yield from (" ".join(schema["description"].split()), "")
    properties = schema.get("properties", {})
    if not properties:
        yield from (f"Type: {type_of(schema)}", "")
        return
    yield from ("| field | type | default |", "|---|---|---|")
    for field, about in properties.items():
        default = "required" if field in schema.get("required", []) else f"`{about.get('default')}`"
        yield f"| `{field}` | {type_of(about)} | {default} |"
    yield ""


def type_of(schema: Json) -> str:
    """Name the type of a schema, linked where it has a name."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{anchor(name)})"
    for word in ("anyOf", "oneOf", "allOf"):
        if word in schema:
            return " or ".join(type_of(part) for part in schema[word])
    if "enum" in schema or "const" in schema:
        return " or ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return f"list of {type_of(schema.get('items', {}))}"
    return str(schema.get("type", "anything"))


def anchor(name: str) -> str:
    """Give the anchor of a schema."""
    return "schema-" + name.lower().replace("_", "-")
