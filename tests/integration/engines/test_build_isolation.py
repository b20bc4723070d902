"""A build runs an owner's code. What it can't reach, whoever the server runs as. Linux only."""

import json
import os
import signal
import sys
import tempfile
from pathlib import Path

import pytest
from hostile_package import serving
from server_driver import SMALL, args, eventually
from server_users import MODES, USERS, running_as

from openlaunch import LaunchClient
from openlaunch.errors import EndpointFailed

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="builds are isolated on Linux only"),
]

LEFT_BEHIND = "3600.4711"
"""What a process that a build leaves behind sleeps: nothing else has this in its command line."""

SCRIPT = """
import os, pathlib, subprocess

DATA, HOME, SERVER = {data!r}, {home!r}, {pid}

def attempt(function, *given):
    try:
        return function(*given)
    except OSError as error:
        return type(error).__name__

def names(path):
    return sorted(each.name for each in pathlib.Path(path).iterdir())

def run():
    quiet = {{"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}}  # else uv waits for its end
    subprocess.Popen(["sleep", "{left}"], start_new_session=True, **quiet)
    config = pathlib.Path(HOME, ".config", "uv")
    attempt(lambda: config.mkdir(parents=True))
    return {{
        "data": attempt(names, DATA),
        "environments": len(attempt(names, DATA + "/environments")),
        "caches": len(attempt(names, DATA + "/uv-cache")),
        "secrets": [attempt(len, attempt(names, DATA)) and attempt(pathlib.Path(DATA, name).read_bytes)
                    for name in ("credentials.json", "openlaunch.db", "url-secret")],
        "signal": attempt(os.kill, SERVER, 0),
        "uv.toml": attempt((config / "uv.toml").write_text, "offline = true"),
        "tmp": attempt(pathlib.Path("/tmp/of-a-build").write_text, "mine"),
        "runtime": attempt(names, DATA + "/runtime"),
        "uid": os.getuid(),
        "descriptors": [name for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{{name}}")],
        "variables": [name for name in os.environ if name.startswith("OPENLAUNCH")],
    }}
"""


@pytest.fixture(scope="module", params=[(user, mode) for user in USERS for mode in MODES], ids="-".join)
def server(request):
    user, mode = request.param
    with running_as(user, openlaunch_isolation=mode) as (client, home):
        client.home = home
        yield client


def script_for(client, script=SCRIPT):
    return script.format(
        data=str(client.server.data_dir), home=str(client.home), pid=client.server.pid, left=LEFT_BEHIND
    )


def found():
    import hostile

    return hostile.FOUND


@pytest.fixture(scope="module")
def seen(server):
    """What a build of one owner saw, while there is an environment of another owner."""
    other = server.create_api_key("grace").api_key
    with (
        serving("def run(): return 'nothing'") as requirement,
        LaunchClient(other, server.server.url) as client,
    ):
        client.deploy(found, name="is-other", requirements=[requirement], **SMALL)
    with serving(script_for(server)) as requirement:
        endpoint = server.deploy(found, name="is-seen", requirements=[requirement], **SMALL)
        return json.loads(endpoint.predict(args()).value)


def test_it_sees_of_the_data_directory_its_environment_and_its_cache(server, seen):
    assert seen["data"] == ["environments", "uv-cache"]
    assert (seen["environments"], seen["caches"]) == (1, 1)
    assert len(list((server.server.data_dir / "uv-cache").iterdir())) > 1


def test_it_can_not_read_what_is_the_servers(seen):
    assert seen["secrets"] == ["FileNotFoundError"] * 3
    assert seen["variables"] == []


def test_it_can_not_signal_the_server(seen):
    assert seen["signal"] == "ProcessLookupError"


def test_its_temporary_folder_and_home_are_its_own(server, seen):
    assert (seen["tmp"], seen["uv.toml"]) == (4, 14)
    assert not Path("/tmp/of-a-build").exists()
    assert list(server.home.iterdir()) == [server.server.data_dir]


def test_it_is_no_root(server, seen):
    assert seen["uid"] not in (0, None)


def test_it_inherits_no_descriptor(seen):
    assert set(seen["descriptors"]) <= {"0", "1", "2"}


def test_what_it_left_behind_has_ended(seen):
    assert sleeping() == []


def sleeping() -> list[int]:
    """The processes that builds have left behind."""
    left = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if LEFT_BEHIND.encode() in path.read_bytes().split(b"\0"):
                left.append(int(path.parent.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return left


def test_a_build_ends_with_a_killed_server():
    slow = f"import subprocess\ndef run(): subprocess.run(['sleep', '{LEFT_BEHIND}'], start_new_session=True)"
    with running_as("root") as (client, _), serving(slow) as requirement:
        client.deploy(found, name="is-slow", requirements=[requirement], wait=False, **SMALL)
        eventually(sleeping)
        os.kill(client.server.pid, signal.SIGKILL)
        eventually(lambda: not sleeping(), 10)


def test_a_requirement_that_is_a_file_out_of_reach_is_not_found(server):
    data = server.server.data_dir
    for path in (data / "credentials.json", data / "artifacts", server.home / "own.tar.gz"):
        with pytest.raises(EndpointFailed, match=r"not found|not appear to be|supported file extension"):
            server.deploy(found, name="is-file", requirements=[f"own @ file://{path}"], **SMALL)


def test_the_administrators_configuration_is_used_and_can_not_be_changed(monkeypatch):
    script = "import os\ndef run(): return os.access(os.environ['UV_CONFIG_FILE'], os.W_OK)"
    with tempfile.TemporaryDirectory() as folder, serving(script) as requirement:
        Path(folder).chmod(0o755)
        config = Path(folder) / "uv.toml"
        config.write_text('no-build-package = ["forbidden"]')
        config.chmod(0o666)
        monkeypatch.setenv("UV_CONFIG_FILE", str(config))
        with running_as("root", openlaunch_isolation="required") as (client, _):
            endpoint = client.deploy(found, name="is-configured", requirements=[requirement], **SMALL)
            assert endpoint.predict(args()).value == "false"
            forbidden = requirement.replace("hostile @", "forbidden @")
            with pytest.raises(EndpointFailed, match="disabled"):
                client.deploy(found, name="is-forbidden", requirements=[forbidden], **SMALL)


SWAP = """
import json, os, pathlib

def run():
    folder = next(pathlib.Path({data!r}, "environments").iterdir())
    for own in (folder / "scratch").iterdir():
        for name in ("tmp", "home"):
            try:
                (own / name).rename(own / (name + "-before"))
                (own / name).symlink_to({data!r})
            except OSError:
                pass
    python = folder / "venv" / "bin" / "python"
    python.unlink()
    look = "ls /tmp ~; cat /tmp/url-secret ~/url-secret"
    python.write_text(f"#!/bin/sh\\n{{{{ {{look}}; }}}} > {{folder}}/venv/seen 2>&1")
    python.chmod(0o755)
"""


def test_a_program_of_a_build_can_not_lend_the_next_one_what_it_could_not_see(server):
    data = server.server.data_dir
    with serving(SWAP.format(data=str(data))) as requirement:
        server.deploy(
            found, name="is-swapped", requirements=[requirement], min_workers=0, wait=False, **SMALL
        )
        said = eventually(lambda: [path.read_text() for path in data.glob("environments/*/venv/seen")])
    assert (data / "url-secret").read_text() not in said[0]
    assert "openlaunch.db" not in said[0]


LINKS = """
import os, pathlib

def run():
    venv = next(pathlib.Path({data!r}, "environments").iterdir()) / "venv"
    tried = []
    for path in (venv.parent / "build.log", venv.parent / "openlaunch.json", venv / "build.log",
                 venv / "openlaunch.json", venv / "lib/python3.{minor}/site-packages/openlaunch_runtime.pth"):
        try:
            path.symlink_to({data!r} + "/credentials.json")
            tried.append("linked")
        except OSError as error:
            tried.append(type(error).__name__)
    return tried
"""


def test_the_server_follows_no_link_that_a_build_makes(server):
    data = server.server.data_dir
    before = (data / "credentials.json").read_text()
    script = LINKS.format(data=str(data), minor=sys.version_info.minor)
    with serving(script) as requirement:
        tried = (
            server.deploy(found, name="is-linked", requirements=[requirement], **SMALL).predict(args()).value
        )
        server.deploy(found, name="is-linked-again", requirements=[requirement], **SMALL)
    assert json.loads(tried) == ["OSError", "OSError", "linked", "linked", "linked"]
    assert server.server.api_key not in server.read_endpoint_creation_logs("is-linked-again")
    assert (data / "credentials.json").read_text() == before
