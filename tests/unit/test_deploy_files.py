"""The files of deploy/ name what is there: settings, commands and paths."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from openlaunch.server.settings import Settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
SETTINGS = {f"OPENLAUNCH_{name.upper()}" for name in Settings.model_fields}


def _copied() -> list[str]:
    """What the Dockerfile copies from the source tree."""
    text = (DEPLOY / "Dockerfile").read_text()
    lines = [line.split()[1:-1] for line in text.splitlines() if re.match(r"COPY (?!--from)", line)]
    return [name for names in lines for name in names]


def test_the_image_is_made_of_what_is_there_and_sent():
    sent = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert _copied()
    assert [name for name in _copied() if not (ROOT / name).exists() or name not in sent] == []


def test_everything_that_the_package_is_built_from_is_sent():
    build = (ROOT / "pyproject.toml").read_text().partition("[tool.hatch.build.targets.sdist]")[2]
    needed = re.findall(r'"/([^"]+)"', build.partition("\n[")[0])
    assert "src" in needed
    assert [name for name in needed if name not in _copied()] == []


@pytest.mark.parametrize("file", [DEPLOY / "Dockerfile", *UNITS], ids=lambda path: path.name)
def test_every_setting_that_is_named_is_one(file):
    named = set(re.findall(r"OPENLAUNCH_[A-Z_]*[A-Z]", file.read_text()))
    assert named
    assert named <= SETTINGS


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_systemd_takes_the_unit(unit, tmp_path):
    if (program := shutil.which("systemd-analyze")) is None:
        pytest.skip("systemd-analyze is not installed")
    # Only the program of the unit is not there: it is one that is.
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text().replace("/opt/openlaunch/bin/openlaunch", "/bin/true"))
    run = subprocess.run(
        [program, "verify", "--man=no", str(copy)], capture_output=True, text=True, timeout=60
    )
    complaints = [line for line in run.stderr.splitlines() if unit.name in line]
    assert (run.returncode, complaints) == (0, [])
