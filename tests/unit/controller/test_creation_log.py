"""The log of an endpoint's creation: bounded, private, whole lines."""

import stat

import pytest

from openlaunch.controller import creation_log
from openlaunch.controller.creation_log import CreationLogs


@pytest.fixture
def logs(tmp_path):
    return CreationLogs(tmp_path / "logs")


def test_lines_are_added(logs):
    logs.begin("end_1", "generation 1")
    logs.add("end_1", "building\n")
    logs.add("end_1", "two\nlines")
    assert logs.read("end_1") == "generation 1\nbuilding\ntwo\nlines\n"


def test_a_new_generation_begins_anew(logs):
    logs.begin("end_1", "generation 1")
    logs.begin("end_1", "generation 2")
    assert logs.read("end_1") == "generation 2\n"


def test_there_is_none_of_an_endpoint_that_is_not_known(logs):
    assert logs.read("end_2") == ""


def test_is_for_this_user_alone(logs, tmp_path):
    logs.begin("end_1", "generation 1")
    folder = tmp_path / "logs" / "end_1"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "creation.log").stat().st_mode) == 0o600


def test_the_oldest_goes_when_it_is_full(logs, monkeypatch):
    monkeypatch.setattr(creation_log, "MAX_BYTES", 1000)
    for n in range(1000):
        logs.add("end_1", f"line {n}")
    text = logs.read("end_1")
    assert len(text) <= 1000
    assert text.endswith("line 998\nline 999\n")


def test_text_that_is_no_utf8_does_no_harm(logs):
    logs.add("end_1", "odd \udcff")
    assert logs.read("end_1") == "odd ?\n"


def test_a_log_that_can_not_be_written_stops_nobody(tmp_path):
    (tmp_path / "logs").write_text("a file where the folder should be")
    logs = CreationLogs(tmp_path / "logs")
    logs.begin("end_1", "generation 1")
    logs.add("end_1", "a line")
