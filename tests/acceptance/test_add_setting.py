"""What docs/contributing.md says about adding a setting of endpoints, done to a copy of the source."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"```python\n# (src/\S+), in (\w+)\n(.*?)```", re.DOTALL)
CHECK = """
import inspect

from fastapi import FastAPI
from typer.testing import CliRunner

import openlaunch
from openlaunch.cli.app import app
from openlaunch.server.control.routes.endpoints import router
from openlaunch.server.endpoints.specs import changed_spec, new_spec
from openlaunch.store.endpoints import spec_document
from openlaunch.wire.endpoint_settings import EndpointSpec
from openlaunch.wire.endpoints import CreateModelEndpointRequest, UpdateModelEndpointRequest

TEXT = "Text for people, at most 200 characters."

for command in (["endpoints", "create"], ["endpoints", "edit"], ["deploy"]):
    shown = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "200"}).output
    assert "--description <str>" in shown and TEXT in shown, shown

for method in ("create_model_endpoint", "edit_model_endpoint", "deploy"):
    assert "description" in inspect.signature(getattr(openlaunch.LaunchClient, method)).parameters, method

api = FastAPI()
api.include_router(router(None))
schemas = api.openapi()["components"]["schemas"]
for name in ("CreateModelEndpointRequest", "UpdateModelEndpointRequest"):
    assert TEXT in schemas[name]["properties"]["description"]["description"], name
assert "description" in schemas["ModelEndpointResponse"]["properties"]

request = CreateModelEndpointRequest.model_validate({
    "name": "digits", "model_bundle_id": "b", "endpoint_type": "sync", "metadata": {}, "labels": {}, "cpus": 1,
    "gpus": 0, "memory": "1Gi", "storage": "1Gi", "min_workers": 0, "max_workers": 1, "per_worker": 1,
    "description": "digits by hand",
})
spec = EndpointSpec.model_validate(spec_document(new_spec(request)))
assert spec.description == "digits by hand"
assert changed_spec(spec, UpdateModelEndpointRequest(max_workers=2)).description == "digits by hand"
assert changed_spec(spec, UpdateModelEndpointRequest(description="other")).description == "other"
"""


def insert(file: Path, class_name: str, field: str) -> None:
    """Make the line the first field of the class."""
    text = file.read_text()
    (cls,) = [node for node in ast.parse(text).body if getattr(node, "name", None) == class_name]
    first = next(node for node in cls.body if isinstance(node, ast.AnnAssign))
    lines = text.splitlines(keepends=True)
    lines.insert(first.lineno - 1, f"    {field}")
    file.write_text("".join(lines))


def test_a_setting_is_added_in_three_files(tmp_path):
    blocks = BLOCK.findall((ROOT / "docs/contributing.md").read_text())
    assert len({file for file, _, _ in blocks}) == 3
    shutil.copytree(ROOT / "src", tmp_path / "src")
    for file, class_name, field in blocks:
        insert(tmp_path / file, class_name, field)
    environ = os.environ | {"PYTHONPATH": str(tmp_path / "src")}
    done = subprocess.run(
        [sys.executable, "-c", CHECK], env=environ, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
