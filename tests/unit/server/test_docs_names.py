"""The routes, settings and methods of the client that the documentation names are there."""

import re
from pathlib import Path

import pytest

import openlaunch
from openlaunch.cli.variables import OF_THE_CLIENT
from openlaunch.server.control.app import control_plane
from openlaunch.server.settings import Settings

ROOT = Path(__file__).parents[3]
DOCUMENTS = [
    ROOT / "README.md",
    *(path for path in sorted((ROOT / "docs").rglob("*.md")) if "adr" not in path.parts),
]
VARIABLE = re.compile(r"\bOPENLAUNCH_([A-Z][A-Z_]*[A-Z])\b")
OF_OPENAI = {"batches", "chat", "files"}
"""What pages call of the client of OpenAI, which is a `client`, too."""


@pytest.fixture(scope="module")
def routes():
    """What the OpenAPI document has: methods by path, as patterns."""
    paths = control_plane(None).openapi()["paths"]
    return [
        (re.compile(re.sub(r"\\{[^}]*\\}", "[^ ]+", re.escape(path))), set(methods))
        for path, methods in paths.items()
    ]


@pytest.fixture(scope="module")
def variables():
    """What the server, the client, workers, tests and benchmarks read of the environment."""
    others = {
        name
        for folder in ("src", "tests", "benchmarks", "tools", "deploy")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".yaml", ".service") and path.name != Path(__file__).name
        for name in VARIABLE.findall(path.read_text())
    }
    return {name.upper() for name in Settings.model_fields} | set(OF_THE_CLIENT) | others | {"NAME"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_page_names_is_there(document, routes, variables):
    text = document.read_text()
    missing = []
    for method, path in re.findall(r"`(GET|POST|PUT|PATCH|DELETE) (/v1/[^ `?]+)", text):
        if not any(pattern.fullmatch(path) and method.lower() in methods for pattern, methods in routes):
            missing.append(f"{method} {path}")
    missing += [
        f"client.{name}"
        for name in re.findall(r"(?<![.\w])client\.([a-z_]\w*)", text)
        if name not in OF_OPENAI and not hasattr(openlaunch.LaunchClient, name)
    ]
    missing += [f"OPENLAUNCH_{name}" for name in VARIABLE.findall(text) if name not in variables]
    assert missing == []
