"""The end of a log file."""

import pytest

from openlaunch.log_files import tail


@pytest.mark.parametrize(
    ("limit", "text"),
    [(0, ""), (3, ""), (4, "two\n"), (7, "two\n"), (8, "one\ntwo\n"), (99, "one\ntwo\n")],
)
def test_gives_whole_lines(tmp_path, limit, text):
    path = tmp_path / "log"
    path.write_text("one\ntwo\n")
    assert tail(path, limit) == text


def test_of_a_line_that_is_too_long_its_end(tmp_path):
    path = tmp_path / "log"
    path.write_text("x" * 100 + "end")
    assert tail(path, 5) == "xxend"


def test_of_no_file_nothing(tmp_path):
    assert tail(tmp_path / "missing", 10) == ""
