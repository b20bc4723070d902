"""The sandbox of builds and of workers' parents, of root and of an ordinary user, with real processes. Linux only."""

import json
import os
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path

import pytest
from without_namespaces import forbid_user_namespaces

from openlaunch.engines.sandbox import USER, Sandboxes, make_folder

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there are sandboxes on Linux only")

ORDINARY = 4242
SECONDS = 60


class Place:
    """A server's data directory with a secret, and the folder of a sandbox below it."""

    def __init__(self, root: Path, user: str) -> None:
        self.root = root
        self.uid = ORDINARY if user == "ordinary" else 0
        self.sandboxes = Sandboxes(hidden=(str(root),), required=True)
        (root / "secret").write_text("a secret")
        (root / "seen").mkdir()
        (root / "seen" / "file").write_text("to be seen")
        self.folder = make_folder(root / "own")
        for path in (root, *root.rglob("*")) if self.uid else ():
            os.chown(path, self.uid, self.uid)

    def start(self, script: str, before=lambda: None, sandboxes=None, **options) -> "Started":
        """Start a shell script in the sandbox, from a process of the user that the server would have."""
        options = {"readable": [self.root / "seen"], **options}
        command = (sandboxes or self.sandboxes).command(["/bin/sh", "-c", script], self.folder, **options)
        order = json.loads(command[-1])
        if self.uid:
            # The Python of the tests may be out of this user's reach, so that the launcher is called in a fork.
            order["user"] = 0
        out, into = os.pipe()
        if (pid := os.fork()) == 0:
            from openlaunch_worker import kernel, sandbox

            try:
                for target in (1, 2):
                    os.dup2(into, target)
                if self.uid:
                    kernel.become(self.uid, self.uid, [])
                before()
                sys.stderr = os.fdopen(2, "w", closefd=False)
                sys.argv = ["sandbox", json.dumps(order)]
                os._exit(sandbox.main())
            finally:
                os._exit(99)
        os.close(into)
        return Started(pid, out)

    def run(self, script: str, **options) -> str:
        """What a script prints in the sandbox."""
        started = self.start(script, **options)
        with os.fdopen(started.out) as file:
            text = file.read()
        started.wait()
        return text


class Started:
    """A launcher, and what its command prints."""

    def __init__(self, pid: int, out: int) -> None:
        self.pid = pid
        self.out = out

    def wait(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.fixture(params=["root", "ordinary"])
def place(request):
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    with tempfile.TemporaryDirectory() as folder:
        yield Place(Path(folder), request.param)


def test_nothing_of_the_server_is_seen_but_what_is_named(place):
    root = place.root
    assert place.run(f"ls {root}; cat {root}/secret 2>&1; cat {root}/seen/file").splitlines() == [
        "own",
        "seen",
        f"cat: {root}/secret: No such file or directory",
        "to be seen",
    ]


@pytest.mark.parametrize("where", ["{root}", "{root}/seen", "/usr", "/etc", "/var", "/dev", "/run", "/srv"])
def test_nothing_can_be_written_to_but_what_is_its_own(place, where):
    where = where.format(root=place.root)
    assert "Read-only file system" in place.run(f"echo mine > {where}/mine 2>&1")
    assert not (Path(where) / "mine").exists()


@pytest.mark.parametrize("where", ["/tmp", "/var/tmp", tempfile.gettempdir(), "$HOME", "/dev/shm", "."])
def test_its_temporary_folders_and_home_are_its_own(place, where):
    assert place.run(f"echo mine > {where}/mine-of-a-sandbox && cat {where}/mine-of-a-sandbox") == "mine\n"
    assert not (Path(os.path.expandvars(where)) / "mine-of-a-sandbox").exists()


def test_a_folder_that_is_named_can_be_written_to(place):
    (place.root / "shared").mkdir()
    (place.root / "shared").chmod(0o777)
    place.run(f"echo mine > {place.root}/shared/mine", writable=[place.root / "shared"])
    assert (place.root / "shared" / "mine").read_text() == "mine\n"


def test_files_can_be_moved_from_folder_to_folder(place):
    assert place.run("mkdir a b && echo moved > a/file && ln a/file b/file && cat b/file") == "moved\n"


def test_what_is_hidden_stays_so_in_a_folder_that_can_be_written_to(place):
    said = place.run(
        f"cat {place.root}/secret 2>&1; cat {place.root}/seen/file", writable=[place.root.parent]
    )
    assert said == f"cat: {place.root}/secret: No such file or directory\nto be seen"


def test_no_socket_of_the_system_is_seen(place):
    assert place.run("ls /run") == ""


def test_it_has_no_rights(place):
    uid = place.uid or USER
    said = place.run("id -u; grep -E 'Cap(Prm|Eff|Bnd)|NoNewPrivs' /proc/self/status").split()
    assert said == [
        str(uid),
        "CapPrm:",
        "0" * 16,
        "CapEff:",
        "0" * 16,
        "CapBnd:",
        "0" * 16,
        "NoNewPrivs:",
        "1",
    ]


def test_it_sees_no_processes_but_its_own(place):
    assert place.run("cd /proc; echo [0-9]*").split() == ["1", "2"]


def test_it_inherits_no_descriptor(place):
    with (place.root / "secret").open() as secret:
        os.set_inheritable(secret.fileno(), True)
        os.dup2(secret.fileno(), 200)
        try:
            assert place.run("ls /proc/$$/fd").split() == ["0", "1", "2"]
        finally:
            os.close(200)


@pytest.mark.parametrize("left_open", [3, 5])
def test_its_channel_is_no_standard_input(place, left_open):
    def before():
        os.dup2(os.pipe()[0], 0)
        os.closerange(left_open, 256)

    script = "readlink /proc/$$/fd/0; ls /proc/$$/fd"
    assert place.run(script, before=before, channel=True).split() == ["/dev/null", *"0123"]


def test_its_exit_code_is_passed_on(place):
    started = place.start("exit 7")
    assert started.wait() == 7
    os.close(started.out)


def test_what_it_leaves_behind_ends_with_it(place):
    began = time.monotonic()
    place.run(
        "setsid sleep 600 & setsid sh -c 'setsid sleep 601 & exit' & sleep 0.1"
    )  # until all let go of the pipe
    assert time.monotonic() - began < SECONDS


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_ends_with_its_launcher(place, number):
    started = place.start("setsid sleep 600 & echo up; sleep 600")
    with os.fdopen(started.out) as file:
        assert file.readline() == "up\n"
        os.kill(started.pid, number)
        started.wait()
        assert file.read() == ""


def test_what_the_kernel_refuses_is_said_where_it_is_required(place):
    started = place.start("echo started", forbid_user_namespaces)
    with os.fdopen(started.out) as file:
        said = file.read()
    assert started.wait() == 125
    assert "isolation is required" in said
    assert "allow this user to make user namespaces" in said
    assert "started" not in said


def test_who_waits_at_the_channel_hears_why_it_is_not_started(place):
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def before():
        os.dup2(theirs.fileno(), 0)
        forbid_user_namespaces()

    with ours:
        started = place.start("echo started", before, channel=True)
        theirs.close()
        assert "isolation is required" in json.loads(ours.recv(4096))["refused"]
        assert ours.recv(4096) == b""
        assert started.wait() == 125
        os.close(started.out)


def test_what_the_kernel_refuses_is_left_out_where_it_is_not_required(place):
    sandboxes = Sandboxes(hidden=(str(place.root),))
    said = place.run("setsid sleep 600 & echo started", before=forbid_user_namespaces, sandboxes=sandboxes)
    assert "not isolated as it could be" in said
    assert said.endswith("started\n")


def test_where_the_kernel_refuses_it_has_no_rights_and_no_descriptors_all_the_same(place):
    with (place.root / "secret").open() as secret:
        os.set_inheritable(secret.fileno(), True)
        os.dup2(secret.fileno(), 200)
        try:
            said = place.run(
                "echo said; id -u; grep -E 'Cap(Prm|Eff|Amb)|NoNewPrivs' /proc/self/status; ls /proc/$$/fd",
                before=forbid_user_namespaces,
                sandboxes=Sandboxes(hidden=(str(place.root),)),
            )
        finally:
            os.close(200)
    nothing = "0" * 16
    rights = ["CapPrm:", nothing, "CapEff:", nothing, "CapAmb:", nothing, "NoNewPrivs:", "1"]
    assert said[said.index("said\n") :].split() == ["said", str(place.uid or USER), *rights, "0", "1", "2"]
