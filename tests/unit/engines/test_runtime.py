"""The worker runtime: copied once, found by environments, and no other version of it is left."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import cache_from_source
from pathlib import Path

from openlaunch.engines.runtime import install_runtime
from openlaunch_worker.module_command import module_command


def test_holds_the_runtime_and_cloudpickle_and_nothing_else(tmp_path):
    folder = install_runtime(tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == ["cloudpickle", "openlaunch_worker"]
    assert (folder / "openlaunch_worker" / "frames.py").is_file()


def test_is_installed_once(tmp_path):
    first = install_runtime(tmp_path)
    marker = (first / "openlaunch_worker" / "frames.py").stat().st_mtime_ns
    assert install_runtime(tmp_path) == first
    assert (first / "openlaunch_worker" / "frames.py").stat().st_mtime_ns == marker


def test_is_installed_once_for_those_who_want_it_at_once(tmp_path):
    with ThreadPoolExecutor(4) as threads:
        folders = list(threads.map(install_runtime, [tmp_path] * 4))
    assert list(tmp_path.iterdir()) == [folders[0]]
    assert len(set(folders)) == 1


def test_other_versions_and_halves_are_removed(tmp_path):
    (tmp_path / "0123456789abcdef" / "openlaunch_worker").mkdir(parents=True)
    (tmp_path / "new-half").mkdir()
    folder = install_runtime(tmp_path)
    assert list(tmp_path.iterdir()) == [folder]


def test_runs_without_anything_of_ours_beside_it(tmp_path):
    folder = install_runtime(tmp_path)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import openlaunch_worker.main as m; print(m.__file__)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, str(folder)], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(str(folder))


def test_has_its_bytecode(tmp_path):
    source = install_runtime(tmp_path) / "openlaunch_worker" / "frames.py"
    assert Path(cache_from_source(str(source))).is_file()


def test_a_module_of_it_is_run_behind_all_that_an_environment_has(tmp_path):
    runtime, working = tmp_path / "runtime", tmp_path / "working"
    for folder in (runtime, working):
        folder.mkdir()
        (folder / "json.py").write_text("raise SystemExit('the wrong module')")
        (folder / "module.py").write_text("def main(): import json, sys; print(__file__, *sys.argv[1:])")
    command = module_command(sys.executable, "module", runtime)
    done = subprocess.run([*command, "argument"], capture_output=True, text=True, check=True, cwd=working)
    assert done.stdout == f"{runtime}/module.py argument\n"
