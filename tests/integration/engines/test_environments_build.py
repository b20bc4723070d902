"""Environments of bundles, built by the real uv."""

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from openlaunch.engines.build_watch import Bounds
from openlaunch.engines.environments import EnvironmentFailed, Environments, Limits
from openlaunch.engines.pythons import SERVER_PYTHON, _pyenv_pythons
from openlaunch_worker.module_command import module_command


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data" / "environments"


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_OFFLINE", "1")


def say(python: Path, code: str) -> str:
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    return done.stdout.strip()


def build(
    root: Path, *requirements: str, version: str | None = None, log: list[str] | None = None, owner: str = ""
) -> Path:
    async def main() -> Path:
        lines: list[str] = [] if log is None else log
        return await Environments(root, root.parent / "uv-cache").ensure(
            list(requirements), version, lines.append, owner=owner
        )

    return asyncio.run(main())


def failure(root: Path, *requirements: str, version: str | None = None, limits: Limits | None = None) -> str:
    async def main() -> str:
        with pytest.raises(EnvironmentFailed) as failed:
            await Environments(root, root.parent / "uv-cache", limits).ensure(
                list(requirements), version, lambda _: None
            )
        return str(failed.value)

    return asyncio.run(main())


@pytest.mark.usefixtures("offline")
def test_no_requirements_need_no_network(root: Path) -> None:
    python = build(root)
    assert say(python, "import sys; print(sys.prefix != sys.base_prefix)") == "True"


@pytest.mark.usefixtures("offline")
def test_nothing_of_the_server_is_there(root: Path) -> None:
    looked = "import importlib.util as u; print(*map(u.find_spec, ('openlaunch', 'openlaunch_worker', 'pydantic')))"
    assert say(build(root), looked) == "None None None"


@pytest.mark.usefixtures("offline")
def test_what_the_bundle_pins_wins_over_the_runtime(root: Path) -> None:
    environments = Environments(root, root.parent / "uv-cache")
    packages = Path(say(build(root), "import sysconfig; print(sysconfig.get_path('purelib'))"))
    (packages / "cloudpickle.py").write_text("import sys; sys.exit('pinned')")
    command = module_command(build(root), "openlaunch_worker.nursery", environments.runtime)
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    assert done.stderr == "pinned\n"


def test_requirements_are_installed(root: Path) -> None:
    log: list[str] = []
    python = build(root, "six==1.17.0", log=log)
    assert say(python, "import six; print(six.__version__)") == "1.17.0"
    assert any("six" in line for line in log)


def test_owners_share_no_file_of_what_they_require(root: Path) -> None:
    ours, theirs = (build(root, "six==1.17.0", owner=owner) for owner in ("ours", "theirs"))
    inodes = [
        {
            path.stat().st_ino
            for path in python.parents[1].rglob("*")
            if path.is_file() and not path.is_symlink() and path.suffix != ".pyc"
        }
        for python in (ours, theirs)
    ]
    assert len(inodes[0]) == len(inodes[1]) > 0
    assert inodes[0].isdisjoint(inodes[1])


def test_packages_get_their_bytecode_beside_the_first_workers(root: Path) -> None:
    folder = build(root, "six==1.17.0").parents[2]  # ended before it is compiled, or while it is
    (folder / "compiled").unlink(missing_ok=True)

    async def main() -> None:
        environments = Environments(root, root.parent / "uv-cache")
        await environments.ensure(["six==1.17.0"], None, lambda _: None)
        async with asyncio.timeout(60):
            while not (folder / "compiled").exists():
                await asyncio.sleep(0.02)
        await environments.close()

    asyncio.run(main())
    assert list(folder.glob("venv/lib/*/site-packages/__pycache__/six.*.pyc"))


@pytest.mark.usefixtures("offline")
def test_owners_without_requirements_share_one_environment(root: Path) -> None:
    assert build(root, owner="ours") == build(root, owner="theirs")


@pytest.mark.usefixtures("offline")
def test_environment_is_built_once_and_its_log_told_again(root: Path) -> None:
    first, second = [], []
    python = build(root, log=first)
    before = (python.parents[1] / "pyvenv.cfg").stat().st_mtime_ns
    assert build(root, log=second) == python
    assert (python.parents[1] / "pyvenv.cfg").stat().st_mtime_ns == before
    assert second == first != []


@pytest.mark.usefixtures("offline")
def test_order_repeats_and_the_servers_version_make_no_difference(root: Path) -> None:
    assert build(root) == build(root, version=SERVER_PYTHON)
    assert len([path for path in root.iterdir() if path.is_dir()]) == 1


@pytest.mark.usefixtures("offline")
def test_calls_at_the_same_time_share_one_build(root: Path) -> None:
    logs: list[list[str]] = [[], [], []]

    async def main() -> set[Path]:
        environments = Environments(root, root.parent / "uv-cache")
        return set(await asyncio.gather(*(environments.ensure([], None, log.append) for log in logs)))

    assert len(asyncio.run(main())) == 1
    assert logs[0] == logs[1] == logs[2] != []
    assert sum("environment for Python" in line for line in logs[0]) == 1


@pytest.mark.usefixtures("offline")
def test_an_interrupted_build_is_begun_again(root: Path) -> None:
    folder = build(root).parents[2]
    (folder / "openlaunch.json").unlink()
    (folder / "left-over").write_text("half")
    assert say(build(root), "print('up')") == "up"
    assert not (folder / "left-over").exists()


@pytest.mark.usefixtures("offline")
def test_an_environment_whose_python_has_gone_is_built_again(root: Path) -> None:
    python = build(root)
    python.unlink()
    marker = python.parents[2] / "openlaunch.json"
    marker.write_text(json.dumps({**json.loads(marker.read_text()), "base": "/nowhere/python"}))
    assert say(build(root), "print('up')") == "up"


@pytest.mark.usefixtures("offline")
def test_a_new_runtime_replaces_the_old_without_a_new_build(root: Path) -> None:
    python = build(root)
    stale = root.parent / "runtime" / "stale"
    stale.mkdir()
    assert build(root) == python
    assert not stale.exists()


def test_a_requirement_that_does_not_exist_is_named_in_the_reason(root: Path) -> None:
    reason = failure(root, "six==0.0.0.999")
    assert "six" in reason
    assert "0.0.0.999" in reason
    assert list(root.glob("*/openlaunch.json")) == []


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize(
    "requirement",
    [
        "",
        "--index-url=http://localhost",
        "-r /etc/passwd",
        "idna --index-url https://localhost",
        "# none",
        "six\nfive",
        "p @ http://h/${HOME}",
        "six \\",
    ],
)
def test_requirements_that_are_more_than_one_package_are_refused(root: Path, requirement: str) -> None:
    assert "is not allowed" in failure(root, requirement)


@pytest.mark.usefixtures("offline")
def test_a_requirement_that_is_none_is_refused_by_uv(root: Path) -> None:
    assert "not a requirement!" in failure(root, "not a requirement!")


def test_python_that_is_not_there_is_a_reason_that_says_what_to_do(root: Path) -> None:
    reason = failure(root, version="3.99")
    assert "packed with Python 3.99, which is not on this machine" in reason
    assert f"found: {SERVER_PYTHON}" in reason or f", {SERVER_PYTHON}" in reason
    assert reason.endswith(f"or pack the bundle with {SERVER_PYTHON}")


def test_another_minor_version_is_found(root: Path) -> None:
    others = sorted(set(_pyenv_pythons()) & {"3.10", "3.11", "3.12", "3.13"} - {SERVER_PYTHON})
    if not others:
        pytest.skip(f"no Python beside {SERVER_PYTHON} on this machine, neither on the PATH nor in a pyenv")
    python = build(root, version=others[0])
    assert say(python, "import sys; print('%d.%d' % sys.version_info[:2])") == others[0]
    assert list(root.parent.glob(f"runtime/*/*/__pycache__/main.cpython-{others[0].replace('.', '')}.pyc"))


def test_uv_that_takes_too_long_is_ended(root: Path) -> None:
    assert "was not done within 0.001 s" in failure(root, limits=Limits(timeout=0.001))


def slow_uv(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make uv a command that hangs with a child of its own; its process ids go into the file that is returned."""
    pids = folder / "pids"
    script = folder / "uv"
    script.write_text(f'#!/bin/sh\nsleep 300 &\necho $$ $! > "{pids}.new"; mv "{pids}.new" "{pids}"\nwait\n')
    script.chmod(0o755)
    monkeypatch.setattr("uv.find_uv_bin", lambda: str(script))
    return pids


def is_running(pid: int) -> bool:
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return state.stdout.strip() not in ("", "Z")


async def until_exists(path: Path) -> None:
    async with asyncio.timeout(20):
        while not path.exists():
            await asyncio.sleep(0.01)


def test_a_build_that_nobody_waits_for_any_more_is_killed(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids = slow_uv(tmp_path, monkeypatch)

    async def main() -> None:
        environments = Environments(root, root.parent / "uv-cache")
        waiters = [asyncio.create_task(environments.ensure([], None, lambda _: None)) for _ in range(2)]
        await until_exists(pids)
        waiters[0].cancel()
        await asyncio.wait([waiters[0]])
        assert all(is_running(int(pid)) for pid in pids.read_text().split())
        waiters[1].cancel()
        await asyncio.wait([waiters[1]])

    asyncio.run(main())
    deadline = time.monotonic() + 20
    while any(is_running(int(pid)) for pid in pids.read_text().split()):
        assert time.monotonic() < deadline
    assert list(root.glob("[!.]*")) == []


def test_only_so_many_builds_run_at_a_time(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids = slow_uv(tmp_path, monkeypatch)

    async def main() -> list[str]:
        environments = Environments(root, root.parent / "uv-cache", Limits(builds=1))
        started: list[str] = []
        tasks = [
            asyncio.create_task(
                environments.ensure([name], None, lambda _: None, lambda name=name: started.append(name))
            )
            for name in ("one", "two")
        ]
        await until_exists(pids)
        seen = list(started)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        return seen

    assert len(asyncio.run(main())) == 1


def test_uv_sees_none_of_the_servers_secrets(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "uv"
    script.write_text("#!/bin/sh\nenv\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setattr("uv.find_uv_bin", lambda: str(script))
    monkeypatch.setenv("OPENLAUNCH_API_KEY", "do-not-tell")
    monkeypatch.setenv("UV_INDEX_URL", "http://localhost/simple")
    log: list[str] = []

    async def main() -> None:
        with pytest.raises(EnvironmentFailed):
            await Environments(root, root.parent / "uv-cache").ensure([], None, log.append)

    asyncio.run(main())
    assert "UV_INDEX_URL=http://localhost/simple" in log
    assert not [line for line in log if "do-not-tell" in line]


@pytest.mark.usefixtures("offline")
def test_prune_removes_what_was_used_least_recently_and_is_not_in_use(root: Path) -> None:
    def fake(name: str, used: float) -> Path:
        folder = root / name
        folder.mkdir(parents=True)
        (folder / "openlaunch.json").write_text("{}")
        os.utime(folder / "openlaunch.json", (used, used))
        return folder / "venv" / "bin" / "python"

    oldest = fake("a", 1.0)
    for name, used in (("b", 2.0), ("c", 3.0), ("d", 4.0)):
        fake(name, used)
    (root / "half").mkdir()

    async def main() -> list[str]:
        return await Environments(root, root.parent / "uv-cache", Limits(environments=2)).prune({oldest})

    assert asyncio.run(main()) == ["half", "b", "c"]
    assert sorted(path.name for path in root.glob("[!.]*")) == ["a", "d"]


@pytest.mark.usefixtures("offline")
def test_a_build_that_uses_too_much_is_ended_and_says_so(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openlaunch.engines.build_watch.LOOK_SECONDS", 0.001)
    reason = failure(root, limits=Limits(bounds=Bounds(free=2**60)))
    assert reason.endswith("of the disk free")


@pytest.mark.usefixtures("offline")
def test_base_of_the_environment_is_the_servers_own_python(root: Path) -> None:
    assert say(build(root), "import sys; print(sys.base_prefix)") == sys.base_prefix
