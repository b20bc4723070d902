"""How the suite treats a test that fails."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INI = "[pytest]\nmarkers = alone\n  slow\naddopts = -p xdist -p xdist.looponfail\n"
FLAKY = """
import pathlib

def test_flaky():
    seen = pathlib.Path("seen")
    second = seen.exists()
    seen.touch()
    assert second
"""


def run_suite(folder: Path, tests: str, *kind: str) -> "subprocess.CompletedProcess[str]":
    (folder / "pytest.ini").write_text(INI)
    (folder / "test_it.py").write_text(f"import pytest\n@pytest.mark.alone\ndef test_alone(): pass\n{tests}")
    command = [sys.executable, "-m", "tools.run_tests", *kind]
    environ = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=100)


def test_a_test_that_passes_the_second_time_passes_and_is_named(tmp_path: Path) -> None:
    done = run_suite(tmp_path, FLAKY)
    assert done.returncode == 0, done.stdout
    assert done.stdout.endswith("each is a fault to mend:\n  test_it.py::test_flaky\n")


@pytest.mark.parametrize("count", [1, 4])
def test_tests_that_fail_twice_and_many_that_fail_are_a_failure(tmp_path: Path, count: int) -> None:
    done = run_suite(tmp_path, "".join(f"def test_{n}(): assert False\n" for n in range(count)))
    assert done.returncode == 1
    assert ("no tests ran" in done.stdout, done.stdout.count("short test summary")) == (
        False,
        2 if count == 1 else 1,
    )


def test_slow_tests_run_where_they_are_asked_for(tmp_path: Path) -> None:
    slow = "@pytest.mark.slow\ndef test_slow(): assert False\n"
    assert run_suite(tmp_path, slow).returncode == 0
    assert run_suite(tmp_path, slow, "slow").returncode == 1
