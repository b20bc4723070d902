"""What `endpoints logs --follow` takes for new."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openlaunch.cli import follow
from openlaunch.cli.follow import Follower, new_lines


@pytest.mark.parametrize(
    ("before", "now", "new"),
    [
        ([], ["a", "b"], ["a", "b"]),
        (["a", "b"], ["a", "b"], []),
        (["a", "b"], ["a", "b", "c"], ["c"]),
        (["a", "b"], ["b", "c"], ["c"]),
        (["a", "b"], ["x", "y"], ["x", "y"]),
        (["a", "hal"], ["a", "half a line", "b"], ["half a line", "b"]),
        (["a", "b"], [], []),
        (["a", "b", "c"], ["c"], []),
    ],
)
def test_new_lines_are_those_after_what_was_seen(before, now, new):
    assert new_lines(before, now) == new


@given(st.lists(st.text("ab", min_size=1)), st.lists(st.text("ab", min_size=1)))
def test_lines_added_to_a_whole_log_are_all_new_ones(before, added):
    grown_last_line = bool(before) and bool(added) and added[0].startswith(before[-1])
    if not grown_last_line:
        assert new_lines(before, before + added) == added


def test_each_worker_is_compared_with_its_own_lines():
    follower = Follower(by_worker=True)
    assert list(follower.feed("w1 one\nw2 two\n")) == ["w1 one", "w2 two"]
    assert list(follower.feed("w2 two\nw1 one\nw1 three\n")) == ["w1 three"]


def test_a_worker_that_was_out_of_sight_is_not_shown_again():
    follower = Follower(by_worker=True)
    list(follower.feed("w1 one\nw2 two\n"))
    list(follower.feed("w2 two\nw2 busy\n"))
    assert list(follower.feed("w1 one\nw1 back\n")) == ["w1 back"]


def test_a_log_without_workers_is_one_log():
    follower = Follower(by_worker=False)
    list(follower.feed("building\nbuilding on\n"))
    assert list(follower.feed("building\nbuilding on\nready\n")) == ["ready"]


def test_what_is_remembered_has_a_bound(monkeypatch):
    monkeypatch.setattr(follow, "MAX_WORKERS", 2)
    follower = Follower(by_worker=True)
    for worker in ("w1", "w2", "w3"):
        list(follower.feed(f"{worker} one\n"))
    assert list(follower.feed("w3 one\n")) == []
    assert list(follower.feed("w1 one\n")) == ["w1 one"]
