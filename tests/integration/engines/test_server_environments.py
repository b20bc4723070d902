"""Bundles run in environments of their own, under the Python that they were packed with."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from own_environment import UV, install
from server_driver import SMALL, args, http

from openlaunch import LaunchClient
from openlaunch.errors import EndpointFailed

ROOT = Path(__file__).parents[3]
OTHERS = [f"3.{minor}" for minor in range(11, 15) if minor != sys.version_info.minor]


def test_a_bundles_requirements_are_there_and_the_servers_are_not(client):
    def look():
        import importlib.metadata
        import importlib.util

        return {
            "own": importlib.metadata.version("iniconfig"),
            "servers": [n for n in ("fastapi", "sqlalchemy") if importlib.util.find_spec(n)],
        }

    endpoint = client.deploy(look, name="en-needs", requirements=["iniconfig==2.0.0"], **SMALL)
    assert endpoint.predict(args()).value == {"own": "2.0.0", "servers": []}
    assert "iniconfig" in client.read_endpoint_creation_logs("en-needs")


def where():
    return sys.prefix


def test_an_owners_bundles_with_the_same_requirements_share_one_environment(client):
    first = client.deploy(where, name="en-one", requirements=["iniconfig"], **SMALL)
    second = client.deploy(where, name="en-two", requirements=["iniconfig"], **SMALL)
    assert first.predict(args()).value == second.predict(args()).value


def test_bundles_of_two_owners_share_no_environment(client):
    mine = client.deploy(where, name="en-mine", requirements=["iniconfig"], **SMALL)
    key = client.create_api_key("grace").api_key
    with LaunchClient(api_key=key, endpoint=client.server.url) as other:
        theirs = other.deploy(where, name="en-theirs", requirements=["iniconfig"], **SMALL)
        assert mine.predict(args()).value != theirs.predict(args()).value


def test_a_bundle_of_a_python_that_is_not_here_fails_and_says_so(client):
    client.create_model_bundle_from_callable_v2(
        model_bundle_name="en-old", load_predict_fn=lambda model: lambda: 1, load_model_fn=lambda: None
    )
    bundle = client.get_latest_model_bundle_v2("en-old")
    flavor = bundle.flavor.model_dump(mode="json") | {"python_version": "3.99"}
    with http(client) as raw:
        body = {"name": "en-old", "schema_location": bundle.schema_location, "flavor": flavor, "metadata": {}}
        made = raw.post("/v2/model-bundles", json=body)
        assert made.status_code == 200, made.text
    endpoint = client.create_model_endpoint(
        endpoint_name="en-old", model_bundle=made.json()["model_bundle_id"], endpoint_type="sync", **SMALL
    )
    with pytest.raises(EndpointFailed, match=r"packed with Python 3\.99, which is not on this machine"):
        client.get_model_endpoint(endpoint.name).wait_until_ready(60)


@pytest.mark.slow
def test_a_bundle_of_another_python_runs_under_that_python(client, tmp_path):
    version = next((v for v in OTHERS if _find_python(v)), None)
    if version is None:
        pytest.skip(f"none of Python {', '.join(OTHERS)} is on this machine")
    python = install(tmp_path / "venv", ROOT, python=_find_python(version)) / "python"
    script = tmp_path / "pack.py"
    script.write_text(
        "import sys, openlaunch\n"
        "def version():\n"
        "    return list(sys.version_info[:2])\n"
        "with openlaunch.LaunchClient() as client:\n"
        "    client.deploy(version, name='en-other', cpus=0.1, memory='64Mi')\n"
    )
    environ = {
        **os.environ,
        "OPENLAUNCH_URL": client.server.url,
        "OPENLAUNCH_API_KEY": client.server.api_key,
    }
    subprocess.run([python, script], check=True, timeout=100, env=environ)
    assert client.get_model_endpoint("en-other").predict(args()).value == [3, int(version[2:])]


def _find_python(version: str) -> str | None:
    """The interpreter of this version, where uv or pyenv has one."""
    found = subprocess.run(
        [*UV, "python", "find", "--no-python-downloads", "--no-project", version],
        capture_output=True,
        text=True,
    )
    if found.returncode == 0:
        return found.stdout.strip()
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    return next((str(path) for path in sorted(root.glob(f"versions/{version}.*/bin/python3"))), None)
