"""A worker that the kernel kills for want of memory, in a control group of its own."""

import os
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from server_driver import DEADLINE, SMALL, args, eventually, running

LIMIT = 256 * 1024 * 1024
GROUPS = Path("/sys/fs/cgroup")


def fill(size=0):
    return len(bytearray(os.urandom(4096)) * (size // 4096))


@contextmanager
def memory_group(pid):
    """A control group of this limit with the process in it; where this user may not make one, the test is skipped."""
    first_version = (GROUPS / "memory").is_dir()
    folder = (GROUPS / "memory" if first_version else GROUPS) / f"openlaunch-test-{os.getpid()}"
    before = _group_of(pid, first_version=first_version)
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error.strerror}")
    try:
        try:
            limit = "memory.limit_in_bytes" if first_version else "memory.max"
            (folder / limit).write_text(str(LIMIT))
            (folder / "cgroup.procs").write_text(str(pid))
        except OSError as error:
            pytest.skip(f"a control group can't be given a limit of memory here: {error.strerror}")
        yield
    finally:
        for member in (folder / "cgroup.procs").read_text().split():
            with suppress(ProcessLookupError):
                (before / "cgroup.procs").write_text(member)
        eventually(lambda: not (folder / "cgroup.procs").read_text())
        folder.rmdir()


def _group_of(pid, *, first_version):
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == ("memory" if first_version else ""):
            return (GROUPS / "memory" if first_version else GROUPS) / path.lstrip("/")
    pytest.skip("there are no control groups here")


@pytest.mark.alone  # the machine counts this kill for every server that has no control group
def test_a_worker_that_runs_out_of_memory_is_told_so():
    with running(task_max_attempts=1, limit_memory=False) as client, memory_group(client.server.pid):
        endpoint = client.deploy(
            fill, name="fill", endpoint_type="async", max_workers=1, per_worker=1, **SMALL
        )
        assert endpoint.predict(args(size=4096)).get(DEADLINE).value == 4096
        response = endpoint.predict(args(size=2 * LIMIT)).get(DEADLINE)
        assert response.status == "FAILURE"
        assert "killed by signal 9 (SIGKILL), probably out of memory" in response.traceback
        assert client.get_endpoint_metrics("fill").since_start.worker_ends == {"out_of_memory": 1}
        expected = "1 worker crashed: killed by signal 9 (SIGKILL), probably out of memory"
        eventually(lambda: expected in [e.message for e in client.list_endpoint_events("fill").events])
