"""The distribution: what a wheel holds, and how little the client and the worker need."""

import email
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from own_environment import install

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    build = ["uv", "build", "--wheel", "--quiet", "--out-dir", str(folder), str(ROOT)]
    subprocess.run([sys.executable, "-m", *build], check=True, timeout=100)
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_has_all_packages_and_migrations(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    for source in (*(ROOT / "src").rglob("*.py"), *(ROOT / "src").rglob("py.typed")):
        assert str(source.relative_to(ROOT / "src")) in names
    assert not [name for name in names if name.startswith(("tests", "docs", "examples"))]


def test_the_wheel_has_the_documentation(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    for page in [*(ROOT / "docs").rglob("*.md"), *(ROOT / "docs/monitoring").iterdir()]:
        assert f"openlaunch/{page.relative_to(ROOT)}" in names


def test_the_wheel_says_its_license_and_carries_the_text(wheel):
    files = zipfile.ZipFile(wheel)
    (folder,) = {name.partition("/")[0] for name in files.namelist() if ".dist-info/" in name}
    metadata = email.message_from_bytes(files.read(f"{folder}/METADATA"))
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["License-File"] == "LICENSE"
    assert files.read(f"{folder}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()


def test_the_constraints_hold_every_dependency_and_name_no_host():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line[0] != "#"]
    constrained = {re.match(r"([a-z0-9-]+)==[\w.]+( ; [\w.<>=!' ()]+)?$", line)[1] for line in lines}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = project["dependency-groups"].values()
    required = [*project["project"]["dependencies"], *project["project"]["optional-dependencies"]["server"]]
    required += [item for group in groups for item in group if isinstance(item, str)]
    assert {re.match(r"[\w.-]+", item)[0].replace(".", "-") for item in required} <= constrained


@pytest.mark.slow
def test_the_light_client_installs_alone_and_says_what_a_server_needs(wheel, tmp_path):
    commands = install(tmp_path / "venv", wheel)
    look = "import openlaunch, sys; openlaunch.LaunchClient; print('fastapi' in sys.modules)"
    assert subprocess.check_output([commands / "python", "-c", look], text=True) == "False\n"
    serve = subprocess.run([commands / "openlaunch", "serve"], capture_output=True, text=True, timeout=60)
    assert serve.returncode == 2
    assert "pip install 'openlaunch[server]'" in serve.stderr


def test_the_worker_runtime_needs_the_standard_library_alone():
    look = """
import sys
before = set(sys.modules)
import openlaunch_worker.main
new = {name.partition(".")[0] for name in set(sys.modules) - before}
print(sorted(new - set(sys.stdlib_module_names) - {"openlaunch_worker", "cloudpickle"}))
"""
    assert subprocess.check_output([sys.executable, "-c", look], text=True) == "[]\n"


def test_importing_the_client_loads_nothing_heavy():
    heavy = ("pydantic", "httpx2", "typer", "fastapi", "sqlalchemy", "asyncio")
    look = f"import openlaunch, sys; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", look], text=True) == "[]\n"


def test_a_server_starts_without_what_no_prediction_needs():
    late = ("fastapi", "starlette", "httpx2", "alembic")
    look = f"import openlaunch.server.serve, sys; print([name for name in {late} if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", look], text=True) == "[]\n"
