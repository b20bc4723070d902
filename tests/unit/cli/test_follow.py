"""What `endpoints logs --follow` takes for new."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openlaunch.cli.endpoint_logs import new_lines


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
