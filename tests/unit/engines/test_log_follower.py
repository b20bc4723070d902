"""What a follower gives of logs that grow, are shortened, come and go."""

import pytest

from openlaunch.engines import log_follower
from openlaunch.engines.documents import LogPart
from openlaunch.engines.log_follower import CUT, FileFollower
from openlaunch.engines.worker_logs import WorkerLogs


@pytest.fixture
def logs(tmp_path):
    return WorkerLogs(tmp_path)


@pytest.fixture
def follower(logs):
    return FileFollower(logs, "end")


def told(lines):
    return [(line.worker, line.line) for line in lines]


def write(logs, worker, text):
    with logs.path("end", worker).open("a") as file:
        file.write(text)


def test_it_begins_with_the_last_lines(logs, follower):
    write(logs, "w1", "".join(f"line {n}\n" for n in range(100)))
    assert told(follower.read_end(LogPart(24))) == [("w1", "line 98"), ("w1", "line 99")]
    assert follower.read_new() == []


def test_it_goes_on_with_what_comes_from_old_and_new_workers(logs, follower):
    write(logs, "w1", "old\n")
    follower.read_end(LogPart(1))
    write(logs, "w1", "one\n")
    write(logs, "w2", "two\n")
    assert sorted(told(follower.read_new())) == [("w1", "one"), ("w2", "two")]


def test_a_line_is_given_once_it_is_whole(logs, follower):
    follower.read_end(LogPart(1))
    write(logs, "w1", "hal")
    assert follower.read_new() == []
    write(logs, "w1", "f a line\n")
    assert told(follower.read_new()) == [("w1", "half a line")]


def test_a_line_without_an_end_is_given_in_pieces(logs, follower, monkeypatch):
    monkeypatch.setattr(log_follower, "MAX_LINE_BYTES", 10)
    follower.read_end(LogPart(1))
    write(logs, "w1", "x" * 25)
    assert told(follower.read_new()) == [("w1", "x" * 25)]


def test_one_poll_is_bounded_and_the_rest_is_not_lost(logs, follower, monkeypatch):
    monkeypatch.setattr(log_follower, "MAX_POLL_BYTES", 8)
    follower.read_end(LogPart(1))
    write(logs, "w1", "one\ntwo\nthree\n")
    assert told(follower.read_new()) == [("w1", "one"), ("w1", "two")]
    assert told(follower.read_new()) == [("w1", "three")]


def test_a_log_that_was_shortened_says_so_and_goes_on(logs, follower, monkeypatch):
    monkeypatch.setattr(log_follower, "MAX_WORKER_BYTES", 8)
    write(logs, "w1", "0123456789\n")
    follower.read_end(LogPart(1))
    logs.path("end", "w1").write_text("789\nnew\n")
    assert told(follower.read_new()) == [("w1", CUT), ("w1", "new")]


def test_logs_that_are_gone_give_nothing_more(logs, follower):
    write(logs, "w1", "one\n")
    logs.remove("end")
    assert follower.read_new() == []


def test_it_begins_with_a_whole_line(logs, follower):
    write(logs, "w1", "first line\nsecond line\n")
    assert told(follower.read_end(LogPart(20))) == [("w1", "second line")]


def test_lines_have_the_times_at_which_they_were_written(logs, follower):
    write(logs, "w1", "2026-05-04T09:01:00.000Z old\n2026-05-04T09:02:00.000Z half of")
    (old,) = follower.read_end(LogPart(100))
    assert (old.line, old.at) == ("old", "2026-05-04T09:01:00.000Z")
    write(logs, "w1", " it\nmore\n")
    half, more = follower.read_new()
    assert (half.line, half.at) == ("half of it", "2026-05-04T09:02:00.000Z")
    assert (more.line, more.at) == ("more", half.at)


STAMP = "2026-01-02T03:04:05.678Z "


def test_a_progress_bar_is_one_line_with_its_last_state_read_and_followed(logs, follower, monkeypatch):
    monkeypatch.setattr(log_follower, "MAX_LINE_BYTES", 100)
    follower.read_end(LogPart(1))
    followed = []
    for step in range(200):
        write(logs, "w1", f"{STAMP if step == 0 else ''}\r{step}/200")
        followed += follower.read_new()
    write(logs, "w1", f"\r\n{STAMP}one\u2028line\r\n{STAMP}after\n")
    followed += follower.read_new()
    assert told(followed) == [("w1", "199/200"), ("w1", "one\u2028line"), ("w1", "after")]
    assert logs.read("end", LogPart(10_000)) == followed
    assert {line.at for line in followed} == {STAMP.strip()}
