"""Folders of code with what is no file, and with patterns that mean nothing."""

import os
import signal

import pytest

from openlaunch.client.packing.folders import Choice, files_below


@pytest.fixture
def alarm():
    def give_up(*_):
        raise AssertionError("a pipe is read")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(5)  # what opens a pipe can't be ended otherwise
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("alarm")
def test_pipes_in_a_folder_are_not_read(tmp_path):
    os.mkfifo(tmp_path / ".gitignore")
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "model.py").touch()
    assert list(files_below(tmp_path, Choice())) == [tmp_path / "model.py"]


def test_a_range_that_is_none_matches_nothing(tmp_path):
    (tmp_path / ".gitignore").write_text("[z-a].py\nleft.py\n")
    for name in ("a.py", "left.py"):
        (tmp_path / name).touch()
    found = {path.name for path in files_below(tmp_path, Choice(exclude=("[9-0]",)))}
    assert found == {".gitignore", "a.py"}
