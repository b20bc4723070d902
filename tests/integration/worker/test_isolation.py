"""What an owner's code can reach, tried by a server of root and of an ordinary user. Linux only.

Both ways of isolation do the same where the kernel allows all of it, as here. What is missing elsewhere is tried with
the sandbox itself, in `engines/test_sandbox.py`.
"""

import json
import os
import signal
import sys
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

import pytest
from hostile_owner import MIB, REFUSED, Cell, attempt, memory_is_bounded, processes_of, used_too_much
from hostile_package import PROJECT
from http_service import http_service
from server_driver import SMALL, args, eventually, running
from server_users import MODES, USERS, running_as

from openlaunch.errors import WorkerDied

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="workers are isolated on Linux only"),
]


@pytest.fixture(scope="module", params=[(user, how) for user in USERS for how in MODES], ids="-".join)
def cell(request) -> Iterator[Cell]:
    user, how = request.param
    with running_as(user, openlaunch_isolation=how) as (client, _):
        found = Cell(client)
        yield found
        for each in (found.mallory, found.victim):
            each.close()


def test_of_the_data_directory_a_worker_sees_only_what_it_needs(cell):
    seen = cell.attack(f"sorted(os.listdir({str(cell.data)!r}))")
    assert seen == ["caches", "environments", "runtime", "uv-cache", "workers"]
    assert cell.attack(f"len(os.listdir({str(cell.data / 'caches')!r}))") == 1
    assert cell.attack(f"os.listdir({str(cell.data / 'uv-cache')!r})") == []
    assert cell.attack(f"len(os.listdir({str(cell.data / 'workers')!r}))") == 1
    assert cell.attack("len(os.listdir(pathlib.Path.cwd().parents[1]))") == 1
    assert cell.attack(f"len(os.listdir({str(cell.data / 'environments')!r}))") == 1


@pytest.mark.parametrize("file", ["openlaunch.db", "credentials.json", "url-secret"])
def test_what_is_the_servers_can_not_be_read(cell, file):
    assert (cell.data / file).exists()
    assert cell.attack(f"open({str(cell.data / file)!r}).read()") == "FileNotFoundError"


@pytest.mark.parametrize(
    "path",
    [
        "openlaunch_worker.__file__",
        "sys.executable",
        "sys.prefix + '/lib/new.pth'",
        "sys.base_prefix + '/lib/new.py'",
        "os.environ['DATA'] + '/new'",
        "'/etc/new'",
        "'/var/new'",
        "'/dev/new'",
        "'/run/new'",
    ],
)
def test_nothing_that_others_run_or_read_can_be_written_to(cell, path):
    code = path.replace("os.environ['DATA']", repr(str(cell.data)))
    assert cell.attack(f"open({code}, 'a').write('mine')") in REFUSED
    assert cell.attack(f"os.rename({code}, 'mine')") in REFUSED
    assert cell.attack(f"os.symlink('/', {code} + '.link')") in REFUSED


def test_the_servers_socket_can_not_be_replaced(cell):
    [address] = cell.attack("__import__('glob').glob(tempfile.gettempdir() + '/openlaunch-*/workers.sock')")
    assert cell.attack(f"os.rename({address!r}, {address!r} + '.old')") in REFUSED
    assert cell.attack(f"os.unlink({address!r})") in REFUSED
    assert cell.attack(f"os.rename(os.path.dirname({address!r}), '/tmp/other')") in REFUSED
    socket = Path(address)
    assert socket.stat().st_uid == socket.parent.stat().st_uid == cell.data.stat().st_uid


@pytest.mark.parametrize(
    "where", ["tempfile.gettempdir()", "'/tmp'", "'/var/tmp'", "os.path.expanduser('~')", "'/dev/shm'", "'.'"]
)
def test_folders_that_programs_share_are_each_workers_own(cell, where):
    assert cell.attack(f"pathlib.Path({where}, 'of-one-worker').write_text('mine')") == 4
    assert cell.other(f"os.path.exists(pathlib.Path({where}, 'of-one-worker'))") is False
    here = Path(eval(where, {"tempfile": __import__("tempfile"), "os": os}))
    assert not (here / "of-one-worker").exists()


def test_no_file_of_the_servers_home_is_seen(cell):
    assert set(cell.attack("os.listdir(os.path.expanduser('~'))")) <= {
        "of-one-worker",
        ".pyenv",
        ".local",
        ".openlaunch",  # the data directory, of which other tests see what is in it
    }


def test_no_other_process_is_seen_or_signalled(cell):
    assert len(cell.attack("[each for each in os.listdir('/proc') if each.isdigit()]")) == 2
    pid = cell.admin.server.pid
    assert cell.attack(f"os.kill({pid}, signal.SIGCONT)") == "ProcessLookupError"
    assert cell.attack(f"open('/proc/{pid}/environ').read()") == "FileNotFoundError"


def test_its_own_init_is_out_of_reach(cell):
    assert cell.attack("open('/proc/1/mem', 'rb').read(1)") == "PermissionError"
    assert cell.attack("open('/proc/1/environ').read()") == "PermissionError"
    assert cell.attack("os.listdir('/proc/1/root')") == "PermissionError"


def test_no_descriptor_but_its_own_connection_is_open(cell):
    sockets = (
        "[each for each in os.listdir('/proc/self/fd') if 'socket' in"
        " (os.readlink('/proc/self/fd/' + each) if os.path.lexists('/proc/self/fd/' + each) else '')]"
    )
    of_the_loop = 2  # by which it is woken up
    assert len(cell.attack(sockets)) <= 1 + of_the_loop


def test_it_is_not_root_and_has_no_powers(cell):
    assert cell.attack("os.geteuid()") not in (0, None)
    assert "CapEff:\t0000000000000000" in cell.attack("open('/proc/self/status').read()")
    assert cell.attack("os.setuid(0)") in REFUSED


@pytest.mark.parametrize(
    "way", ["ctypes.CDLL(None).umount2({}, 2)", "subprocess.call(['unshare', '-Urm', 'umount', '-l', {}])"]
)
def test_what_is_covered_can_not_be_uncovered(cell, way):
    assert cell.attack(way.format(repr(os.fsencode(cell.data)))) != 0
    assert "openlaunch.db" not in cell.attack(f"os.listdir({str(cell.data)!r})")


def test_it_makes_no_namespaces(cell):
    """In one of its own it could mount memory that nobody counts, and reach much more of the kernel."""
    new_users = 0x10000000
    assert cell.attack(f"ctypes.CDLL(None).unshare({new_users})") == -1
    assert cell.attack("subprocess.call(['unshare', '-Ur', 'true'])") != 0
    assert "1" in cell.other("subprocess.check_output(['echo', '1'], text=True)")


def test_what_is_read_only_can_not_be_made_writable(cell):
    remount = f"['unshare', '-Urm', 'mount', '-o', 'remount,bind,rw', {str(cell.data)!r}]"
    assert cell.attack(f"subprocess.call({remount})") != 0


def test_what_a_worker_leaves_behind_ends_with_it(cell):
    mark = f"left behind in {cell.data}"
    code = f"import time; time.sleep(600)  # {mark}"
    leave = f"subprocess.Popen([sys.executable, '-c', {code!r}], start_new_session=True)"
    run = cell.deploy(cell.mallory, "leaves")
    assert run(f"{leave} and 1") == 1
    eventually(lambda: processes_of(mark))
    cell.mallory.delete_model_endpoint("leaves")
    eventually(lambda: processes_of(mark) == [])


# Code of a requirement runs in the build, and its `.pth` files in the parent of workers.

LOOK = """\
import json, os, sys
seen = {{}}
for path in ({data!r} + "/credentials.json", {data!r} + "/openlaunch.db", "/proc/{pid}/environ"):
    try:
        seen[path] = len(open(path, "rb").read())
    except OSError as error:
        seen[path] = type(error).__name__
for path in ({data!r} + "/mine", {data!r} + "/runtime/mine", "/etc/mine"):
    try:
        seen[path] = open(path, "w").write("mine")
    except OSError as error:
        seen[path] = type(error).__name__
seen["uid"] = os.getuid()
print("LOOKED", json.dumps(seen), flush=True)
"""

BACKEND = """
import sys
try:
    exec(open("look.py").read())
finally:
    sys.stdout.flush()
def build_wheel(directory, settings=None, metadata=None):
    import zipfile, os, contextlib, io
    name = "hostile-1.0-py3-none-any.whl"
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(open("look.py").read(), {})
    with zipfile.ZipFile(os.path.join(directory, name), "w") as file:
        file.writestr("hostile_build.py", "SEEN = " + repr(said.getvalue()))
        file.writestr("hostile.pth", "import builtins; exec(" + repr(open("look.py").read()) + ")\\n")
        info = "hostile-1.0.dist-info/"
        file.writestr(info + "METADATA", "Metadata-Version: 2.1\\nName: hostile\\nVersion: 1.0\\n")
        file.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        file.writestr(info + "RECORD", "")
    return name
"""


@pytest.fixture
def package(cell, tmp_path) -> Iterator[str]:
    """The URL of a source distribution that looks around when it is built, and whenever its environment is used."""
    look = LOOK.format(data=str(cell.data), pid=cell.admin.server.pid)
    with zipfile.ZipFile(tmp_path / "hostile-1.0.zip", "w") as file:
        for name, text in {"pyproject.toml": PROJECT, "backend.py": BACKEND, "look.py": look}.items():
            file.writestr(f"hostile-1.0/{name}", text)
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http_service(handler) as http:
        yield f"http://127.0.0.1:{http.server_port}/hostile-1.0.zip"


def test_code_of_a_requirement_reaches_nothing_of_the_server(cell, package):
    run = cell.deploy(cell.mallory, "hostile", requirements=[f"hostile @ {package}"])
    logs = cell.mallory.read_endpoint_logs("hostile")
    built = run("__import__('hostile_build').SEEN")
    for said in (built, logs):
        for line in said.splitlines():
            if "LOOKED" in line:
                seen = json.loads(line.partition("LOOKED ")[2])
                assert seen.pop("uid") != 0
                assert set(map(type, seen.values())) == {str}, seen
    assert "LOOKED" in built


# Bounds of what one worker uses.


def test_memory_is_bounded(cell):
    memory_is_bounded(cell)


def test_shared_memory_is_bounded(cell):
    fill = "m = __import__('mmap').mmap(-1, 600 << 20); [m.write(bytes(1 << 20)) for _ in range(600)]"
    code = f"exec({fill!r}, names := {{}}) or __import__('time').sleep(600) or names"
    used_too_much(cell, "shared", code, "MiB of memory; `memory` allows")
    limit = 64 * MIB + 512 * MIB  # of the folder alone
    assert 0 < cell.attack("os.statvfs('/dev/shm').f_blocks * os.statvfs('/dev/shm').f_frsize") < limit


FILES_IN_MEMORY = {
    "shm": (
        "[pathlib.Path('/dev/shm', str(n)).write_bytes(bytes(1 << 20)) for n in range(250)],"
        " bytearray(b'x') * (200 << 20)"
    ),
    "memfd": "[os.write(file, bytes(1 << 20)) for file in [os.memfd_create('x')] for _ in range(600)]",
}


@pytest.mark.parametrize("name", FILES_IN_MEMORY)
def test_files_in_memory_are_bounded_though_no_process_has_mapped_them(cell, name):
    code = f"({FILES_IN_MEMORY[name]}, __import__('time').sleep(600))"
    used_too_much(cell, name, code, "MiB of memory; `memory` allows")


def test_processes_are_bounded(cell):
    assert cell.attack("len(os.sched_getaffinity(0)) > 0") is True
    assert cell.attack("__import__('resource').getrlimit(__import__('resource').RLIMIT_NPROC)") == [
        1024,
        1024,
    ]


def test_a_model_that_does_not_fit_says_what_to_do():
    def load():
        return bytearray(600 * 2**20)

    with (
        running(isolation="required") as server,
        pytest.raises(Exception, match=r"the worker may use \d+ MiB: give the endpoint more `memory`"),
    ):
        server.deploy(
            lambda model, x: x, name="large", load_model_fn=load, min_workers=1, cpus=0.1, memory="64Mi"
        )


def test_nothing_is_isolated_where_that_is_off():
    with running(isolation="off", limit_memory=False) as client:
        endpoint = client.deploy(attempt, name="attempt", min_workers=1, cpus=0.1, memory="64Mi")
        code = f"os.listdir({str(client.server.data_dir)!r})"
        assert "openlaunch.db" in endpoint.predict(args(code=code)).value
        assert endpoint.predict(args(code=f"len(bytearray({500 * MIB}))")).value == 500 * MIB


@pytest.mark.parametrize("user", USERS)
def test_the_disk_of_a_worker_is_bounded(user):
    fill = "[pathlib.Path(tempfile.mkdtemp(), 'large').write_bytes(bytes(2 << 20)) for _ in range(10)]"
    with running_as(user, openlaunch_worker_disk_bytes=10 * MIB) as (client, _):
        endpoint = client.deploy(attempt, name="attempt", min_workers=1, **SMALL)
        with pytest.raises(WorkerDied, match="signal 9"):
            endpoint.predict(args(code=f"{fill} and __import__('time').sleep(600)"))
        assert "more of the disk than is allowed" in client.read_endpoint_logs("attempt")


@pytest.mark.parametrize("user", USERS)
def test_a_server_stops_though_a_model_has_left_a_process_behind(user):
    leave = "subprocess.Popen(['sleep', '600'], start_new_session=True, close_fds=False) and 1"
    with running_as(user, openlaunch_isolation="required") as (client, _):
        endpoint = client.deploy(attempt, name="attempt", min_workers=1, **SMALL)
        assert endpoint.predict(args(code=leave)).value == 1
        os.kill(client.server.pid, signal.SIGTERM)
        client.server._process.wait(40)
