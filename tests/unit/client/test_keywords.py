"""Keywords that several operations take."""

import pytest

from openlaunch.client.operations.keywords import ImageKeywords, given

IMAGE = {"repository": "me/model", "tag": "1"}


def test_what_is_none_is_left_out():
    assert given(ImageKeywords, {**IMAGE, "env": None, "metadata": {}}) == {**IMAGE, "metadata": {}}


def test_an_unknown_keyword_is_refused_with_the_known_ones():
    with pytest.raises(TypeError, match=r"the keyword size is unknown; the keywords are: request_schema"):
        given(ImageKeywords, {**IMAGE, "size": "1"})


def test_a_keyword_that_is_like_another_is_taken_for_a_slip():
    with pytest.raises(TypeError, match=r"the keyword tags is unknown; did you mean tag\?"):
        given(ImageKeywords, {**IMAGE, "tags": "1"})


def test_a_missing_keyword_is_named():
    with pytest.raises(TypeError, match="the keyword tag is missing"):
        given(ImageKeywords, {"repository": "me/model"})
