"""What programs use of the machine, and that the ones that use too much are ended."""

import asyncio
import os
import subprocess
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from openlaunch.engines import build_watch
from openlaunch.engines.build_watch import Bounds, BuildWatch, bytes_of, memory_of_tree
from openlaunch.engines.commands import Stopped, run_command

MIB = 1024**2
linux = pytest.mark.skipif(sys.platform != "linux", reason="memory of processes is counted on Linux only")


@pytest.fixture(autouse=True)
def looks_often(monkeypatch):
    monkeypatch.setattr(build_watch, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(build_watch, "LOOKS_PER_COUNT", 2)


def reason(code: str, folder: Path, bounds: Bounds) -> str:
    """Why a program that does this is ended."""

    async def main() -> str:
        with pytest.raises(Stopped) as stopped:
            await run_command(
                [sys.executable, "-c", code],
                env={},
                timeout=60,
                cwd=folder,
                watch=BuildWatch((folder,), bounds),
            )
        return str(stopped.value)

    return asyncio.run(main())


@linux
def test_memory_of_children_and_shared_memory_count(tmp_path):
    code = (
        "import mmap, os, time\n"
        f"shared = mmap.mmap(-1, {60 * MIB}); shared.write(b'x' * {60 * MIB})\n"
        "if os.fork() == 0: own = bytearray(b'x' * 60 * 2**20)\n"
        "print('up', flush=True); time.sleep(600)"
    )
    assert reason(code, tmp_path, Bounds(memory=100 * MIB)) == "it used more than 100 MiB of memory"


def test_bytes_on_the_disk_are_bounded(tmp_path):
    code = f"open('file', 'wb').write(b'x' * {20 * MIB}); import time; time.sleep(600)"
    assert reason(code, tmp_path, Bounds(disk=10 * MIB)) == "it wrote more than 10 MiB to the disk"


def test_some_of_the_disk_stays_free(tmp_path):
    assert "of the disk free" in reason("import time; time.sleep(600)", tmp_path, Bounds(free=2**60))


def test_some_of_the_disks_files_stay_free(tmp_path):
    if os.statvfs(tmp_path).f_files == 0:
        pytest.skip("this file system does not count its files")
    said = reason("import time; time.sleep(600)", tmp_path, Bounds(free_files=1.01))
    assert said == "it left less than 101% of the disk's files free"


def test_a_program_within_its_bounds_ends_as_it_would(tmp_path):
    async def main() -> int:
        command = [sys.executable, "-c", "import time, sys; time.sleep(0.3); sys.exit(7)"]
        watch = BuildWatch((tmp_path,), Bounds())
        return (await run_command(command, env={}, timeout=60, watch=watch)).code

    assert asyncio.run(main()) == 7


@linux
def test_a_process_that_has_ended_uses_nothing():
    with subprocess.Popen(["true"]) as process:
        pass
    assert memory_of_tree(process.pid) == 0


def test_what_is_said_of_closed_folders_is_not_kept(tmp_path, monkeypatch):
    program = tmp_path / "du"
    program.write_text("#!/bin/sh\nhead -c 20000000 /dev/zero >&2\necho '7 x'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    tracemalloc.start()
    try:
        assert asyncio.run(bytes_of(tmp_path)) == 7 * 1024
        assert tracemalloc.get_traced_memory()[1] < MIB
    finally:
        tracemalloc.stop()


def test_what_can_not_be_counted_is_nothing(tmp_path):
    assert asyncio.run(bytes_of(tmp_path / "nowhere")) == 0


def test_slow_counts_take_no_threads(tmp_path, monkeypatch):
    """As many as there are threads for everything else."""
    program = tmp_path / "du"
    program.write_text(f"#!/bin/sh\necho >> {tmp_path}/begun\nexec sleep 600\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    async def main():
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(2))
        counts = [asyncio.create_task(BuildWatch((tmp_path,), Bounds())(os.getpid())) for _ in range(2)]
        async with asyncio.timeout(60):
            while not (tmp_path / "begun").exists() or len((tmp_path / "begun").read_bytes()) < 2:
                await asyncio.sleep(0.01)
            await asyncio.to_thread(lambda: None)
        for count in counts:
            count.cancel()
        await asyncio.gather(*counts, return_exceptions=True)

    asyncio.run(main())
