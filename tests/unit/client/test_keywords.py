"""Keywords that several operations take."""

import pytest

from openlaunch.client.models import checked
from openlaunch.client.operations.keywords import ImageKeywords, given
from openlaunch.errors import Unprocessable
from openlaunch.wire.bundles import CreateModelBundleRequest
from openlaunch.wire.endpoints import CreateModelEndpointRequest
from openlaunch.wire.keys import CreateKeyRequest

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


@pytest.mark.parametrize(
    ("model", "field", "name", "said"),
    [
        (CreateModelEndpointRequest, "name", "My endpoint!", "letters, digits and . _ -, at most 63"),
        (CreateModelBundleRequest, "name", "", "letters, digits and . _ -, at most 128"),
        (CreateKeyRequest, "owner", "a b", "letters, digits and . _ @ -, at most 64"),
    ],
)
def test_a_name_that_is_not_allowed_is_answered_in_words(model, field, name, said):
    with pytest.raises(Unprocessable) as caught:
        checked(model, {field: name})
    assert said in str(caught.value)
    assert "pattern" not in str(caught.value)
