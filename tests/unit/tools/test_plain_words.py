"""The word list: what it finds, what it lets pass, and that what counts as clean is so."""

import pytest
from tools.plain_words import CHECKED, PHRASES, ROOT, files, findings


def phrases(text):
    return [(line, phrase) for line, phrase, _ in findings(text)]


def test_a_phrase_is_found_with_its_line_and_the_plain_form():
    assert list(findings("One.\nWaits So Often.\n")) == [(2, "So Often", PHRASES["so often"])]


def test_a_phrase_across_a_line_break_of_a_comment_is_found():
    assert phrases("x = 1\n# the job goes\n# on after a restart\n") == [(2, "goes on")]


def test_only_whole_words_are_found():
    assert phrases("He cargoes on, is nobody, is no-op.") == []


@pytest.mark.parametrize(
    "fine",
    [
        "There is no lock.",
        "it is no longer served",
        "is no more than a comparison",
        "it can be told apart",
        "the name is so long that it is cut",
    ],
)
def test_plain_uses_of_the_same_words_pass(fine):
    assert phrases(fine) == []


def test_folders_are_searched_for_python_and_markdown(tmp_path):
    for name in ("a.py", "b.md", "c.txt"):
        (tmp_path / name).touch()
    assert [file.name for file in files([tmp_path])] == ["a.py", "b.md"]


def test_what_counts_as_clean_exists():
    assert all((ROOT / name).exists() for name in CHECKED)
