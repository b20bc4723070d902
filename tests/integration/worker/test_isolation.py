"""Isolated workers: what is the server's, other workers' or the system's is out of their reach. Linux only."""

import ctypes
import json
import os
import signal
import sys
import tempfile
from pathlib import Path

import pytest
from server_driver import args, running

from openlaunch_worker.documents import IsolationOrder
from openlaunch_worker.isolation import NotIsolated, isolate

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers are isolated on Linux only")

MIB = 2**20


def attempt(what: str, path: str = "", pid: int = 0, size: int = 0):
    """Do something that a worker has no business with; a refusal is told by its type."""
    import ctypes
    import os
    import pathlib
    import signal

    try:
        if what == "list":
            return sorted(entry.name for entry in pathlib.Path(path).iterdir())
        if what == "write":
            return pathlib.Path(path).write_text("mine")
        if what == "read":
            return len(pathlib.Path(path).read_bytes())
        if what == "signal":
            return os.kill(pid, signal.SIGCONT)
        if what == "uncover":
            return ctypes.CDLL(None).umount2(path.encode(), 2)
        if what == "allocate":
            return len(bytearray(size))
    except (OSError, MemoryError) as error:
        return type(error).__name__


@pytest.fixture(scope="module")
def server():
    with running(isolation="required") as client:
        client.deploy(
            attempt, name="attempt", min_workers=1, max_workers=1, per_worker=1, cpus=0.1, memory="64Mi"
        )
        yield client


@pytest.fixture(scope="module")
def tried(server):
    endpoint = server.get_model_endpoint("attempt")
    return lambda **wanted: endpoint.predict(args(**wanted)).value


def test_a_worker_sees_of_the_data_directory_only_what_it_needs(server, tried):
    assert tried(what="list", path=str(server.server.data_dir)) == ["environments", "runtime", "workers"]
    assert len(tried(what="list", path=str(server.server.data_dir / "workers"))) == 1


@pytest.mark.parametrize("file", ["openlaunch.db", "credentials.json", "url-secret"])
def test_a_worker_can_not_read_what_is_the_servers(server, tried, file):
    assert (server.server.data_dir / file).exists()
    assert tried(what="read", path=str(server.server.data_dir / file)) == "FileNotFoundError"


def test_a_worker_can_not_write_into_the_data_directory(server, tried):
    assert tried(what="write", path=str(server.server.data_dir / "mine")) == "OSError"
    assert not (server.server.data_dir / "mine").exists()


def test_a_worker_can_not_uncover_the_data_directory(server, tried):
    assert tried(what="uncover", path=str(server.server.data_dir)) == -1
    assert "openlaunch.db" not in tried(what="list", path=str(server.server.data_dir))


@pytest.mark.parametrize("file", ["environ", "mem", "root/etc/hostname"])
def test_a_worker_can_not_look_into_the_server(server, tried, file):
    assert tried(what="read", path=f"/proc/{server.server.pid}/{file}") == "PermissionError"


def test_a_worker_can_not_signal_the_server(server, tried):
    assert tried(what="signal", pid=server.server.pid) == "PermissionError"


def test_a_worker_can_use_its_own_folder_and_the_temporary_one(tried, tmp_path):
    assert tried(what="write", path="mine") == 4
    assert tried(what="write", path=str(tmp_path / "mine")) == 4


def test_too_much_memory_is_an_error_of_the_one_request(tried):
    assert tried(what="allocate", size=500 * MIB) == "MemoryError"
    assert tried(what="allocate", size=100 * MIB) == 100 * MIB


def test_a_model_that_does_not_fit_says_what_to_do(server):
    def load():
        return bytearray(600 * 2**20)

    with pytest.raises(Exception, match=r"the worker may use \d+ MiB: give the endpoint more `memory`"):
        server.deploy(
            lambda model, x: x, name="large", load_model_fn=load, min_workers=1, cpus=0.1, memory="64Mi"
        )


def test_nothing_is_isolated_where_that_is_off():
    with running(isolation="off", limit_memory=False) as client:
        endpoint = client.deploy(attempt, name="attempt", min_workers=1, cpus=0.1, memory="64Mi")
        assert "openlaunch.db" in endpoint.predict(args(what="list", path=str(client.server.data_dir))).value
        assert endpoint.predict(args(what="allocate", size=500 * MIB)).value == 500 * MIB


# The same as another user, in processes of the tests' own.

NOBODY = 65534
PR_SET_DUMPABLE = 4


def as_nobody(folder, function):
    """What the function returns in a process of a user without any rights, as JSON."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    out, into = os.pipe()
    if (pid := os.fork()) == 0:
        try:
            os.chown(folder, NOBODY, NOBODY)
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
            os.write(into, json.dumps(function()).encode())
        finally:
            os._exit(0)
    os.close(into)
    with os.fdopen(out) as file:
        answer = json.loads(file.read())
    os.waitpid(pid, 0)
    return answer


def order(folder, **changed):
    return IsolationOrder(str(folder), **changed)


def count_forks(most: int) -> int:
    """How many processes can be had at once, up to so many."""
    children = []
    try:
        for _ in range(most):
            if (pid := os.fork()) == 0:
                signal.pause()
            children.append(pid)
    except BlockingIOError:
        pass
    for pid in children:
        os.kill(pid, signal.SIGKILL)
    return len(children)


@pytest.fixture
def data():
    """A data directory that another user can get to."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield folder


def own(data: str) -> str:
    """A worker's folder, beside another one."""
    (Path(data) / "other").mkdir()
    (Path(data) / "own").mkdir()
    return f"{data}/own"


def test_an_ordinary_user_is_isolated_too(data):
    def work():
        missing = isolate(order(data, required=True), own(data))
        return [missing, [path.name for path in Path(data).iterdir()], os.geteuid()]

    assert as_nobody(data, work) == [[], ["own"], NOBODY]


def test_an_ordinary_users_processes_are_bounded(data):
    def work():
        isolate(order(data, processes=10), own(data))
        return count_forks(50)

    assert as_nobody(data, work) == 9


WHY = "the server's data directory is not hidden (No such file or directory)"


def test_what_can_not_be_done_is_told(data):
    assert as_nobody(data, lambda: isolate(order(f"{data}/nowhere"), own(data))) == [WHY]


def test_what_can_not_be_done_ends_the_start_where_it_is_required(data):
    def work():
        with pytest.raises(NotIsolated) as caught:
            isolate(order(f"{data}/nowhere", required=True), own(data))
        return str(caught.value)

    assert as_nobody(data, work) == WHY
