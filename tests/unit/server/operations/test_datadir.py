"""The data directory: its lock and its secrets."""

import json
import os
import stat
import subprocess
import sys

import pytest

from openlaunch.errors import ConfigurationError
from openlaunch.server.operations.datadir import DataDir
from openlaunch.server.operations.own_keys import SECRET_BYTES

HOLD = """
import os, sys
from pathlib import Path
from openlaunch.server.operations.datadir import DataDir
with DataDir(Path(sys.argv[1])).locked():
    print("locked", flush=True)
    sys.stdin.read()
"""


def mode(path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_link_to_the_directory_is_followed_once(tmp_path):
    """Isolated workers do not see the place of the link, as in the home folder."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk")
    assert DataDir(tmp_path / "link").workers == tmp_path / "disk" / "workers"


@pytest.fixture
def data(tmp_path):
    return DataDir(tmp_path / "data")


class TestLock:
    def test_makes_the_directory_for_this_user_alone(self, data):
        with data.locked():
            assert mode(data.root) == 0o700
            assert data.artifacts.is_dir()
            assert (data.root / "lock").read_text() == str(os.getpid())

    def test_a_second_server_is_refused_with_the_pid_of_the_first(self, data):
        with data.locked(), pytest.raises(ConfigurationError, match=f"process {os.getpid()}"), data.locked():
            pass

    def test_the_second_one_changes_nothing(self, data):
        with data.locked():
            folder = data.workers / "w1"
            folder.mkdir()
            with pytest.raises(ConfigurationError), data.locked():
                pass
            assert folder.is_dir()
            assert (data.root / "lock").read_text() == str(os.getpid())

    def test_is_free_again_afterwards(self, data):
        for _ in range(2):
            with data.locked():
                pass

    def test_is_free_again_when_the_server_was_killed(self, data):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(data.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        with process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"locked\n"
            with pytest.raises(ConfigurationError, match=f"process {process.pid}"), data.locked():
                pass
            process.kill()
            process.wait(10)
        with data.locked():
            assert (data.root / "lock").read_text() == str(os.getpid())

    def test_what_workers_of_a_killed_server_left_is_removed(self, data):
        (data.workers / "w1" / "deep").mkdir(parents=True)
        (data.workers / "w1" / "file").write_text("x")
        with data.locked():
            assert list(data.workers.iterdir()) == []

    def test_a_directory_that_can_not_be_made_is_named(self, tmp_path):
        (tmp_path / "file").write_text("x")
        with (
            pytest.raises(ConfigurationError, match="can't be used: Not a directory; name another"),
            DataDir(tmp_path / "file" / "data").locked(),
        ):
            pass


class TestSecrets:
    def test_credentials_are_for_this_user_alone(self, data):
        with data.locked():
            data.write_credentials("http://127.0.0.1:1", "ol_key")
        assert mode(data.credentials) == 0o600
        assert json.loads(data.credentials.read_text()) == {"url": "http://127.0.0.1:1", "api_key": "ol_key"}
        assert data.read_api_key() == "ol_key"

    def test_credentials_are_replaced_whole(self, data):
        with data.locked():
            data.write_credentials("http://127.0.0.1:1", "ol_" + "x" * 100)
            data.credentials.with_name("credentials.json.new").write_text("left by a crash")
            data.write_credentials("http://127.0.0.1:2", "ol_y")
        assert data.read_api_key() == "ol_y"
        assert not data.credentials.with_name("credentials.json.new").exists()

    @pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"api_key": 7}', "7"])
    def test_credentials_that_can_not_be_read_hold_no_key(self, data, text):
        data.root.mkdir()
        data.credentials.write_text(text)
        assert data.read_api_key() is None

    def test_no_credentials_hold_no_key(self, data):
        assert data.read_api_key() is None

    def test_the_key_of_signed_urls_outlives_a_restart(self, data):
        with data.locked():
            secret = data.keys.url_secret()
        assert len(secret) == SECRET_BYTES
        assert mode(data.root / "url-secret") == 0o600
        assert DataDir(data.root).keys.url_secret() == secret
