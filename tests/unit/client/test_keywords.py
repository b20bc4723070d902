"""Keywords that several operations take."""

import pytest

from openlaunch.client.operations.keywords import ImageKeywords, given

IMAGE = {"repository": "me/model", "tag": "1"}


def test_what_is_none_is_left_out():
    assert given(ImageKeywords, {**IMAGE, "env": None, "metadata": {}}) == {**IMAGE, "metadata": {}}


def test_an_unknown_keyword_is_refused_with_the_known_ones():
    with pytest.raises(TypeError, match=r"the keyword tags is unknown; the keywords are: request_schema"):
        given(ImageKeywords, {**IMAGE, "tags": "1"})


def test_a_missing_keyword_is_named():
    with pytest.raises(TypeError, match="the keyword tag is missing"):
        given(ImageKeywords, {"repository": "me/model"})
