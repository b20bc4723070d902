"""`openlaunch top` as a command of its own, in a terminal of 80 columns and 24 lines."""

import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time

import pytest
from agents import agents, settings_of
from server_driver import SMALL, args, eventually, running

LONG = "a-name-that-is-as-long-as-a-name-of-an-endpoint-may-be-here-063"
CONTROL = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")


def work(how=""):
    if how == "raise":
        raise LookupError("no such row")
    return how


def load():
    raise RuntimeError("no weights \x1b[2J here")


@pytest.fixture(scope="module")
def client():
    with running() as client:
        fine = client.deploy(work, name=LONG, **SMALL)
        client.deploy(work, name="fails", **SMALL)
        client.deploy(work, name="broken", load_model_fn=load, wait=False, **SMALL)
        eventually(lambda: client.get_model_endpoint("broken").model_endpoint.status == "UPDATE_FAILED")
        fine.predict(args())
        yield client


def command_of(client, key=None):
    environment = {"OPENLAUNCH_URL": client.server.url, "OPENLAUNCH_API_KEY": key or client.server.api_key}
    return {
        "args": [sys.executable, "-m", "openlaunch.cli", "top"],
        "env": {**os.environ, **environment, "TERM": "xterm-256color"},
    }


@pytest.fixture
def command(client):
    client.get_model_endpoint("fails").predict(args(how="raise"))
    eventually(lambda: client.list_metrics()[0].failure_rate > 0)
    return command_of(client)


class Terminal:
    """The command in a terminal of its own, of which `shown` has all that was written."""

    def __init__(self, command, *options, size=(24, 80)):
        self.parent, child = pty.openpty()
        fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
        self.modes = termios.tcgetattr(child)
        self.child = child
        arguments = [*command["args"], *options]
        self.process = subprocess.Popen(
            arguments, env=command["env"], stdin=child, stdout=child, stderr=child, start_new_session=True
        )
        self.shown = b""

    def read_until(self, *texts, seconds=60):
        """Read until all texts were shown after what was shown before; return that as lines."""
        begin, deadline = len(self.shown), time.monotonic() + seconds
        while time.monotonic() < deadline:
            if select.select([self.parent], [], [], 0.2)[0]:
                self.shown += os.read(self.parent, 65536)
            lines = CONTROL.sub(b"", self.shown[begin:]).decode(errors="replace").splitlines()
            if all(any(text in line for line in lines) for text in texts):
                return lines
        raise AssertionError(f"{texts} were not shown: {self.shown[begin:]!r}")

    def press(self, key):
        os.write(self.parent, key)

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.parent)
        os.close(self.child)


@pytest.fixture
def terminal(command):
    opened = []

    def open_with(*options, **given):
        opened.append(Terminal(command, *options, **given))
        return opened[-1]

    yield open_with
    for each in opened:
        each.close()


def test_it_shows_what_is_wrong_first_and_ends_by_q(terminal):
    screen = terminal()
    lines = screen.read_until("fails", "broken", "ago: the update failed: ", "q ends this")
    assert all(len(line) <= 80 for line in lines)
    names = [line.split()[0] for line in lines if line.strip()]
    assert names.index("fails") < names.index("broken")
    assert next(at for at, line in enumerate(lines) if line.startswith(LONG[:10])) > names.index("broken")
    assert any(name.startswith(LONG[:10]) and name.endswith(LONG[-3:]) for name in names)
    assert b"\x1b[2J here" not in screen.shown
    screen.press(b"\x1b[A")  # an arrow ends nothing
    screen.read_until("q ends this")
    assert screen.process.poll() is None
    screen.press(b"q")
    assert screen.process.wait(30) == 0
    assert termios.tcgetattr(screen.child) == screen.modes
    assert b"\x1b[?1049l" in screen.shown + os.read(screen.parent, 65536), "the screen is as it was"


def test_it_fits_a_low_terminal_and_is_drawn_anew_in_a_higher_one(terminal):
    screen = terminal("--interval", "0.5", size=(6, 80))
    assert not [line for line in screen.read_until("more, with less trouble") if line.startswith(LONG[:10])]
    fcntl.ioctl(screen.child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    screen.read_until(LONG[:10])


@pytest.mark.slow
def test_an_admin_sees_the_nodes_and_others_do_not():
    with agents(1) as started, running(**settings_of(started)) as client:
        eventually(lambda: [each.state.value for each in client.list_nodes()] == ["ready"])
        admin = Terminal(command_of(client))
        other = Terminal(command_of(client, client.create_api_key("ada").api_key))
        try:
            lines = admin.read_until("FREE MEMORY", started[0].address)
            assert max(map(len, lines)) <= 80
            assert not [line for line in other.read_until("q ends this") if "FREE" in line]
            started[0].kill()
            admin.read_until(" away ")
        finally:
            admin.close()
            other.close()


def test_a_piped_snapshot_is_plain_and_ends(command, client):
    done = subprocess.run(**command, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)
    head, *rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert head[:4] == ["NAME", "STATUS", "RATE/S", "FAIL/S"]
    assert [row[0] for row in rows] == ["fails", "broken", LONG]
    assert re.match(r"\d+ (s|min) ago: the update failed: .*no weights", rows[1][-1])
    assert "\x1b" not in done.stdout


def test_once_prints_one_snapshot_on_a_terminal_and_json_is_json(terminal, command):
    screen = terminal("--once")
    screen.read_until("fails")
    assert screen.process.wait(30) == 0
    assert b"\x1b[?1049h" not in screen.shown
    arguments = {**command, "args": [*command["args"], "--json"]}
    done = subprocess.run(**arguments, capture_output=True, text=True, check=True)
    assert [each["name"] for each in json.loads(done.stdout)] == ["fails", "broken", LONG]


def test_all_that_was_counted_of_an_endpoint_is_shown(command):
    arguments = [*command["args"][:-1], "endpoints", "numbers", "fails"]
    done = subprocess.run(arguments, env=command["env"], capture_output=True, text=True, check=True)
    shown = dict(re.split(r"  +", line, maxsplit=1) for line in done.stdout.splitlines())
    assert re.search(r"model_error=[1-9]", shown["ended"])
    assert re.fullmatch(r"1, mean \S+ s, p50 \S+ s, p99 \S+ s", shown["load"])
    assert "batches" not in shown


def test_a_server_that_is_not_there_is_named_as_by_other_commands(terminal, command):
    command["env"]["OPENLAUNCH_URL"] = "http://127.0.0.1:9"
    screen = terminal()
    lines = screen.read_until("http://127.0.0.1:9")
    assert screen.process.wait(30) == 5
    assert "openlaunch serve" in " ".join(lines)
    assert b"no endpoints" not in screen.shown
    assert b"\x1b[?1049h" not in screen.shown
