"""How the suite treats a test that fails."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
INI = "[pytest]\nmarkers = alone\n  slow\naddopts = -p xdist -p xdist.looponfail\n"
ALONE = """
import pytest

@pytest.mark.alone
def test_alone(): pass

@pytest.mark.slow
@pytest.mark.alone
def test_slow_and_alone(): assert False
"""
FLAKY = """
import pathlib

def test_flaky():
    seen = pathlib.Path("seen")
    second = seen.exists()
    seen.touch()
    assert second
"""


def run_suite(folder: Path, tests: str, *kind: str) -> "subprocess.CompletedProcess[str]":
    (folder / "tests").mkdir()
    (folder / "pytest.ini").write_text(INI)
    (folder / "tests" / "test_alone.py").write_text(ALONE)
    (folder / "tests" / "test_it.py").write_text(f"import pytest\n{tests}")
    command = [sys.executable, "-m", "tools.run_tests", *kind]
    environ = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=100)


def test_a_test_that_passes_the_second_time_passes_and_is_named(tmp_path: Path) -> None:
    done = run_suite(tmp_path, FLAKY)  # a slow test, which fails, is not run
    assert done.returncode == 0, done.stdout
    assert done.stdout.endswith("each is a fault to mend:\n  tests/test_it.py::test_flaky\n")


def test_a_test_that_fails_twice_is_a_failure(tmp_path: Path) -> None:
    done = run_suite(tmp_path, "def test_failed(): assert False\n")
    assert done.returncode == 1
    assert done.stdout.count("FAILED tests/test_it.py::test_failed") == 2


def test_many_tests_that_fail_are_not_repeated_and_slow_ones_run_where_they_are_asked_for(
    tmp_path: Path,
) -> None:
    slow = "".join(f"@pytest.mark.slow\ndef test_{n}(): assert False\n" for n in range(3))
    done = run_suite(tmp_path, slow, "slow")
    assert done.returncode == 1
    for name in ("test_it.py::test_2", "test_alone.py::test_slow_and_alone"):
        assert done.stdout.count(f"FAILED tests/{name}") == 1
