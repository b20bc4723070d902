"""The worker runtime: copied once, found by environments, and no other version of it is left."""

import subprocess
import sys

from openlaunch.engines.runtime import PTH_NAME, install_runtime, link_runtime


def test_holds_the_runtime_and_cloudpickle_and_nothing_else(tmp_path):
    folder = install_runtime(tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == ["cloudpickle", "openlaunch_worker"]
    assert (folder / "openlaunch_worker" / "frames.py").is_file()


def test_is_installed_once(tmp_path):
    first = install_runtime(tmp_path)
    marker = (first / "openlaunch_worker" / "frames.py").stat().st_mtime_ns
    assert install_runtime(tmp_path) == first
    assert (first / "openlaunch_worker" / "frames.py").stat().st_mtime_ns == marker


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


def test_is_put_on_an_environments_path_and_kept_up_to_date(tmp_path):
    packages = tmp_path / "env" / "lib" / "python3.11" / "site-packages"
    packages.mkdir(parents=True)
    for name in ("old", "new"):
        link_runtime(tmp_path / "env", tmp_path / name)
        assert (packages / PTH_NAME).read_text() == f"{tmp_path / name}\n"
