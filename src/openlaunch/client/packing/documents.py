"""The JSON documents of a bundle: its schemas and its app_config."""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from openlaunch.errors import BundleError


def read_app_config(app_config: dict[str, Any] | str | Path | None) -> dict[str, Any] | None:
    """Return the app_config itself, or the content of the JSON file that it names.

    Raises BundleError when the file can't be read, or does not hold an object.
    """
    if app_config is None or isinstance(app_config, dict):
        return app_config
    try:
        document = json.loads(Path(app_config).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError(f"app_config {str(app_config)!r} can't be read as a JSON file: {error}") from error
    if not isinstance(document, dict):
        raise BundleError(f"app_config {str(app_config)!r} holds no JSON object")
    return document


def pack_schemas(request_schema: type[BaseModel] | None, response_schema: type[BaseModel] | None) -> bytes:
    """Make JSON Schemas of a bundle's input and output, with the models that they use beside them."""
    given = {"RequestSchema": request_schema, "ResponseSchema": response_schema}
    models = {name: model for name, model in given.items() if model is not None}
    if not models:
        return b"{}"
    for name, model in models.items():
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            raise BundleError(f"the {name} is {model!r}, a pydantic model class is needed")
    references, definitions = models_json_schema(
        [(model, "validation") for model in dict.fromkeys(models.values())],
        ref_template="#/components/schemas/{model}",
    )
    document = dict(definitions.get("$defs", {}))
    for name, model in models.items():
        schema = references[model, "validation"]
        document[name] = document.get(str(schema.get("$ref", "")).rpartition("/")[2], schema)
    return json.dumps(document, sort_keys=True).encode()
