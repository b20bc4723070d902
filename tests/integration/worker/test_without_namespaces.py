"""What holds of isolation where the kernel gives no namespaces to the server's user. Linux only.

Under `auto` those rows of the table in docs/concepts/security.md hold that say so. Under `required` nothing starts.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hostile_owner import MIB, REFUSED, Cell, attempt, memory_is_bounded, processes_of, used_too_much
from server_driver import SMALL, args, eventually
from server_users import USERS, running_as

from openlaunch.errors import OpenlaunchError
from openlaunch.testing import LocalClient

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="workers are isolated on Linux only"),
]

DISK_BYTES = 30 * MIB
WHY = "isolation is required, and no part of the file system is hidden"
HOW = ("Operation not permitted", "the kernel's limit on namespaces is reached")
ADVICE = "allow this user to make user namespaces"


@pytest.fixture(scope="module", params=USERS)
def cell(request) -> Iterator[Cell]:
    with running_as(
        request.param, namespaces=False, openlaunch_isolation="auto", openlaunch_worker_disk_bytes=DISK_BYTES
    ) as (client, _):
        found = Cell(client)
        yield found
        for each in (found.mallory, found.victim):
            each.close()


@pytest.fixture(scope="module", params=USERS)
def strict(request) -> Iterator[LocalClient]:
    with running_as(request.param, namespaces=False, openlaunch_isolation="required") as (client, _):
        yield client


def test_the_log_says_what_is_missing(cell):
    assert cell.attack("1") == 1
    logs = cell.mallory.read_endpoint_logs("attack")
    assert "not isolated as it could be: no part of the file system is hidden" in logs
    assert "what it starts may outlive it" in logs


def test_it_has_no_powers_and_no_descriptors_of_others(cell):
    status = cell.attack("open('/proc/self/status').read()")
    for name in ("CapPrm", "CapEff", "CapInh", "CapAmb"):
        assert f"{name}:\t0000000000000000" in status
    assert "NoNewPrivs:\t1" in status
    assert cell.attack("os.setuid(int(os.geteuid() == 0))") in REFUSED
    files = "['/proc/self/fd/' + each for each in os.listdir('/proc/self/fd')]"
    sockets = f"[each for each in {files} if 'socket' in os.path.realpath(each)]"
    of_the_loop = 2
    assert len(cell.attack(sockets)) <= 1 + of_the_loop


@pytest.mark.parametrize("where", ["tempfile.gettempdir()", "os.path.expanduser('~')", "os.getcwd()"])
def test_its_temporary_folder_and_home_are_its_own_and_go_with_it(cell, where):
    name = f"own-{len(where)}"
    run = cell.deploy(cell.mallory, name)
    place = run(where)
    assert str(cell.data / "workers") in place
    assert run(f"pathlib.Path({where}, 'mine').write_text('mine')") == 4
    assert place != cell.other(where)
    cell.mallory.delete_model_endpoint(name)
    eventually(lambda: not Path(place).exists())


def test_a_program_that_it_starts_has_these_too(cell):
    told = cell.attack("subprocess.check_output('echo $TMPDIR $HOME; mktemp', shell=True, text=True)")
    assert told.count(str(cell.data / "workers")) == 3


@pytest.mark.parametrize(
    ("name", "where"),
    [("tmp", "tempfile.gettempdir()"), ("home", "os.path.expanduser('~')"), ("work", "'.'")],
)
def test_the_disk_of_a_worker_is_bounded(cell, name, where):
    large = DISK_BYTES + MIB
    code = f"pathlib.Path({where}, 'large').write_bytes(bytes({large})) and __import__('time').sleep(600)"
    used_too_much(cell, name, code, "more of the disk than is allowed")


def test_memory_is_bounded(cell):
    memory_is_bounded(cell)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("memfd", "os.memfd_create('x')"),
        ("shm", "os.open('/dev/shm', os.O_TMPFILE | os.O_RDWR)"),
    ],
)
def test_files_in_memory_are_bounded_while_they_are_open(cell, name, file):
    fill = f"[os.write(file, bytes(1 << 20)) for file in [{file}] for _ in range(600)]"
    used_too_much(cell, name, f"({fill}, __import__('time').sleep(600))", "MiB of memory; `memory` allows")


def test_what_a_worker_leaves_behind_ends_with_it(cell):
    mark = f"left behind in {cell.data}"
    code = f"import time; time.sleep(600)  # {mark}"
    run = cell.deploy(cell.mallory, "leaves")
    leave = f"subprocess.Popen([sys.executable, '-c', {code!r}], start_new_session=True) and 1"
    assert run(leave) == 1
    eventually(lambda: processes_of(mark))
    cell.mallory.delete_model_endpoint("leaves")
    eventually(lambda: processes_of(mark) == [])


def test_no_other_process_is_signalled(cell):
    """Its own user's processes are seen."""
    assert cell.attack(f"os.kill({cell.admin.server.pid}, signal.SIGCONT)") == "PermissionError"
    assert cell.attack(f"open('/proc/{cell.admin.server.pid}/mem', 'rb').read(1)") == "PermissionError"


def test_its_log_is_bounded(cell):
    run = cell.deploy(cell.mallory, "prints")
    assert run(f"[print('x' * {MIB}) for _ in range(30)] and 1") == 1
    logs = cell.data / "logs"
    eventually(lambda: max(each.stat().st_size for each in logs.rglob("*.log")) > MIB)
    assert max(each.stat().st_size for each in logs.rglob("*.log")) <= 12 * MIB


@pytest.mark.parametrize(
    ("name", "options"),
    [("kept", {"min_workers": 1}), ("zero", {"min_workers": 0}), ("built", {"requirements": ["six"]})],
)
def test_nothing_starts_where_isolation_is_required_and_the_reason_says_why(strict, name, options):
    with pytest.raises(OpenlaunchError, match=WHY) as caught:
        strict.deploy(attempt, name=name, **{**SMALL, **options})
    endpoint = strict.get_model_endpoint(name)
    with pytest.raises(OpenlaunchError, match=WHY) as refused:
        endpoint.predict(args(code="1"))
    for said in (str(caught.value), str(refused.value), str(endpoint.model_endpoint.status_reason)):
        assert WHY in said
        assert ADVICE in said
        assert "its log" not in said
        assert any(each in said for each in HOW)
