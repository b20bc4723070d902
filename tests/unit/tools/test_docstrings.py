"""The check of how docstrings begin."""

import pytest
from tools.docstrings import continuations, findings, is_imperative


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


@pytest.mark.parametrize("begins", ["The same", "Of", "Those", "Its", "By which", "As whom"])
def test_a_docstring_that_continues_another_is_found_wherever_it_stands(begins):
    source = f'''
MOST = 1
"""{begins} of something."""

class Kept:
    """{begins} of something."""

    def __init__(self):
        self.size = 0
        """{begins} of something."""
'''
    assert list(continuations(source)) == [(3, begins), (6, begins), (10, begins)]


@pytest.mark.parametrize("text", ["Offers of an owner.", "Limit on those.", "The samest.", "Byte by byte."])
def test_a_docstring_that_stands_alone_is_not_found(text):
    assert list(continuations(f'MOST = 1\n"""{text}"""')) == []
