"""The check of how docstrings begin."""

import pytest
from tools.docstrings import findings, is_imperative


@pytest.mark.parametrize("word", ["Return", "Pass", "Create,", "Warn:", "POST", "Feed"])
def test_a_verb_is_imperative(word):
    assert is_imperative(word)


@pytest.mark.parametrize("word", ["Returns", "Closing", "Called", "The", "Whether", "`today`", "32"])
def test_another_word_is_not(word):
    assert not is_imperative(word)


def test_the_line_of_a_docstring_is_found_in_nested_functions_too():
    source = '''
"""The module."""

class Thing:
    """A thing."""

    @property
    def name(self):
        """The name."""

    def look(self):
        """Look."""

        async def inner():
            """Looks inside."""
'''
    assert list(findings(source)) == [(15, "Looks")]
