"""What is uploaded, used as somebody does who installs it: `make release-check`.

It installs from a package index four times, which takes a minute or more, so `make test` does not collect this file.
"""

import os
import re
import signal
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest
from own_environment import UV, install

ROOT = Path(__file__).parents[2]

TUTORIALS = {"first-endpoint": "HELLO! HELLO!", "first-queue": "5\n", "first-stream": "{'number': 2}"}
"""The tutorials that are run from the package, and what each of them prints."""

PREDICT = """
import openlaunch
from openlaunch import EndpointRequest

client = openlaunch.LaunchClient()
print(client.get_model_endpoint("shout").predict(EndpointRequest(args={"text": "light"})).value)
future = client.get_model_endpoint("measure").predict(EndpointRequest(args={"word": "four"}))
print(future.get(timeout=60).value)
"""


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([*UV, "build", "--quiet", "--out-dir", folder, ROOT], check=True)
    return folder


def run(command, data_dir):
    """Run a command outside the source tree, without the variables and paths of this process."""
    environ = {"PATH": f"{command[0].parent}:/usr/bin:/bin", "OPENLAUNCH_DATA_DIR": str(data_dir)}
    environ |= {name: os.environ[name] for name in ("HOME", "SSL_CERT_FILE") if name in os.environ}
    done = subprocess.run(
        command, capture_output=True, text=True, env=environ, cwd=data_dir.parent, timeout=300
    )
    assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.timeout(600)
@pytest.mark.parametrize("pattern", ["*.whl", "*.tar.gz"])
def test_the_tutorials_work_from_an_installed_package(dist, pattern, tmp_path):
    (artifact,) = dist.glob(pattern)
    server, light = (
        install(tmp_path / f"venv{extra}", f"openlaunch{extra} @ {artifact.as_uri()}")
        for extra in ("[server]", "")
    )
    data_dir = tmp_path / "data"
    for name in TUTORIALS:
        text = (ROOT / f"docs/tutorials/{name}.md").read_text()
        blocks = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        (tmp_path / f"{name}.py").write_text("\n".join(blocks))
    (tmp_path / "predict.py").write_text(PREDICT)

    serve = [server / "openlaunch", "serve", "--port", "0", "--data-dir", data_dir]
    with subprocess.Popen(serve, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as serving:
        try:
            assert serving.stdout.readline().startswith("ready http://")
            for name, expected in TUTORIALS.items():
                output = run([server / "python", "-W", "error", tmp_path / f"{name}.py"], data_dir)
                assert expected in output
            assert run([light / "python", "-W", "error", tmp_path / "predict.py"], data_dir) == "LIGHT! \n4\n"
            assert "shout" in run([light / "openlaunch", "endpoints", "list"], data_dir)
        finally:
            serving.send_signal(signal.SIGTERM)
            assert serving.wait(60) == 0


def test_the_metadata_is_accepted_and_the_description_renders(dist):
    twine = [*UV, "tool", "run", "--quiet", "--from", "twine>=6", "twine", "check", "--strict"]
    subprocess.run([*twine, *sorted(dist.glob("openlaunch-*"))], check=True)


def test_the_source_distribution_holds_the_packages_and_what_describes_them(dist):
    (path,) = dist.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {Path(*Path(name).parts[1:]) for name in archive.getnames()}
    tops = {name.parts[0] for name in names}
    assert tops == {
        *("docs", "src", "LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml", "PKG-INFO", ".gitignore")
    }


def test_the_wheel_holds_both_packages_and_nothing_else(dist):
    (path,) = dist.glob("*.whl")
    names = zipfile.ZipFile(path).namelist()
    version = path.name.split("-")[1]
    assert {name.partition("/")[0] for name in names} == {
        *("openlaunch", "openlaunch_worker", f"openlaunch-{version}.dist-info")
    }
    for needed in ("openlaunch/py.typed", "openlaunch_worker/py.typed"):
        assert needed in names
