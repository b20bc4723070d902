"""The installed command, as a user runs it."""

import json
import os
import pty
import signal
import stat
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

COMMAND = str(Path(sys.executable).with_name("openlaunch"))
MODEL = """
import time

def double(x: int):
    print("doubling", x, flush=True)
    return 2 * x

def slow(seconds: float):
    time.sleep(seconds)
    return seconds

def tokens(n: int, seconds: float = 0):
    for number in range(n):
        time.sleep(seconds)
        yield f"token-{number}"
"""


def environ(**more):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OPENLAUNCH_", "LAUNCH_"))}
    return {**kept, **more}


@contextmanager
def started(*arguments, **options):
    """The command as a process, ended at the end whatever happens."""
    process = subprocess.Popen(
        [COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server's data directory, with the model in a folder beside it."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "model.py").write_text(MODEL)
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [COMMAND, "serve", "--port", "0", "--data-dir", str(folder / "data")],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environ(),
        )
        try:
            assert process.stdout.readline().startswith("ready http://127.0.0.1:")
            yield folder
        finally:
            process.terminate()
            out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, ""), (folder / "log").read_text()


@pytest.fixture
def where(server):
    """How the command is run beside that server."""
    return {"cwd": server, "env": environ(OPENLAUNCH_DATA_DIR=str(server / "data"))}


def run(where, *arguments, **options):
    return subprocess.run(
        [COMMAND, *arguments], capture_output=True, text=True, timeout=60, **{**where, **options}
    )


@pytest.fixture(scope="module")
def deployed(server):
    """The module's functions as endpoints."""
    where = {"cwd": server, "env": environ(OPENLAUNCH_DATA_DIR=str(server / "data"))}
    for name, kind in (("double", "sync"), ("slow", "async"), ("tokens", "streaming")):
        small = ("--cpus", "0.1", "--memory", "64Mi")
        done = run(where, "deploy", f"model:{name}", "--type", kind, *small)
        assert (done.returncode, done.stdout) == (0, f"{name} is READY ({kind})\n"), done.stderr


def test_the_line_that_deploy_prints_can_be_run(where, deployed):
    said = run(where, "deploy", "model:double", "--cpus", "0.1", "--memory", "64Mi").stderr.splitlines()[-1]
    line = said.removeprefix("try it: openlaunch ")
    sent = subprocess.run(f"'{COMMAND}' {line}", shell=True, capture_output=True, text=True, **where)
    assert (sent.returncode, sent.stdout) == (0, "2\n")


def test_args_come_from_standard_input(where, deployed):
    sent = run(where, "tasks", "send", "double", "--args-file", "-", input='{"x": 21}')
    assert (sent.returncode, sent.stdout, sent.stderr) == (0, "42\n", "")


def test_items_of_a_stream_are_printed_as_they_arrive(where, deployed):
    arguments = ("tasks", "send", "tokens", "--args", '{"n": 3, "seconds": 1}', "--json")
    with started(*arguments, **where) as process:
        assert json.loads(process.stdout.readline()) == "token-0"
        assert process.poll() is None


def test_the_credentials_file_is_for_its_owner_alone(server):
    path = server / "data" / "credentials.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert set(json.loads(path.read_text())) == {"url", "api_key"}


def test_a_second_server_on_the_same_data_directory_is_refused(where, server):
    second = run(where, "serve", "--port", "0", "--data-dir", str(server / "data"))
    assert (second.returncode, second.stdout) == (2, "")
    assert second.stderr.splitlines()[-1].startswith("error: ")
    assert str(server / "data") in second.stderr


@pytest.mark.parametrize(
    ("arguments", "variables", "said"),
    [
        (("--port", "99999"), {}, "error: --port is 99999: "),
        ((), {"OPENLAUNCH_DRAIN_SECONDS": "-1"}, "error: OPENLAUNCH_DRAIN_SECONDS is '-1': "),
        ((), {"OPENLAUNCH_API_KEY": "tooshort"}, "error: OPENLAUNCH_API_KEY has "),
        (("--host", "203.0.113.1", "--port", "0"), {}, "error: can't listen on 203.0.113.1:0"),
    ],
)
def test_a_setting_that_is_not_allowed_is_named(tmp_path, arguments, variables, said):
    where = {"cwd": tmp_path, "env": environ(OPENLAUNCH_DATA_DIR=str(tmp_path), **variables)}
    done = run(where, "serve", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert "tooshort" not in done.stderr


def test_without_a_server_the_error_says_what_to_do(tmp_path):
    done = run({"env": environ(OPENLAUNCH_DATA_DIR=str(tmp_path))}, "endpoints", "list")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--server URL --api-key KEY" in done.stderr
    assert "openlaunch login" in done.stderr


def test_a_server_that_can_not_be_reached_exits_5(tmp_path):
    where = {"env": environ()}
    done = run(where, "--url", "http://127.0.0.1:1", "--api-key", "key", "endpoints", "list")
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr.startswith("error: ")


def test_ctrl_c_while_waiting_says_how_to_go_on_and_the_task_goes_on(where, deployed):
    with started("tasks", "send", "slow", "--args", '{"seconds": 4}', **where) as process:
        task_id = started_task(where)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (130, "")
    assert (
        err
        == f"interrupted; the work continues, and this shows it: openlaunch tasks get {task_id} --wait 60\n"
    )
    assert run(where, "tasks", "get", task_id, "--wait", "30").stdout == "4\n"


@pytest.mark.parametrize("module", ["openlaunch.cli.app", "openlaunch.errors", "typer"])
def test_ctrl_c_before_the_command_has_begun_is_130_without_a_traceback(module):
    program = f"""
import os, signal, sys
class Interrupts:
    def find_spec(self, name, *rest):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupts())
from openlaunch.cli import main
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", program, "llm", "list"], capture_output=True, text=True, env=environ()
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def started_task(where):
    """The id of the task that is running, once there is one."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        listed = run(where, "tasks", "list", "--endpoint", "slow", "--status", "STARTED", "--json")
        if tasks := json.loads(listed.stdout)["tasks"]:
            return tasks[0]["task_id"]
    raise AssertionError("no task was started")


def test_logs_are_followed_until_ctrl_c(where, deployed):
    run(where, "tasks", "send", "double", "--args", '{"x": 1001}')
    with started("endpoints", "logs", "double", "--follow", **where) as process:
        read_until(process.stdout, "doubling 1001")
        run(where, "tasks", "send", "double", "--args", '{"x": 1002}')
        assert read_until(process.stdout, "doubling 1002") == 1  # nothing is shown twice
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (130, "", "")


def read_until(lines, text):
    """How many lines come up to the one that has the text."""
    for number, line in enumerate(lines, start=1):
        if text in line:
            return number
    raise AssertionError(f"{text!r} did not come")


def test_on_a_terminal_progress_is_shown_and_no_color_is_kept_to(where, deployed):
    parent, child = pty.openpty()
    with os.fdopen(parent, "rb", buffering=0) as screen:
        env = {**where["env"], "TERM": "xterm-256color", "NO_COLOR": "1"}
        with os.fdopen(child, "wb") as terminal:
            arguments = ("tasks", "send", "slow", "--args", '{"seconds": 1.5}')
            process = subprocess.Popen(
                [COMMAND, *arguments], stdout=subprocess.PIPE, stderr=terminal, cwd=where["cwd"], env=env
            )
            out, _ = process.communicate(timeout=60)
        shown = drained(screen)
    assert (process.returncode, out) == (0, b"1.5\n")
    assert b"waiting for task" in shown
    assert b"\x1b[32m" not in shown


def drained(screen):
    """All that was written to a terminal whose other end is closed."""
    shown = b""
    while True:
        try:
            piece = screen.read(65536)
        except OSError:  # Linux's way to say that nobody can write there any more
            return shown
        if not piece:
            return shown
        shown += piece


def test_version_and_help_load_neither_the_client_nor_the_server():
    look = """
import sys
from openlaunch.cli.app import run
code = run([%r])
heavy = ("openlaunch.client", "openlaunch.wire.endpoints", "openlaunch.server", "httpx2", "fastapi", "rich.table")
loaded = [name for name in sys.modules if name.startswith(heavy)]
sys.exit(f"{code} {loaded}" if code or loaded else 0)
"""
    for argument in ("version", "--help"):
        done = subprocess.run([sys.executable, "-c", look % argument], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
